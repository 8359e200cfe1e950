"""What the scenarios share: calls that are counted, and how long they took."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest

from healthlb import Failover
from healthlb.core.load import Subchannel
from healthlb.core.pickers import CallInfo
from tests.backends import Backend
from tests.backends.clients import PATIENCE
from tests.parity.face import Asked, CallInFlight, Client, Face, steering
from tests.parity.fleet import addresses

ANY = Failover(idempotent=True)
REQUESTS = (b"a", b"b", b"c")


class Call:
    """One call that servers count.

    Args:
        client: makes it.
        wanted: steers it.
    """

    def __init__(self, client: Client, **wanted: Any) -> None:
        """Make nothing yet."""
        self.id = uuid.uuid4().hex
        self._client = client
        self._wanted = {"id": self.id, **wanted}

    def begin(self, arity: str = "unary_unary", timeout: float | None = PATIENCE, **fields: Any) -> CallInFlight:
        """Begin it."""
        return self._client.begin(arity, Asked(timeout=timeout, metadata=steering(self._wanted), **fields))

    def make(self, timeout: float | None = PATIENCE, **fields: Any) -> str:
        """Make it, in the form that blocks or is awaited at once, and return who answered."""
        return self._client.unary(Asked(timeout=timeout, metadata=steering(self._wanted), **fields)).decode()

    def executions(self, *backends: Backend) -> list[int]:
        """Return how often each backend has executed it."""
        return [backend.executed_ids().get(self.id, 0) for backend in backends]


def outcome(ongoing: CallInFlight, arity: str) -> bytes:
    """Return the one response, or the first of all that come."""
    return ongoing.drain()[0] if arity.endswith("stream") else ongoing.result()


def failure(run: Callable[[], Any]) -> Any:
    """Return the RpcError that `run` must raise."""
    with pytest.raises(grpc.RpcError) as caught:
        run()
    return caught.value


def seconds(run: Callable[[], Any]) -> float:
    """Return how long it took."""
    began_at = time.monotonic()
    run()
    return time.monotonic() - began_at


class InOrder:
    """A picker that takes the first of the list that the call has not tried, or the very first."""

    needs_call = False

    def build(self, ready: Sequence[Subchannel]) -> InOrder:
        """Return the picker."""
        picker = InOrder()
        picker.ready = tuple(ready)
        return picker

    ready: tuple[Subchannel, ...] = ()

    def pick(self, call: CallInfo) -> Subchannel | None:
        """See the class."""
        untried = [sub for sub in self.ready if sub.id not in call.exclude]
        return next(iter(untried or self.ready), None)


def ready(face: Face, backends: Sequence[Backend], failover: Failover | None = ANY, **arguments: Any) -> Client:
    """Return a client with all of these READY, which calls the first of them first."""
    return face.ready(addresses(backends), failover=failover, picker=InOrder, **arguments)
