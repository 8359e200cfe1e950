"""What a channel, its views and its multi-callables share: the snapshot and the way to a pick.

The one rule: nothing happens before first use. No thread, no I/O; so a channel that was made before a
fork works in the child.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from healthlb.control.board import Board
from healthlb.control.delivery import Deliverer
from healthlb.control.driver import Driver
from healthlb.control.grpc_transport import GrpcTransport
from healthlb.control.settings import Listener, Settings
from healthlb.control.thread import ControlThread
from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Fact
from healthlb.core.pickers import CallInfo
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ChannelClosed, ChannelUnusable
from healthlb.sync.data import SyncData
from healthlb.sync.errors import CallError

if TYPE_CHECKING:
    from healthlb.sync.attempts import Attempts

_FORKED = (
    "this channel was used before the process forked, and gRPC does not survive that: "
    "make the channel in the child, or use it there first"
)
_GEVENT = "healthlb does not work under gevent's monkey patching: its control loop needs real threads"


class Control:
    """A pool's part on the control thread; it holds no reference to the pool."""

    def __init__(self, settings: Settings, data: SyncData, board: Board, listeners: list[Listener]) -> None:
        self._settings = settings
        self._data = data
        self._board = board
        self._listeners = listeners
        self._deliverer = Deliverer()
        self._driver: Driver | None = None
        self._pid = os.getpid()
        self.thread = ControlThread.acquire()
        self.thread.run_soon(self._start)

    def _start(self) -> None:
        settings = self._settings
        balancer = Balancer(settings.service, settings.health, settings.seed, self.thread.pace)
        self._board.publish(balancer.snapshot)
        self._driver = Driver(
            balancer=balancer,
            transport=GrpcTransport(settings.credentials, settings.options, settings.health.metadata),
            data=self._data,
            resolver=settings.target.resolver,
            factory=settings.factory,
            publish=self._board.publish,
            report=self._report,
            clock=time.monotonic_ns,
        )
        self._driver.start()

    def _report(self, fact: Fact) -> None:
        for listener in tuple(self._listeners):
            self._deliverer.submit(lambda listener=listener: listener(fact))  # type: ignore[misc]

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        if self._driver is not None:
            self._driver.call_failed(sub.id, sub.generation, code, is_refused=is_refused)

    def close(self) -> None:
        """End the control plane's part and wait for it, a moment at most."""
        if os.getpid() != self._pid:
            return
        if self.thread.is_current:
            self._close(threading.Event())
            self.thread.release()
            return
        closed = threading.Event()
        self.thread.run_soon(lambda: self._close(closed))
        closed.wait(5.0)
        self.thread.release()

    def _close(self, closed: threading.Event) -> None:
        try:
            if self._driver is not None:
                self._driver.close()
        finally:
            closed.set()


class Pool:
    """The subchannels of one sync channel.

    Args:
        settings: checked.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.board = Board(Snapshot(-1, ConnectivityState.IDLE, service=settings.service))
        self.data = SyncData(settings.credentials, settings.options, settings.compression)
        self.listeners = list(settings.listeners)
        self._lock = threading.Lock()
        self._control: Control | None = None
        self._finalizer: Callable[[], object] = lambda: None
        self._is_closed = False
        self._is_forked = False
        _pools.add(self)

    @property
    def is_started(self) -> bool:
        """Whether the channel left IDLE."""
        return self._control is not None

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def call_later(self, delay: float, work: Callable[[], object]) -> None:
        """Have `work` run on the control loop in `delay` seconds."""
        if self._control is not None:
            loop = self._control.thread.loop
            self._control.thread.run_soon(lambda: loop.call_later(delay, work))

    def start(self) -> None:
        """Begin to connect, once.

        Raises:
            ChannelClosed: the channel is closed.
            ChannelUnusable: it was used before a fork, or gevent has patched threads away.
        """
        if self._is_forked:
            raise ChannelUnusable(_FORKED)
        if self._control is not None and not self._is_closed:
            return
        with self._lock:
            if self._is_closed:
                raise ChannelClosed("Cannot invoke RPC on closed channel!")
            if self._control is None:
                _refuse_gevent()
                self._control = Control(self.settings, self.data, self.board, self.listeners)
                self._finalizer = weakref.finalize(self, self._control.close)

    def close(self) -> None:
        """End calls in flight with CANCELLED and give everything back; a second time does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        if self._is_forked:
            return
        if self._control is None:
            self.board.publish(Snapshot(0, ConnectivityState.SHUTDOWN, service=self.settings.service))
        self._finalizer()

    def forget_after_fork(self) -> None:
        """In a forked child nothing of the control plane is alive."""
        self._lock = threading.Lock()
        if self._control is not None:
            self._is_forked = True
            self.board = Board(Snapshot(-1, ConnectivityState.IDLE, service=self.settings.service))

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        if self._control is not None:
            self._control.call_failed(sub, code, is_refused=is_refused)

    def try_pick(self, call: CallInfo) -> Subchannel | None:
        """Return a subchannel with the call counted in, or None if it must wait or fail."""
        snapshot = self.board.snapshot
        while True:
            sub = snapshot.picker.pick(call)
            if sub is None:
                return None
            if sub.load.start():
                return sub
            if self.board.snapshot is snapshot:
                return None
            snapshot = self.board.snapshot

    def failure(self, snapshot: Snapshot, attempts: Attempts) -> CallError | None:
        """Return the error that ends a call which found nothing to pick, or None if it waits."""
        if snapshot.state is ConnectivityState.SHUTDOWN:
            return CallError(grpc.StatusCode.CANCELLED, "Channel closed!", attempts.history)
        failure = snapshot.failure
        if failure is None or attempts.wait_for_ready:
            return None
        return CallError(grpc.StatusCode.UNAVAILABLE, failure.details, attempts.history)

    def too_late(self, attempts: Attempts) -> CallError:
        """Return the error of a call whose deadline came while it waited."""
        details = f"Deadline Exceeded: {self.board.snapshot.describe()}"
        return CallError(grpc.StatusCode.DEADLINE_EXCEEDED, details, attempts.history)


def _refuse_gevent() -> None:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        raise ChannelUnusable(_GEVENT)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for pool in tuple(_pools):
        pool.forget_after_fork()


os.register_at_fork(after_in_child=_forget_after_fork)
