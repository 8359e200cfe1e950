"""The subchannels of one sync channel, and their part on the control thread."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import grpc.experimental

from healthlb.calls.attempts import Method
from healthlb.calls.settings import Listener, Settings
from healthlb.calls.subchannels_base import SubchannelsBase
from healthlb.control.delivery import is_in_callback
from healthlb.control.driver import Driver
from healthlb.control.grpc_transport import GrpcTransport
from healthlb.control.monkey_patching import check_selector
from healthlb.control.options import can_share
from healthlb.control.resolved_names import ResolvedNames
from healthlb.control.snapshot_holder import SnapshotHolder
from healthlb.control.thread import Alarm, ControlThread
from healthlb.control.user_code import log_guarded
from healthlb.control.watchdog import Stall, StalledFactory, StalledResolver
from healthlb.core.call.overload import Admission
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, ConnectivityState, Fact
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ChannelClosed
from healthlb.sync.data import SyncData
from healthlb.sync.fact_queue import FactQueue
from healthlb.sync.grpcio import IS_SINGLE_THREADED_BY_DEFAULT
from healthlb.sync.rescue import AGAIN_AFTER, RescuableCalls

_CLOSE_TIMEOUT = 5.0
_LOOK = 0.1
_IN_A_LOOP = (
    "a sync channel is used inside a running event loop, which its calls block: use healthlb.aio.HealthAwareChannel, "
    "or make the calls in a thread (asyncio.to_thread)"
)


class Control:
    """The part of `Subchannels` on the control thread. It does not refer to them, so that they can be collected."""

    def __init__(
        self,
        settings: Settings,
        data: SyncData,
        names: ResolvedNames,
        *,
        holder: SnapshotHolder,
        listeners: list[Listener],
        admission: Admission,
        rescuable: RescuableCalls,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._rescuable = rescuable
        self._data = data
        self._names = names
        self._holder = holder
        self._facts = FactQueue(listeners)
        self._driver: Driver | None = None
        self._before: Driver | None = None
        self._resolver, self._factory = settings.target.resolver, settings.factory
        self._alarms: dict[Alarm, None] = {}
        self._leaving: Snapshot | None = None
        self._first_generation = 0
        # Reentrant, as the garbage collector may close what it finds at any moment.
        self._moving = threading.RLock()
        self._is_closed = False
        self._pid = os.getpid()
        self.thread = ControlThread.acquire(self._move)
        self.thread.run_soon(partial(self._start, self.thread))

    def _start(self, thread: ControlThread) -> None:
        if thread is not self.thread:
            return  # It stood still until now, and another one has taken over.
        settings = self._settings
        is_shared = can_share(settings.credentials, settings.options)
        balancer = settings.make_balancer(self.thread.pace, self._admission, is_shared=is_shared)
        self._publish(balancer.snapshot)
        self._driver = Driver(
            balancer=balancer,
            transport=GrpcTransport(
                settings.credentials,
                settings.options,
                settings.config.health,
                names=self._names,
                compression=settings.compression,
                is_sync=True,
            ),
            data=self._data,
            resolver=self._resolver,
            factory=self._factory,
            publish=self._publish,
            report=self._report,
            clock=time.monotonic_ns,
            rescue=self._rescue,
            end_calls=self._data.end_calls,
        )
        self._driver.start(self._before)
        self._before = None

    def _move(self, stall: Stall) -> None:
        """Move to a fresh control thread, as this one is stuck or has ended; runs on the watchdog's thread."""
        with self._moving:
            if self._is_closed:
                return
            driver, self._driver = self._driver, None
            self.thread = ControlThread.acquire(self._move)
        if driver is not None:
            driver.abandon()
            self._before = driver
            if driver is stall.culprit and stall.is_in_picker:
                self._factory = StalledFactory(self._settings.factory, stall)
            elif driver is stall.culprit:
                self._resolver = StalledResolver(self._settings.target.resolver, stall)
        self.thread.run_soon(partial(self._start_afresh, self.thread))
        for alarm in self._alarms.copy():
            alarm.arm(self.thread)

    def _start_afresh(self, thread: ControlThread) -> None:
        self._data.start_afresh()
        self._names.start_afresh()
        self._leaving = self._holder.snapshot
        self._first_generation = self._leaving.generation + 1
        self._start(thread)

    def _publish(self, snapshot: Snapshot) -> None:
        leaving = self._leaving
        if leaving is not None and leaving.ready and snapshot.state is ConnectivityState.CONNECTING:
            return  # What was READY when the old thread was given up serves until it is known anew.
        if self._first_generation:
            snapshot = replace(snapshot, generation=self._first_generation + snapshot.generation)
        self._leaving = None
        self._holder.publish(snapshot)
        for sub in leaving.ready if leaving is not None else ():
            sub.load.retire(partial(self._data.close, sub.id, sub.generation))

    def call_later(self, delay: float, work: Callable[[], object]) -> Callable[[], object]:
        """Have `work` run on the control thread in `delay` seconds; return what takes that back."""
        alarm = Alarm(time.monotonic() + delay, work, self._alarms)
        alarm.arm(self.thread)
        return alarm.cancel

    def _report(self, fact: Fact) -> None:
        self._facts.put(fact)

    def _rescue(self, sub: Subchannel, tell: Callable[[int], None]) -> None:
        rescue = partial(self._rescuable.rescue, sub, self._holder.deliver, tell)
        rescue()
        self.call_later(AGAIN_AFTER, rescue)

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
        with self._moving:
            self._is_closed = True
        if os.getpid() != self._pid or self.thread.is_halted:
            closed.set()
            return closed
        then = self._then(closed)
        if self.thread.is_current:
            self._close(then)
        else:
            self.thread.run_soon(partial(self._close, then))
        self.thread.release(self._move)
        return closed

    def _then(self, closed: threading.Event) -> Callable[[], None]:
        # The calls' end waits for the user's callbacks, so in one of them it cannot be waited for.
        return closed.set if is_in_callback() else partial(self._data.when_closed, closed.set)

    def _close(self, then: Callable[[], None]) -> None:
        with self._moving:
            driver, self._driver = self._driver, None
        try:
            if driver is not None:
                driver.close()
        finally:
            self._data.close_all()
            then()

    def wait_closed(self, closed: threading.Event) -> None:
        """Wait for what `close` returned, in vain for 5 s at most.

        Where the thread is held up by the user's code, calls are ended here, and it gives back the rest when it can.
        """
        give_up_at = time.monotonic() + _CLOSE_TIMEOUT
        while not closed.wait(_LOOK) and time.monotonic() < give_up_at:
            if self.thread.is_held_up:
                self._close_here()
                self._then(closed)()
                closed.wait(give_up_at - time.monotonic())
                return

    def _close_here(self) -> None:
        with self._moving:
            driver, self._driver = self._driver, None
        if driver is not None:
            driver.abandon()
        generation = self._holder.snapshot.generation + 1
        self._holder.publish(Snapshot(generation, ConnectivityState.SHUTDOWN, service=self._settings.service))
        self._data.close_all()


class Subchannels(SubchannelsBase):
    """The subchannels of one sync channel.

    Args:
        settings: checked.

    Attributes:
        is_single_threaded: whether streams of responses take in their events in their reader's thread.
        rescuable: the calls that are sent elsewhere where their backend is found hung.
    """

    channels: SyncData

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.channels = SyncData(settings.credentials, settings.options, settings.compression)
        self._data = self.channels
        self.is_single_threaded = IS_SINGLE_THREADED_BY_DEFAULT or any(
            key == grpc.experimental.ChannelOptions.SingleThreadedUnaryStream for key, _ in settings.options
        )
        self.holder.deliver = self._data.deliverer.submit
        self._lock = threading.Lock()
        self._control: Control | None = None
        self.rescuable = RescuableCalls()
        self._finalizer: Any = None

    def start(self) -> None:
        """Begin to connect, once.

        Raises:
            ChannelClosed: the channel is closed.
            ChannelUnusable: it was used before a fork, or eventlet or gevent has replaced threads or selectors.
        """
        self.check_usable()
        check_selector()
        with self._lock:
            if self.is_closed or (self._control is not None and self._control.thread.is_halted):
                raise ChannelClosed("Cannot invoke RPC on closed channel!")
            if self._control is None:
                if asyncio._get_running_loop() is not None:
                    log_guarded(logging.WARNING, _IN_A_LOOP)
                self._is_started = True
                self._control = Control(
                    self.settings,
                    self._data,
                    self.names,
                    holder=self.holder,
                    listeners=self.listeners,
                    admission=self.admission,
                    rescuable=self.rescuable,
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
        for waiting in list(self.rescuable.hedged.values()):
            waiting.stop()
        control = self._control
        if control is None or control.thread.is_halted:
            self.holder.publish(Snapshot(0, ConnectivityState.SHUTDOWN, service=self.settings.service))
        if control is not None:
            self._finalizer.detach()
            closed = control.close()
            if not control.thread.is_current:
                control.wait_closed(closed)

    def forget_after_fork(self) -> None:
        """In a forked child nothing of the control plane is alive."""
        self._lock = threading.Lock()
        super().forget_after_fork()

    def call_later(self, delay: float, work: Callable[[], object]) -> Callable[[], object]:
        """Have `work` run in `delay` seconds, beside the control loop; return what takes that back."""
        assert self._control is not None
        return self._control.call_later(delay, partial(self._data.deliverer.submit, work))

    def notify_later(self, delay: float, notify: Callable[[], object]) -> Callable[[], object]:
        """Have `notify` run on the control thread in `delay` seconds, where it may not block; return what takes that
        back."""
        assert self._control is not None
        return self._control.call_later(delay, notify)

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        """Tell the core of a failed call."""
        if self._control is not None:
            self._control.call_failed(sub, code, is_refused=is_refused)

    def calls_refused(self, cap: str) -> None:
        """Tell the core that a cap has kept a call out."""
        if self._control is not None:
            self._control.calls_refused(cap)


def rescuable_calls(method: Method) -> RescuableCalls:
    """Return the calls under way of the sync channel that a method belongs to."""
    subchannels = method.subchannels
    assert isinstance(subchannels, Subchannels)
    return subchannels.rescuable
