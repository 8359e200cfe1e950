"""The asyncio health client: asks servers for their health by `grpc.health.v1`, over a channel of any kind."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, overload

import grpc
import grpc.aio

from healthlb.aio.grpcio import retell
from healthlb.aio.health_watches import HealthWatch, WatchIterator, WatchSubscription, check_callback, check_process
from healthlb.control.health_messages import CHECK, LIST, WATCH
from healthlb.control.monkey_patching import check_threads
from healthlb.core.states import ServingStatus
from healthlb.errors import ChannelClosed, ChannelUnusable, NotServing
from healthlb.health_client.answer import HealthAnswer, answered, listed
from healthlb.health_client.target import CLOSED, HealthTarget, Metadata, checked_timeout, request_for
from healthlb.text import add_remedy

if TYPE_CHECKING:
    from healthlb.config import Backoff
    from healthlb.health_client.answer import HealthAdviser

_FACE = (grpc.aio.Channel, grpc.Channel, "healthlb.HealthClient")
_NO_LOOP = "an aio HealthClient must be used inside a running event loop"
_OTHER_LOOP = "this HealthClient is bound to the event loop of its first use: make one client for each loop"


class ClientLink:
    """The channel of a client on its event loop, and what is under way on it.

    Args:
        target: whom the client asks.

    Attributes:
        channel: what was given, or opened.
        metadata: goes with every call.
        backoff: between Watches.
        adviser: says what to do about first mistakes.
        watch: begins a Watch.
        check: makes a Check.
        subscriptions: the Watches that call back.
        iterators: weak references to those that are iterated over.

    Raises:
        ChannelUnusable: eventlet, gevent or another package has replaced threads.
    """

    channel: Any

    def __init__(self, target: HealthTarget) -> None:
        check_threads("a health client")
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self.channel, self._is_own = target.connect(grpc.aio)
        self.metadata: Metadata = target.metadata
        self.backoff: Backoff | None = target.backoff
        self.adviser: HealthAdviser = target.adviser
        self.watch: Any = self.channel.unary_stream(WATCH)
        self.check: Any = self.channel.unary_unary(CHECK)
        self.subscriptions: set[WatchSubscription] = set()
        self.iterators: set[weakref.ref[WatchIterator]] = set()

    def check_caller(self) -> None:
        """Raise where the client cannot be used.

        Raises:
            ChannelUnusable: another event loop runs than that of its first use, or the process has forked since.
        """
        check_process(self._pid)
        if asyncio.get_running_loop() is not self._loop:
            raise ChannelUnusable(_OTHER_LOOP)

    async def close(self) -> None:
        """End all Watches, and close the channel where it is the client's own."""
        watches: list[HealthWatch | None] = [*self.subscriptions, *(ref() for ref in self.iterators)]
        for ending in [watch.close() for watch in watches if watch is not None]:
            await ending
        if self._is_own:
            await self.channel.close()


class HealthClient:
    """Asks a server for the health of its services (`grpc.health.v1`), and follows it, with asyncio.

    It needs no generated code, and belongs to the event loop of its first use. To an address it opens a channel of its
    own then, plaintext by default, which no proxy of the environment comes between on this machine; over a channel that
    it is given (grpcio's own, a `HealthAwareChannel`) it makes calls like any other, and leaves it open. As all of
    `grpc.aio` it does not survive a fork.

    Args:
        target: an address as gRPC names targets, or a `grpc.aio.Channel`.
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
        target: str | grpc.aio.Channel,
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
        self._opened: ClientLink | None = None
        self._is_closed = False

    async def check(
        self, service: str = "", timeout: float | None = 5.0, *, require_serving: bool = False
    ) -> ServingStatus:
        """Return the status of a service; see `healthlb.HealthClient.check`."""
        answer = await self.ask(service, timeout)
        if require_serving and answer.status is not ServingStatus.SERVING:
            raise NotServing(service, add_remedy(str(answer), answer.remedy), answer.address)
        return answer.status

    async def ask(self, service: str = "", timeout: float | None = 5.0) -> HealthAnswer:
        """Return what a server answers, as `check` does, with the backend that has answered where that is known."""
        request = request_for(service)
        link = self._link()
        call = link.check(request, timeout=checked_timeout(timeout), metadata=link.metadata)
        try:
            message = await call
        except grpc.aio.AioRpcError as error:
            retell(error, link.adviser, "Check", service)
            raise
        return answered(service, message, call, link.adviser)

    async def list(self, timeout: float | None = 5.0) -> dict[str, ServingStatus]:
        """Return the status of every service that the server has; see `healthlb.HealthClient.list`."""
        link = self._link()
        call = link.channel.unary_unary(LIST)(b"", timeout=checked_timeout(timeout), metadata=link.metadata)
        try:
            message = await call
        except grpc.aio.AioRpcError as error:
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
        """Return an async iterator over the statuses of a service, or have a callback called with each.

        See `healthlb.HealthClient.watch`. The callback runs on the event loop; what it returns is awaited, if it can
        be. `close()` ends the Watch at once, and may be awaited.

        Raises:
            ConfigError: an argument is of a wrong type.
            ChannelClosed: the client is closed.
            ChannelUnusable: no event loop runs, another than that of the client's first use, or the process has forked.
        """
        request = request_for(service)
        if callback is None:
            return WatchIterator(self._link(), service, request, follow=follow)
        check_callback(callback)
        subscription = WatchSubscription(self._link(), service, request, callback=callback, follow=follow)
        subscription.start()
        return subscription

    async def close(self) -> None:
        """End all Watches, and close the channel where it is the client's own; a second time does nothing."""
        self._is_closed = True
        link, self._opened = self._opened, None
        if link is not None:
            await link.close()

    def _link(self) -> ClientLink:
        if self._is_closed:
            raise ChannelClosed(CLOSED)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ChannelUnusable(_NO_LOOP) from None
        if self._opened is None:
            self._opened = ClientLink(self._target)
        self._opened.check_caller()
        return self._opened

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<HealthClient {self._target}{' closed' if self._is_closed else ''}>"
