"""The subchannels of one aio channel, on the loop of its first use."""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary, WeakSet

import grpc.aio

from healthlb.aio.balanced import BalancedCall
from healthlb.aio.errors import AioChannelClosed
from healthlb.aio.hedging import FirstAttempts
from healthlb.calls.attempts import Method
from healthlb.calls.settings import Listener, Settings
from healthlb.calls.subchannels_base import SubchannelsBase
from healthlb.control.delivery import run_callback
from healthlb.control.driver import Driver
from healthlb.control.grpc_transport import GrpcConnection, GrpcTransport, connections_closed, last_words
from healthlb.control.poller import can_poll
from healthlb.control.tasks import LoopEnd, resolve
from healthlb.control.transport import Connection, DataDone
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Endpoint, Fact
from healthlb.core.snapshot import Snapshot
from healthlb.core.subchannel.dialling import Pace
from healthlb.errors import ChannelUnusable
from healthlb.telemetry.logs import is_logged, log_fact


class AioData:
    """The connections that aio calls use, by what was picked: the control connections themselves, as gRFC A17 wants.

    A channel with calls in flight is never closed.

    Attributes:
        methods: what calls are made of; each keeps what it has opened on the connections.
    """

    def __init__(self) -> None:
        self.methods: WeakSet[Method] = WeakSet()
        self._connections: dict[tuple[int, int], GrpcConnection] = {}
        self._last_generation = 0

    def channel(self, sub: Subchannel) -> grpc.aio.Channel | None:
        """Return the channel of what was picked, None where it is closed already."""
        connection = self._connections.get((sub.id, sub.generation))
        return None if connection is None else connection.channel

    def is_ready(self, sub: Subchannel) -> bool:
        """Whether the channel of what was picked is connected now."""
        channel = self.channel(sub)
        return channel is not None and channel.get_state() is grpc.ChannelConnectivity.READY

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        """Have calls use the control connection."""
        connection = cast(GrpcConnection, control)
        if connection.generation is None:
            self._last_generation += 1
            connection.generation = self._last_generation
            connection.hold()
            self._connections[sub, self._last_generation] = connection
        done(connection.generation, "")

    def forget(self, sub: int) -> None:
        """Do nothing: the next control connection is a fresh one."""

    def close(self, sub: int, generation: int) -> None:
        """Use this connection for calls no more."""
        connection = self._connections.pop((sub, generation), None)
        if connection is not None:
            # A multi-callable that is kept keeps the closed channel alive, and whoever waits for its end waits on.
            for method in self.methods:
                method.forget(sub, generation)
            connection.release()


_CLOSED = "Channel is closed."
_AT_EXIT = (
    "grpc.aio cannot begin at the interpreter's exit, where Python 3.12 starts no threads: use the channel before"
)
_NO_LOOP = "an aio channel must be used inside a running event loop"
_OTHER_LOOP = "this channel is bound to the event loop of its first use: make one channel for each loop"

# Seconds that a caller's generator has for its `finally` when the channel closes.
_LAST_READ = 1.0

_paces: WeakKeyDictionary[asyncio.AbstractEventLoop, Pace] = WeakKeyDictionary()


class Subchannels(SubchannelsBase):
    """The subchannels of one aio channel.

    Args:
        settings: checked.

    Attributes:
        calls: those that are under way: whether or not their callers keep them, they are made, and closing ends them.
        inner_calls: those of interceptors.
    """

    channels: AioData

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.channels = AioData()
        self._data = self.channels
        self.loop: asyncio.AbstractEventLoop | None = None
        self._driver: Driver | None = None
        self._finalizer: Callable[[], object] = lambda: None
        self.calls: set[Any] = set()
        self.inner_calls: weakref.WeakSet[Any] = weakref.WeakSet()
        # The hedged calls that have made one attempt so far, by their hedging delay.
        self.hedged: dict[int, FirstAttempts] = {}
        self._is_closing = False

    def start(self) -> None:
        """Begin to connect, once.

        Raises:
            AioChannelClosed: the channel is closed.
            ChannelUnusable: another loop runs than that of first use, or none; it was used before a
                fork; or eventlet or gevent has replaced threads.
        """
        self.check_caller()
        self.check_usable()
        if self.is_closed:
            raise AioChannelClosed(_CLOSED)
        if self._driver is None:
            if not can_poll():
                raise ChannelUnusable(_AT_EXIT)
            self._is_started = True
            self._driver = self._make_driver()
            self.holder.publish(self._driver.snapshot)
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
                settings.credentials,
                settings.options,
                settings.config.health,
                names=self.names,
                compression=settings.compression,
            ),
            data=self._data,
            resolver=settings.target.resolver,
            factory=settings.factory,
            publish=self.holder.publish,
            report=partial(_report, self.loop, self.listeners),
            clock=time.monotonic_ns,
            rescue=partial(_rescue, self.calls, self.inner_calls),
            end_calls=partial(_end_calls, self.calls, self.inner_calls),
        )
        end = LoopEnd(partial(_close_with_loop, self.loop, driver))
        finalizer = weakref.finalize(self, _close_later, self.loop, driver, end)
        finalizer.atexit = False
        self._finalizer = finalizer
        return driver

    async def close(self, grace: float | None) -> None:
        """Take no more calls, wait up to `grace` seconds for those in flight, cancel the rest and give all back.

        While one close is at work, another does nothing, as with grpcio. Where its caller is cancelled within `grace`,
        calls go on, and the next close ends them.
        """
        if self._is_closing:
            return
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        if self._driver is not None:
            self.check_caller()
        else:
            self.holder.publish(Snapshot(0, ConnectivityState.SHUTDOWN, service=self.settings.service))
        self.is_closed = self._is_closing = True
        if grace and self.calls:
            await self._wait_for_calls(grace)
        readers = self._cancel_calls()
        for waiting in self.hedged.values():
            waiting.stop()
        if self._driver is None:  # no call got past its interceptors
            return
        self._driver.close()
        self._finalizer()
        if readers:
            await asyncio.wait(readers, timeout=_LAST_READ)
        await asyncio.shield(connections_closed(asyncio.get_running_loop()))

    def _cancel_calls(self) -> list[asyncio.Task[None]]:
        """Cancel what is under way; return grpcio's tasks that read the callers' generators."""
        readers = []
        for call in tuple(self.calls):
            reader = getattr(call, "_async_request_poller", None)
            # One whose interceptor gave an answer of its own cannot be cancelled, which raises (1.85.3).
            with contextlib.suppress(AttributeError):
                call.cancel()
            if reader is not None and not reader.done():
                readers.append(reader)
        return readers

    async def _wait_for_calls(self, grace: float) -> None:
        loop = asyncio.get_running_loop()
        ends = [(call, loop.create_future()) for call in self.calls]
        for call, end in ends:
            call.add_done_callback(lambda _, end=end: resolve(end))
        try:
            await asyncio.wait([end for _, end in ends], timeout=grace)
        except asyncio.CancelledError:
            self._is_closing = False
            raise

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


def _rescue(calls: set[Any], inner: Iterable[Any], sub: Subchannel, tell: Callable[[int], None]) -> None:
    tell(sum(call.rescue(sub) for call in _beneath(calls, inner)))


def _end_calls(calls: set[Any], inner: Iterable[Any], sub: Subchannel, details: str) -> None:
    for call in _beneath(calls, inner):
        call.give_up_on(sub, details)


def _beneath(calls: set[Any], inner: Iterable[Any]) -> list[BalancedCall]:
    beneath = [getattr(call, "_cython_call", None) for call in (*calls, *inner)]
    return [call for call in beneath if isinstance(call, BalancedCall)]


def _report(loop: asyncio.AbstractEventLoop, listeners: list[Listener], fact: Fact) -> None:
    if is_logged(fact):
        log_fact(fact)
    for listener in tuple(listeners):
        loop.call_soon(run_callback, partial(listener, fact))


async def _close_with_loop(loop: asyncio.AbstractEventLoop, driver: Driver) -> None:
    if not driver.is_closed:
        driver.close()
        await last_words(loop)


def _close_later(loop: asyncio.AbstractEventLoop, driver: Driver, end: LoopEnd) -> None:
    del end  # kept until now
    if not loop.is_closed():
        loop.call_soon_threadsafe(driver.close)
