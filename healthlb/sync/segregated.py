"""Calls whose events their caller's thread takes in, as those of a `cygrpc.SegregatedCall`.

The one rule: a call that blocks needs no thread on which users' code runs, neither grpcio's for the events of a channel
nor that for callbacks. So it may be made in any callback, and ends at its deadline whatever callbacks do meanwhile.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from healthlb.calls.call_runner import CANCELLED
from healthlb.core.messages import Code, Fail
from healthlb.sync import grpcio
from healthlb.sync.balanced import BalancedCall
from healthlb.sync.intake import Taken
from healthlb.sync.live_attempt import End, LiveAttempt
from healthlb.sync.rescuable import RescuableCall
from healthlb.sync.subchannels import Subchannels


class QueuedCall(BalancedCall):
    """A call whose events wait for the thread that takes them in."""

    _is_queued = True

    def __init__(self, taken: Taken, arity: str, state: Any) -> None:
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # grpcio holds the call until it is over, and a caller's callback the caller's object, which is to be collected
        # when its caller drops it: as with a plain channel, whose thread has no part in such a call.
        super().__init__(taken, arity, weakref.proxy(state), self._events.put)

    def next_event(self) -> Any:
        """Return the next event; block until it is there."""
        return self._events.get()


class SegregatedCall(RescuableCall, QueuedCall):
    """A call that its caller waits for to the end, in the thread that made it.

    Each attempt has a completion queue of its own. The caller's thread waits in the queue of the attempt that it has
    started itself; one that is started beside it, or after a pause, has a thread.
    """

    def __init__(self, taken: Taken, arity: str, state: Any) -> None:
        super().__init__(taken, arity, state)
        # The caller's thread, 0 once it has left.
        self._thread = threading.get_ident()
        self._own: deque[LiveAttempt] = deque()
        self._lost: LiveAttempt | None = None

    def next_event(self) -> Any:
        """Return the next event; block until it is there."""
        while True:
            if self._own and self._events.empty():
                self._take_in_own()
                continue
            event = self._events.get()
            if type(event) is not _Once:
                return event
            event()

    def lose(self) -> None:
        """Ask no more for an event of the attempt that the caller's thread waited for when Ctrl-C came.

        Whether it was taken out is not known, and C-core dies if it is asked for one too many.
        """
        self._lost = self._own.popleft()

    def leave(self) -> None:
        """Have threads take in what is still to come: the caller does not wait any more."""
        self._thread = 0
        lost, self._lost = self._lost, None
        if lost is not None and lost is self._current and self._state.due:
            lost.headers_due = False
            lost(End(self._state, Fail(Code.CANCELLED, CANCELLED)))
        while self._own:
            attempt = self._own.popleft()
            assert attempt.real is not None
            self._take_in_beside(attempt, attempt.real)
        self._empty()

    def _empty(self) -> None:
        # What is due holds the call.
        while not self._events.empty():
            self._events.get()

    # --- attempts ----------------------------------------------------------------------------------------

    def _start_call(
        self,
        opened: Any,
        deadline: float | None,
        metadata: Any,
        credentials: Any,
        batches: grpcio.Batches,
        attempt: LiveAttempt,
    ) -> grpcio.CoreCall:
        real = grpcio.start_segregated_call(opened, deadline, metadata, credentials, batches)
        if self._thread == threading.get_ident():
            self._own.append(attempt)
        else:
            self._take_in_beside(attempt, real)
        return real

    def _take_in_own(self) -> None:
        """Wait for an event of the attempt that the caller's thread has started, and take it in."""
        attempt = self._own[0]
        assert attempt.real is not None
        try:
            is_last = attempt(attempt.real.next_event())
        except BaseException:
            self.lose()
            raise
        if is_last:
            self._own.popleft()

    def _take_in_beside(self, attempt: LiveAttempt, real: grpcio.CoreCall) -> None:
        """Have a thread take in the events of an attempt."""
        threading.Thread(target=_take_in, args=(attempt, real), name="healthlb-attempt", daemon=True).start()

    # --- timers and snapshots ----------------------------------------------------------------------------

    def _when_changed(self, generation: int, work: Callable[[], None]) -> int:
        notify = partial(self._notify, _Once(work))
        return self._method.subchannels.holder.when_changed(generation, notify, _run_now)

    def _call_later(self, delay: float, work: Callable[[], None]) -> Callable[[], object]:
        return cast(Subchannels, self._method.subchannels).notify_later(delay, partial(self._notify, _Once(work)))

    def _notify(self, work: _Once) -> None:
        """Have `work` run in the caller's thread, or beside it where that may be waiting for an attempt."""
        self._events.put(work)
        if self._own:
            self._method.subchannels.holder.deliver(work)
        if not self._thread:
            self._empty()


class ReadCall(SegregatedCall):
    """A stream that any thread reads, or none does: each attempt has a thread that takes in its events.

    grpcio's own lets the reader wait in C-core's queue. There nobody would see that an attempt has failed, and make
    another one, before somebody reads.
    """

    def __init__(self, taken: Taken, arity: str, state: Any) -> None:
        super().__init__(taken, arity, state)
        self._thread = 0

    def _notify(self, work: _Once) -> None:
        """Have `work` run in the reader's thread, or beside it where that is not reading."""
        self._events.put(work)
        self._method.subchannels.holder.deliver(work)


class _Once:
    """A function that does its work at the first call, and nothing at later ones.

    Args:
        work: what is done.
    """

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = [work]

    def __call__(self) -> None:
        """Do the work, unless that was done."""
        try:
            work = self._work.pop()
        except IndexError:
            return
        work()


def _run_now(notify: Callable[[], object]) -> None:
    notify()


def _take_in(attempt: LiveAttempt, real: grpcio.CoreCall) -> None:
    while not attempt(real.next_event()):
        pass
