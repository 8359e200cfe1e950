"""The subchannels of one aio channel, on the loop of its first use."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from functools import partial
from weakref import WeakKeyDictionary

from healthlb.aio.data import AioData
from healthlb.aio.errors import AioChannelClosed
from healthlb.control.delivery import run_callback
from healthlb.control.driver import Driver
from healthlb.control.grpc_transport import GrpcTransport, connections_closed, last_words
from healthlb.control.pool import PoolBase
from healthlb.control.settings import Listener, Settings
from healthlb.control.tasks import start_task
from healthlb.core.heartbeat import Pace
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Fact
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ChannelUnusable
from healthlb.telemetry.logs import is_logged, log_fact

_CLOSED = "Cannot invoke RPC on closed channel!"
_NO_LOOP = "an aio channel must be used inside a running event loop"
_OTHER_LOOP = "this channel is bound to the event loop of its first use: make one channel for each loop"

_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, Pace] = WeakKeyDictionary()


class Pool(PoolBase):
    """The subchannels of one aio channel.

    Args:
        settings: checked.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.channels = AioData()
        self._data = self.channels
        self.loop: asyncio.AbstractEventLoop | None = None
        self._driver: Driver | None = None
        self._finalizer: Callable[[], object] = lambda: None
        self._graces: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to connect, once.

        Raises:
            AioChannelClosed: the channel is closed.
            ChannelUnusable: another loop runs than that of first use, or none; it was used before a
                fork; or gevent has patched threads away.
        """
        self.check_caller()
        self.check_usable()
        if self.is_closed:
            raise AioChannelClosed(_CLOSED)
        if self._driver is None:
            self._is_started = True
            self._driver = self._make_driver()
            self.board.publish(self._driver.snapshot)
            self._driver.start()

    def check_caller(self) -> None:
        """Bind to the running loop, or check that it is the one.

        Raises:
            ChannelUnusable: no loop runs, or another than that of first use.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ChannelUnusable(_NO_LOOP) from None
        if self.loop is None:
            self.loop = loop
        elif self.loop is not loop:
            raise ChannelUnusable(_OTHER_LOOP)

    def _make_driver(self) -> Driver:
        settings = self.settings
        assert self.loop is not None
        pace = _paces.setdefault(self.loop, Pace())
        driver = Driver(
            balancer=settings.make_balancer(pace, self.admission),
            transport=GrpcTransport(
                settings.credentials, settings.options, settings.health.metadata, self.names, settings.compression
            ),
            data=self._data,
            resolver=settings.target.resolver,
            factory=settings.factory,
            publish=self.board.publish,
            report=partial(_report, self.loop, self.listeners),
            clock=time.monotonic_ns,
        )
        guard = start_task(self.loop, _close_with_loop(self.loop, driver))
        finalizer = weakref.finalize(self, _close_later, self.loop, driver, guard)
        finalizer.atexit = False
        self._finalizer = finalizer
        return driver

    async def close(self, grace: float | None) -> None:
        """Take no more calls, wait up to `grace` seconds for those in flight, and give all back.

        Another close ends the wait of the first, as with grpcio.
        """
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        if self._driver is None:
            self.is_closed = True
            self.board.publish(Snapshot(0, ConnectivityState.SHUTDOWN, service=self.settings.service))
            return
        self.check_caller()
        self.is_closed = True
        try:
            if grace and not self._graces:
                self._graces.append(asyncio.ensure_future(self._idle()))
                await asyncio.wait(self._graces, timeout=grace)
        finally:
            for waiting in self._graces:
                waiting.cancel()
            self._driver.close()
            self._finalizer()
        await asyncio.shield(connections_closed(asyncio.get_running_loop()))

    async def _idle(self) -> None:
        loop = asyncio.get_running_loop()
        calls = [(call, loop.create_future()) for call in self.waiting if not call.done()]
        for call, over in calls:
            call.add_done_callback(lambda _, over=over: resolve(over))
        await asyncio.gather(*(over for _, over in calls))
        idle = [(load, loop.create_future()) for view in self.board.snapshot.views for load in view.loads]
        for load, future in idle:
            load.retire(partial(resolve, future))
        await asyncio.gather(*(future for _, future in idle))

    def call_later(self, delay: float, work: Callable[[], object]) -> Callable[[], object]:
        """Have `work` run on the loop in `delay` seconds; return what takes that back."""
        assert self.loop is not None
        return self.loop.call_later(delay, work).cancel

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        if self._driver is not None:
            self._driver.call_failed(sub.id, sub.generation, code, is_refused=is_refused)

    def calls_refused(self, cap: str) -> None:
        """Tell the core that a cap has kept a call out."""
        if self._driver is not None:
            self._driver.calls_refused(cap)


def resolve(future: asyncio.Future[None]) -> None:
    """Let whoever awaits `future` go on."""
    if not future.done():
        future.set_result(None)


def _report(loop: asyncio.AbstractEventLoop, listeners: list[Listener], fact: Fact) -> None:
    if is_logged(fact):
        log_fact(fact)
    for listener in tuple(listeners):
        loop.call_soon(run_callback, partial(listener, fact))


async def _close_with_loop(loop: asyncio.AbstractEventLoop, driver: Driver) -> None:
    """Wait for the end: asyncio.run cancels what it finds, and a channel left open is to close with its loop."""
    try:
        await loop.create_future()
    except asyncio.CancelledError:
        if not driver.is_closed:
            driver.close()
            await last_words(loop)
        raise


def _close_later(loop: asyncio.AbstractEventLoop, driver: Driver, guard: asyncio.Task[None]) -> None:
    def close() -> None:
        driver.close()
        guard.cancel()

    if not loop.is_closed():
        loop.call_soon_threadsafe(close)
