"""The subchannels of one sync channel, and their part on the control thread."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from healthlb.control.board import Board
from healthlb.control.delivery import Deliverer, is_in_callback
from healthlb.control.driver import Driver
from healthlb.control.grpc_transport import GrpcTransport
from healthlb.control.names import Names
from healthlb.control.pool import PoolBase
from healthlb.control.settings import Listener, Settings
from healthlb.control.thread import ControlThread
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Fact
from healthlb.core.overload import Admission
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ChannelClosed
from healthlb.sync.data import SyncData
from healthlb.telemetry.logs import is_logged, log_fact

_CLOSE_TIMEOUT = 5.0


class Control:
    """A pool's part on the control thread. It holds no reference to the pool, which so can be collected."""

    def __init__(
        self,
        settings: Settings,
        data: SyncData,
        names: Names,
        board: Board,
        listeners: list[Listener],
        admission: Admission,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._data = data
        self._names = names
        self._board = board
        self._listeners = listeners
        self._deliverer = Deliverer()
        self._driver: Driver | None = None
        self._pid = os.getpid()
        self.thread = ControlThread.acquire()
        self.thread.run_soon(self._start)

    def _start(self) -> None:
        settings = self._settings
        balancer = settings.make_balancer(self.thread.pace, self._admission)
        self._board.publish(balancer.snapshot)
        self._driver = Driver(
            balancer=balancer,
            transport=GrpcTransport(settings.credentials, settings.options, settings.health.metadata, self._names),
            data=self._data,
            resolver=settings.target.resolver,
            factory=settings.factory,
            publish=self._board.publish,
            report=self._report,
            clock=time.monotonic_ns,
        )
        self._driver.start()

    def _report(self, fact: Fact) -> None:
        if is_logged(fact):
            self._deliverer.submit(partial(log_fact, fact))
        for listener in tuple(self._listeners):
            self._deliverer.submit(partial(listener, fact))

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        if self._driver is not None:
            self._driver.call_failed(sub.id, sub.generation, code, is_refused=is_refused)

    def calls_refused(self, cap: str) -> None:
        """Tell the core that a cap has kept a call out."""
        if self._driver is not None:
            self._driver.calls_refused(cap)
        else:
            # It is made by what was given to the thread before this.
            self.thread.run_soon(partial(self._refused_early, cap))

    def _refused_early(self, cap: str) -> None:
        if self._driver is not None:
            self._driver.calls_refused(cap)

    def close(self) -> threading.Event:
        """End the control plane's part without waiting; return what is set when it has ended."""
        closed = threading.Event()
        if os.getpid() != self._pid or self.thread.is_halted:
            closed.set()
            return closed
        # The calls' end waits for the user's callbacks, so in one of them it cannot be waited for.
        then = closed.set if is_in_callback() else partial(self._data.when_closed, closed.set)
        if self.thread.is_current:
            self._close(then)
        else:
            self.thread.run_soon(partial(self._close, then))
        self.thread.release()
        return closed

    def _close(self, then: Callable[[], None]) -> None:
        try:
            if self._driver is not None:
                self._driver.close()
        finally:
            then()


class Pool(PoolBase):
    """The subchannels of one sync channel.

    Args:
        settings: checked.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.channels = SyncData(settings.credentials, settings.options, settings.compression)
        self._data = self.channels
        self.board.deliver = self._data.deliverer.submit
        self._lock = threading.Lock()
        self._control: Control | None = None
        self._finalizer: Any = None

    def start(self) -> None:
        """Begin to connect, once.

        Raises:
            ChannelClosed: the channel is closed.
            ChannelUnusable: it was used before a fork, or gevent has patched threads away.
        """
        self.check_usable()
        with self._lock:
            if self.is_closed or (self._control is not None and self._control.thread.is_halted):
                raise ChannelClosed("Cannot invoke RPC on closed channel!")
            if self._control is None:
                self._is_started = True
                self._control = Control(
                    self.settings, self._data, self.names, self.board, self.listeners, self.admission
                )
                # Whoever collects the garbage does not wait: what it holds may be waited for.
                self._finalizer = weakref.finalize(self, self._control.close)
                self._finalizer.atexit = False

    def close(self) -> None:
        """End calls in flight with CANCELLED and give everything back; a second time does nothing."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
        control = self._control
        if control is None or control.thread.is_halted:
            self.board.publish(Snapshot(0, ConnectivityState.SHUTDOWN, service=self.settings.service))
        if control is not None:
            self._finalizer.detach()
            closed = control.close()
            if not control.thread.is_current:
                closed.wait(_CLOSE_TIMEOUT)

    def forget_after_fork(self) -> None:
        """In a forked child nothing of the control plane is alive."""
        self._lock = threading.Lock()
        super().forget_after_fork()

    def call_later(self, delay: float, work: Callable[[], object]) -> Callable[[], object]:
        """Have `work` run in `delay` seconds, beside the control loop; return what takes that back."""
        assert self._control is not None
        thread = self._control.thread
        timer: list[Callable[[], object]] = []
        submit = self._data.deliverer.submit
        thread.run_soon(lambda: timer.append(thread.loop.call_later(delay, submit, work).cancel))
        return lambda: thread.run_soon(lambda: timer[0]())

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        if self._control is not None:
            self._control.call_failed(sub, code, is_refused=is_refused)

    def calls_refused(self, cap: str) -> None:
        """Tell the core that a cap has kept a call out."""
        if self._control is not None:
            self._control.calls_refused(cap)
