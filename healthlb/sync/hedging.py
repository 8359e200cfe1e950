"""Hedged calls that block: until one is late or has failed, it is as cheap as a call without hedging.

The caller's thread waits for the first attempt in C-core's queue, as it does for any unary call. The plan, its timer
and what else two attempts need are made when they are needed: where the hedging delay has passed, where the attempt
fails, and where its backend is found hung. The one rule: whoever takes a call out of `FirstAttempts.waiting` decides
how it goes on, so it ends in one way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from healthlb.calls.attempts import Live, Method
from healthlb.core.call.call_attempts import FIRST, count_out
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code
from healthlb.sync import grpcio
from healthlb.sync.blocking import Ended, abort, call_queued, wait_for_end
from healthlb.sync.errors import InactiveRpcError
from healthlb.sync.intake import Taken
from healthlb.sync.live_attempt import LiveAttempt
from healthlb.sync.segregated import SegregatedCall
from healthlb.sync.subchannels import Subchannels, rescuable_calls

_OK = grpc.StatusCode.OK


class First(NamedTuple):
    """A first attempt that its caller's thread waits for.

    Attributes:
        sub: where it goes.
        real: C-core's call.
        state: grpcio's, of the call.
        thread: the caller's.
    """

    sub: Subchannel
    real: grpcio.CoreCall
    state: Any
    thread: int


class HedgedCall(SegregatedCall):
    """A hedged call from the moment when one attempt may not be enough.

    Args:
        taken: what the caller asked for.
        first: the attempt that is under way.
    """

    def __init__(self, taken: Taken, first: First) -> None:
        super().__init__(taken, "unary_unary", first.state)
        self._thread = first.thread
        self._is_run = True
        attempt = LiveAttempt(self._came, FIRST.attempt, first.sub, due=1, is_counting=True)
        attempt.real, attempt.started_at = first.real, taken.begun_at / SECOND
        self._live = {FIRST.attempt: Live(FIRST, first.sub, attempt.started_at, attempt)}
        self._own.append(attempt)
        self._set_current(attempt)
        attempts = self._attempts
        self._beside = attempts.begin(taken.begun_at)
        attempts.make_plan().picked(first.sub.id)
        if self._method.is_rescued:
            rescuable_calls(self._method).calls[self] = None

    def wake_when_due(self) -> None:
        """Have a timer send the next attempt; at once where the call is late already."""
        self._perform(self._beside)

    def take_in(self, event: Any) -> None:
        """Take in the event of the first attempt, in the caller's thread."""
        try:
            self._own[0](event)
        except BaseException:
            self.lose()
            raise
        self._own.popleft()


class FirstAttempts:
    """The hedged calls of one channel and one hedging delay that have made one attempt so far, and wait for it.

    Any thread. One timer looks after all of them: a call puts itself into `waiting`, and then has the timer set where
    none is.

    Args:
        delay: the hedging delay, in nanoseconds.

    Attributes:
        waiting: what each call waits for.
        is_armed: whether a timer is set.
    """

    def __init__(self, delay: int) -> None:
        self.waiting: dict[Taken, First] = {}
        self.is_armed = False
        self._delay = delay
        self._stop_waking: Callable[[], object] = lambda: None
        self._handed_over: dict[Taken, HedgedCall] = {}
        # Reentrant, as the garbage collector may run a callback that calls while it is held.
        self._lock = threading.RLock()

    def arm(self) -> None:
        """Set the timer for the call that is late first, if there is one."""
        with self._lock:
            waiting = list(self.waiting)
            if self.is_armed or not waiting:
                return
            self.is_armed = True
            due_at = min(taken.begun_at for taken in waiting) + self._delay
            subchannels = waiting[0].method.subchannels
            assert isinstance(subchannels, Subchannels)
            self._stop_waking = subchannels.notify_later(max(0, due_at - time.monotonic_ns()) / SECOND, self._look)

    def hand_over(self, taken: Taken) -> HedgedCall | None:
        """Return what goes on with a call that has entered; None where its one attempt has ended it."""
        with self._lock:
            first = self.waiting.pop(taken, None)
            if first is not None:
                call = self._handed_over[taken] = HedgedCall(taken, first)
                call.wake_when_due()
            return self._handed_over.get(taken)

    def leave(self, taken: Taken) -> HedgedCall:
        """Return what goes on with a call, to the caller's thread, which waits no more for the first attempt."""
        call = self.hand_over(taken)
        assert call is not None
        del self._handed_over[taken]
        return call

    def rescue(self, sub: Subchannel) -> None:
        """Have the calls that wait for this backend, which was found hung, go on as those that may be rescued."""
        for taken, first in list(self.waiting.items()):
            if first.sub is sub:
                self.hand_over(taken)

    def stop(self) -> None:
        """Take the timer back: the channel is closed."""
        self._stop_waking()

    def _look(self) -> None:
        # Before the look: a call that comes behind it sets the timer itself.
        self.is_armed = False
        due = time.monotonic_ns() - self._delay
        for taken in list(self.waiting):
            if taken.begun_at <= due:
                self.hand_over(taken)
        self.arm()


def call_hedged(taken: Taken, hedging: FirstAttempts, deserializer: Any) -> Ended:
    """Make a hedged call of one request and one response in this thread.

    Raises:
        grpc.RpcError: it failed.
    """
    method = taken.method
    sub = method.subchannels.holder.snapshot.picker.pick(method.any_call) if method.is_first_plain else None
    if sub is None or not sub.load.start():
        return call_queued(taken, "unary_unary", None, None, deserializer)
    assert taken.body is not None
    try:
        opened = method.opened.get(sub) or method.open(sub)
        state, real = grpcio.start_blocking(
            opened, taken.body, taken.deadline, taken.metadata, taken.credentials, taken.compression
        )
    except BaseException as error:
        sub.load.abandon()
        if not isinstance(error, ValueError):
            raise
        # Maybe its connection was closed since the pick; if it is something else, this raises it again.
        return call_queued(taken, "unary_unary", None, None, deserializer)
    method.budget.call_started(taken.begun_at)
    first = First(sub, real, state, threading.get_ident())
    try:
        hedging.waiting[taken] = first
        if not hedging.is_armed:
            hedging.arm()
        event = real.next_event()
    except BaseException:  # Ctrl-C
        call = hedging.leave(taken)
        call.lose()
        abort(call)
        raise
    if event.batch_operations[-1].code() == 0 and hedging.waiting.pop(taken, None) is not None:
        return _succeeded(taken, sub, event, state, deserializer)
    call = hedging.leave(taken)
    try:
        call.take_in(event)
    except BaseException:
        abort(call)
        raise
    return wait_for_end(call, state, deserializer)


def _succeeded(taken: Taken, sub: Subchannel, event: Any, state: Any, deserializer: Any) -> Ended:
    method = taken.method
    count_out(sub, method.budget, time.monotonic_ns())
    grpcio.handle_event(event, state, deserializer)
    if method.end_hook.of_all:
        method.tell(sub, Code.OK, taken.begun_at / SECOND, state.trailing_metadata or ())
    if state.code is not _OK:  # its response could not be read
        raise InactiveRpcError(state, ())
    return state, (), sub.address


def first_attempts(method: Method) -> FirstAttempts | None:
    """Return what looks after the first attempts of a method's calls; None where they are not hedged."""
    delay = method.policy.call.hedging_delay
    if delay is None or not method.is_hedged:
        return None
    kept: Any = rescuable_calls(method).hedged
    found: FirstAttempts = kept.setdefault(delay, FirstAttempts(delay))
    return found
