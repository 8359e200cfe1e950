"""What a scenario is written against: blocking methods that both faces of healthlb, and plain grpcio, are put behind.

One rule: an adapter waits and translates, no more; what it calls is what a user would call.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import grpc

from healthlb import SubchannelStatus
from healthlb.core.messages import Fact, StateChange
from tests.backends.clients import PATIENCE, eventually

METHODS = {
    "unary_unary": "/test.Echo/Unary",
    "unary_stream": "/test.Echo/ServerStream",
    "stream_unary": "/test.Echo/ClientStream",
    "stream_stream": "/test.Echo/Bidi",
}
ARITIES = tuple(METHODS)


class Cancelled(Exception):
    """The call was cancelled by its caller: grpcio has another exception for it in each face."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call, as a scenario wants it.

    Attributes:
        timeout: seconds, or None.
        wait_for_ready: as in grpcio.
        requests: what a stream of requests sends by itself; None leaves it to `CallInFlight.write`.
        metadata: pairs that go with it; anything, so that what is no metadata can be tried.
        serializer: of the requests.
        deserializer: of the responses.
    """

    timeout: float | None = PATIENCE
    wait_for_ready: bool | None = None
    requests: Sequence[bytes] | None = (b"a", b"b")
    metadata: Any = ()
    serializer: Callable[[Any], bytes] | None = None
    deserializer: Callable[[bytes], Any] | None = None


def steering(wanted: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the metadata that steers a call of /test.Echo."""
    return tuple((f"x-{key}", str(value)) for key, value in wanted.items())


def becomes(found: Callable[[], Any], wanted: Any) -> None:
    """Wait until what is found is what is wanted; fail with both where it never is."""
    try:
        eventually(lambda: bool(found() == wanted))
    except AssertionError:
        assert found() == wanted
        raise


class Facts:
    """A listener that keeps what it hears. Facts come after the states they tell of, so tests wait for them."""

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.seen: list[Fact] = []

    def __call__(self, fact: Fact) -> None:
        """Hear one."""
        self.seen.append(fact)

    def of(self, *kinds: type) -> list[Any]:
        """Return the facts of these kinds, in order."""
        return [fact for fact in tuple(self.seen) if isinstance(fact, kinds)]

    def states(self, address: str) -> list[tuple[str, str]]:
        """Return the states one subchannel has come to, each with its reason."""
        return [(fact.new.name, fact.reason) for fact in self.of(StateChange) if fact.address == address]


class CallInFlight(ABC):
    """A call that was begun and does not block."""

    arity: str

    @abstractmethod
    def read(self) -> bytes | None:
        """Return the next response of a stream, None at its end; raises grpc.RpcError or Cancelled."""

    @abstractmethod
    def write(self, request: bytes) -> None:
        """Send a request of a call that was begun with `requests=None`."""

    @abstractmethod
    def finish(self) -> None:
        """Send no more requests."""

    @abstractmethod
    def result(self) -> bytes:
        """Return the one response; raises grpc.RpcError or Cancelled."""

    @abstractmethod
    def cancel(self) -> bool:
        """Cancel it."""

    @abstractmethod
    def is_over(self) -> bool:
        """Whether it has ended."""

    @abstractmethod
    def code(self) -> grpc.StatusCode:
        """Return how it ended; waits."""

    @abstractmethod
    def details(self) -> str:
        """Return the text that it ended with; waits."""

    @abstractmethod
    def trailing(self) -> dict[str, str]:
        """Return its trailing metadata; waits."""

    @abstractmethod
    def drop(self) -> None:
        """Forget it, as a user does who loses interest."""

    def end(self) -> grpc.StatusCode:
        """Read all there is and return how it ended."""
        with contextlib.suppress(grpc.RpcError, Cancelled):
            self.take()
        return self.code()

    def take(self) -> list[bytes]:
        """Return the response, or all of a stream; raises as `read` and `result` do."""
        return self.drain() if self.arity.endswith("stream") else [self.result()]

    def drain(self) -> list[bytes]:
        """Return all responses of a stream."""
        responses = []
        while (response := self.read()) is not None:
            responses.append(response)
        return responses


class Client(ABC):
    """A channel: healthlb's or, for comparison, grpcio's.

    Attributes:
        channel: the channel itself.
        facts: what healthlb told of it since it was made.
    """

    def __init__(self, channel: Any, facts: Facts) -> None:
        """Wrap a channel."""
        self.channel = channel
        self.facts = facts

    @abstractmethod
    def unary(self, asked: Asked) -> bytes:
        """Make a unary call, in the form that blocks (or is awaited) at once."""

    @abstractmethod
    def begin(self, arity: str, asked: Asked) -> CallInFlight:
        """Begin a call of any arity."""

    @abstractmethod
    def run(self, function: Callable[[], Any]) -> Any:
        """Return what `function` gives, called where the channel lives and awaited where it can be."""

    @abstractmethod
    def fire(self, asked: Asked, done: Callable[[float, bytes | None, grpc.RpcError | None], None]) -> None:
        """Have a unary call made soon, without waiting; `done` hears when it began and how it ended."""

    def call(self, timeout: float | None = PATIENCE, wait_for_ready: bool | None = None, **wanted: Any) -> str:
        """Return the name of the backend that answers a unary call steered by `wanted`."""
        asked = Asked(timeout=timeout, wait_for_ready=wait_for_ready, metadata=steering(wanted))
        return self.unary(asked).decode()

    def start(self, arity: str = "unary_unary", **wanted: Any) -> CallInFlight:
        """Begin a call steered by `wanted`; `Asked`'s own fields go by their names."""
        fields = {key: wanted.pop(key) for key in tuple(wanted) if key in Asked.__slots__}
        return self.begin(arity, Asked(**{"metadata": steering(wanted), **fields}))

    def wait_until_ready(self, min_ready: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until so many subchannels are READY."""
        self.run(lambda: self.channel.wait_until_ready(timeout, min_ready))

    def subchannels(self) -> tuple[SubchannelStatus, ...]:
        """Return what the channel says of its subchannels."""
        statuses: tuple[SubchannelStatus, ...] = self.run(self.channel.subchannels)
        return statuses

    def subchannel(self, address: str) -> SubchannelStatus:
        """Return what the channel says of one."""
        return next(status for status in self.subchannels() if status.address == address)

    def states(self) -> list[str]:
        """Return the state of each subchannel, in the resolver's order."""
        return [status.state.name for status in self.subchannels()]

    def wait_for_states(self, *wanted: str) -> None:
        """Wait until the subchannels are in these states; R and T will do for READY and TRANSIENT_FAILURE."""
        names = [{"R": "READY", "T": "TRANSIENT_FAILURE"}.get(name, name) for name in wanted]
        becomes(self.states, names)

    def wait_for_reason(self, address: str, wanted: str) -> None:
        """Wait until this is why a subchannel is in its state."""
        becomes(lambda: self.subchannel(address).reason, wanted)

    def state(self) -> str:
        """Return the aggregated state."""
        return str(self.run(self.channel.state).name)

    def close(self) -> None:
        """Close the channel."""
        self.run(self.channel.close)


class Face(ABC):
    """Makes clients, and closes those that are left at the end."""

    name: ClassVar[str]

    def __init__(self) -> None:
        """Begin with none."""
        self._clients: list[Client] = []

    def open(self, target: Any, service: str | None = "svc", **arguments: Any) -> Client:
        """Return a client of a healthlb channel, which does not connect yet."""
        facts = Facts()
        listeners = (facts, *arguments.pop("listeners", ()))
        client = self._wrap(self.channel_type(target, service, listeners=listeners, **arguments), facts)
        self._clients.append(client)
        return client

    def ready(self, target: Any, service: str | None = "svc", min_ready: int | None = None, **arguments: Any) -> Client:
        """Return a client with `min_ready` subchannels READY; None is all of a list."""
        client = self.open(target, service, **arguments)
        client.wait_until_ready(len(target) if min_ready is None else min_ready)
        return client

    def native(self, addresses: Sequence[str], service: str | None = "svc", **arguments: Any) -> Client:
        """Return a client of grpcio's own round_robin, with its health checking unless `service` is None."""
        config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
        if service is not None:
            config["healthCheckConfig"] = {"serviceName": service}
        options = [
            ("grpc.service_config", json.dumps(config)),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            *arguments.items(),
        ]
        client = self._wrap(self._plain("ipv4:" + ",".join(addresses), options), Facts())
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close every client, and see that nothing is left of them."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    @property
    @abstractmethod
    def channel_type(self) -> Any:
        """This face's HealthAwareChannel."""

    @abstractmethod
    def _plain(self, target: str, options: Sequence[tuple[str, Any]]) -> Any: ...

    @abstractmethod
    def _wrap(self, channel: Any, facts: Facts) -> Client: ...
