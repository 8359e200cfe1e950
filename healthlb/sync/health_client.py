"""The sync health client: asks servers for their health by `grpc.health.v1`, over a channel of any kind.

What watches is imported at its first use: `healthlb probe` only asks once.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import grpc
import grpc.aio

from healthlb._lazy import lazy
from healthlb.control.health_messages import CHECK, LIST
from healthlb.control.monkey_patching import check_threads
from healthlb.core.states import ServingStatus
from healthlb.errors import ChannelClosed, NotServing
from healthlb.health_client.answer import HealthAnswer, answered, listed
from healthlb.health_client.target import CLOSED, HealthTarget, Metadata, checked_timeout, request_for
from healthlb.text import add_remedy

if TYPE_CHECKING:
    from healthlb.config import Backoff
    from healthlb.health_client.answer import HealthAdviser
    from healthlb.sync.grpcio import retell
    from healthlb.sync.health_watches import HealthWatch, WatchIterator, WatchSubscription, check_callback
    from healthlb.sync.worker import Worker
else:
    globals().update(
        lazy(
            {
                "healthlb.sync.grpcio": "retell",
                "healthlb.sync.health_watches": "WatchIterator WatchSubscription check_callback",
                "healthlb.sync.worker": "Worker",
            }
        )
    )

_WORKER = "healthlb-health-client"
_FACE = (grpc.Channel, grpc.aio.Channel, "healthlb.aio.HealthClient")


class ClientLink:
    """The channel of a client in one process, and what is under way on it.

    Args:
        target: whom the client asks.

    Attributes:
        channel: what was given, or opened.
        pid: of the process that it was opened in.
        metadata: goes with every call.
        backoff: between Watches.
        adviser: says what to do about first mistakes.
        subscriptions: the Watches that call back.
        iterators: weak references to those that are iterated over.

    Raises:
        ChannelUnusable: eventlet, gevent or another package has replaced threads.
    """

    channel: Any

    def __init__(self, target: HealthTarget) -> None:
        check_threads("a health client")
        self.pid: int = os.getpid()
        self.metadata: Metadata = target.metadata
        self.backoff: Backoff | None = target.backoff
        self.adviser: HealthAdviser = target.adviser
        self.subscriptions: set[WatchSubscription] = set()
        self.iterators: set[weakref.ref[WatchIterator]] = set()
        self.channel, self._is_own = target.connect(grpc)
        self.check: Any = self.channel.unary_unary(CHECK)
        self._workers: dict[str, Worker] = {}

    @property
    def worker(self) -> Worker:
        """Runs the callbacks."""
        # One wins, whichever thread is first; it starts no thread before it is held.
        return self._workers.get(_WORKER) or self._workers.setdefault(_WORKER, Worker(_WORKER))

    def close(self) -> None:
        """End all Watches, and close the channel where it is the client's own."""
        watches: list[HealthWatch | None] = [*self.subscriptions.copy(), *(ref() for ref in self.iterators.copy())]
        for watch in watches:
            if watch is not None:
                watch.close()
        if self._is_own:
            self.channel.close()


class HealthClient:
    """Asks a server for the health of its services (`grpc.health.v1`), and follows it.

    It needs no generated code, and may be used from any thread. To an address it opens a channel of its own at its
    first use, plaintext by default, which no proxy of the environment comes between on this machine; over a channel
    that it is given (grpcio's own, an intercepted one, a `HealthAwareChannel`) it makes calls like any other, and
    leaves it open. In a forked child an address is connected to anew.

    Args:
        target: an address as gRPC names targets, or a `grpc.Channel`.
        credentials: with an address: `grpc.ChannelCredentials`; None is plaintext.
        options: with an address: channel arguments; the reconnect backoff is 0.2 to 1 second unless they say otherwise.
        metadata: pairs that go with every call.
        backoff: a `Backoff` between Watches that are begun again, see `watch`; None is 0.2 s, growing to 2 s.

    Raises:
        ConfigError: a value is out of its bounds, or of a wrong type.
    """

    _wording: str = ""  # the client's own

    def __init__(
        self,
        target: str | grpc.Channel,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
        metadata: Sequence[tuple[str, str | bytes]] = (),
        backoff: Backoff | None = None,
    ) -> None:
        self._target = HealthTarget(
            target,
            credentials=credentials,
            options=options,
            metadata=metadata,
            backoff=backoff,
            face=_FACE,
            wording=self._wording,
        )
        self._links: dict[int, ClientLink] = {}
        self._is_closed = False

    def check(self, service: str = "", timeout: float | None = 5.0, *, require_serving: bool = False) -> ServingStatus:
        """Return the status of a service.

        Args:
            service: the name asked for; `""` is the whole server.
            timeout: seconds; None is no limit, 0 and less end the call at once.
            require_serving: whether any other status than SERVING is an error.

        Raises:
            NotServing: the status is required to be SERVING, and is not; it says what was answered, and by whom.
            grpc.RpcError: there was no answer; NOT_FOUND stands for a service that the server does not know.
            InvalidResponse: the answer is no HealthCheckResponse.
            ConfigError: an argument is out of its bounds.
            ChannelClosed: the client is closed.
        """
        answer = self.ask(service, timeout)
        if require_serving and answer.status is not ServingStatus.SERVING:
            raise NotServing(service, add_remedy(str(answer), answer.remedy), answer.address)
        return answer.status

    def ask(self, service: str = "", timeout: float | None = 5.0) -> HealthAnswer:
        """Return what a server answers, as `check` does, with the backend that has answered where that is known."""
        request = request_for(service)
        link = self._link()
        seconds = checked_timeout(timeout)
        link.adviser.about_to_block()
        try:
            message, call = link.check.with_call(request, timeout=seconds, metadata=link.metadata)
        except grpc.RpcError as error:
            retell(error, link.adviser, "Check", service)
            raise
        return answered(service, message, call, link.adviser)

    def list(self, timeout: float | None = 5.0) -> dict[str, ServingStatus]:
        """Return the status of every service that the server has, by name.

        Args:
            timeout: seconds, as in `check`.

        Raises:
            grpc.RpcError: there was no answer; UNIMPLEMENTED where the server has no `List`.
            InvalidResponse: the answer is no HealthListResponse.
            ConfigError: the timeout is no number.
            ChannelClosed: the client is closed.
        """
        link = self._link()
        seconds = checked_timeout(timeout)
        link.adviser.about_to_block()
        try:
            message = link.channel.unary_unary(LIST)(b"", timeout=seconds, metadata=link.metadata)
        except grpc.RpcError as error:
            retell(error, link.adviser, "List")
            raise
        return listed(message)

    @overload
    def watch(self, service: str = "", *, callback: None = None, follow: bool = False) -> WatchIterator: ...

    @overload
    def watch(
        self, service: str = "", *, callback: Callable[[ServingStatus], object], follow: bool = False
    ) -> WatchSubscription: ...

    def watch(
        self, service: str = "", *, callback: Callable[[ServingStatus], object] | None = None, follow: bool = False
    ) -> WatchIterator | WatchSubscription:
        """Return an iterator over the statuses of a service, or have a callback called with each.

        Equal statuses in a row are one. The object that is returned has `close()`, `is_closed` and `answer`, the last
        `HealthAnswer`.

        Args:
            service: the name asked for; `""` is the whole server.
            callback: takes the newest status, at most 100 a second, on one thread that all callbacks of this client
                share, whatever their number; what came before is passed over. What it raises is logged. A Watch that
                calls back goes on until it, the client or the channel is closed, whether or not it is kept.
            follow: whether a Watch that ends is begun again, with backoff, until it is closed. Where the next one ends
                without a word, UNKNOWN stands for that nothing is known, and `answer` says why.

        Raises:
            ConfigError: an argument is of a wrong type.
            ChannelClosed: the client is closed.
        """
        request = request_for(service)
        if callback is None:
            return WatchIterator(self._link(), service, request, follow=follow)
        check_callback(callback)
        subscription = WatchSubscription(self._link(), service, request, callback=callback, follow=follow)
        subscription.start()
        return subscription

    def close(self) -> None:
        """End all Watches, and close the channel where it is the client's own; a second time does nothing."""
        self._is_closed = True
        link = self._links.pop(os.getpid(), None)
        if link is not None:
            link.close()

    def _link(self) -> ClientLink:
        if self._is_closed:
            raise ChannelClosed(CLOSED)
        pid = os.getpid()
        link = self._links.get(pid)
        if link is None:
            made = ClientLink(self._target)
            # One wins, whichever thread is first. That of the parent process is kept: its end would reach into what the
            # parent has.
            link = self._links.setdefault(pid, made)
            if link is not made:
                made.close()
        return link

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<HealthClient {self._target}{' closed' if self._is_closed else ''}>"
