"""Runs one call over its attempts, in both faces: it does what the plan says.

It is called back: by attempts that end, by timers and by new snapshots. What calls back holds the call, so a call
that was made goes on whether or not its caller keeps it, and it ends once. No user code and no call of grpcio runs
under the lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic

from healthlb.calls.attempts import RESCUED, Attempt, Attempts, InnerT, Live, Method, Outcome, is_closed_error
from healthlb.control.codes import to_code
from healthlb.core.call.call_attempts import FIRST, count_out, failure, winner
from healthlb.core.call.failover import Action, Cancel, Finish, Start, WakeAt
from healthlb.core.call.waiting import Wait, begin_wait
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code, Fail
from healthlb.core.snapshot import Snapshot
from healthlb.core.user_code import words

CANCELLED = "Locally cancelled by application!"


class CallRunner(Generic[InnerT]):
    """One call over its attempts. A face derives its call from it; `InnerT` is its object for one attempt.

    A face that makes the first attempt by itself comes here with `first_failed`; any other begins with `run`.
    """

    # Guards what follows against other threads; the asyncio face needs no lock, as one loop runs a call.
    _lock: AbstractContextManager[Any]
    # Class-level defaults: they save a dozen stores per call.
    _method: Method
    _is_over = False
    _is_waiting = False
    _wait: Wait | None = None
    _watcher = -1
    _stop_waking: Callable[[], object] | None = None
    _stop_expiring: Callable[[], object] | None = None
    _live: dict[int, Live[InnerT]] | None = None
    _tried: Attempts | None = None
    # The number of the attempt with which the call is known to end, 0 for none. Under the lock.
    _chosen = 0
    # The backend that has answered, None before one has.
    address: str | None = None

    # --- what a face has of its own -------------------------------------------------------------------

    def _make_attempts(self) -> Attempts:
        """Return the call's way through the subchannels; called once, at the latest when the first attempt failed."""
        raise NotImplementedError

    def _open(self, number: int, sub: Subchannel, timeout: float | None, metadata: Any) -> InnerT:
        """Begin an attempt and return the face's object for it; its end is told by `attempt_ended`.

        Args:
            number: the attempt's, for `attempt_ended` and `commit`.
            sub: where it goes.
            timeout: in seconds, None for none.
            metadata: what it sends.

        Raises:
            Exception: what grpcio raises. Where its channel was closed meanwhile, another one is picked.
        """
        raise NotImplementedError

    def _drop(self, inner: InnerT) -> None:
        """Cancel an attempt that is not wanted any more."""
        raise NotImplementedError

    def _over(self, inner: InnerT | None, fail: Fail | None) -> None:
        """Tell the caller how the call ended, once: as the attempt `inner`, or, where `fail` is given, as that says."""
        raise NotImplementedError

    def _broke(self, error: Exception) -> None:
        """The call cannot go on: `error` came where no frame of the caller's is left to raise it in."""
        self._finish(None, Fail(Code.INTERNAL, f"the next attempt failed: {words(error)}"))

    # --- begin -----------------------------------------------------------------------------------------

    @property
    def _attempts(self) -> Attempts:
        attempts = self._tried
        if attempts is None:
            # One wins, whichever thread is first.
            attempts = vars(self).setdefault("_tried", self._make_attempts())
        return attempts

    def run(self) -> None:
        """Make the first attempt, or wait for a subchannel that can take it. The subchannels have been started."""
        attempts = self._attempts
        beside = attempts.begin(time.monotonic_ns()) if self._method.is_hedged else ()
        sub = attempts.try_pick(FIRST)
        if sub is None:
            self._advance(FIRST)
        else:
            self._begin(FIRST, sub, has_waited=False)
        self._perform(beside)

    def first_failed(self, sub: Subchannel, started_at: float, outcome: Outcome, inner: InnerT | None) -> None:
        """Go on after a first attempt that the face made by itself, beginning at `started_at` (monotonic seconds).

        `inner` is the face's object for it, None where it was given up: then the call can not end with it.
        """
        self._failed(Live(FIRST, sub, started_at), outcome, inner)

    # --- attempts --------------------------------------------------------------------------------------

    def _perform(self, actions: Sequence[Action], ended: InnerT | None = None) -> None:
        for action in actions:
            match action:
                case Start():
                    self._start(action)
                case WakeAt(at):
                    self._wake_at(at)
                case Cancel(attempt):
                    self._cancel_attempt(attempt, is_superseded=attempt < winner(actions))
                case Finish():
                    self._finish(ended, None)

    def _start(self, start: Start) -> None:
        if self._chosen:  # by another thread: none is needed any more
            return
        is_beside = self._method.is_hedged and (self._live or self._is_waiting)
        if not is_beside:
            self._advance(start)
            return
        sub = self._attempts.try_pick_beside(start)
        if sub is not None:
            self._begin(start, sub, has_waited=True)
            return
        with self._lock:
            actions = self._attempts.skipped(start, time.monotonic_ns())
        self._perform(actions)

    def _advance(self, start: Start) -> None:
        """Make an attempt on what can be picked, or wait for it, or end the call."""
        if self._is_over:
            return
        attempts = self._attempts
        snapshot = self._method.subchannels.holder.snapshot
        sub = attempts.try_pick(start)
        if sub is not None:
            self._is_waiting = False
            self._end_wait()
            self._begin(start, sub, has_waited=True)
            return
        fail = attempts.failure(snapshot) or self._begin_wait(snapshot)
        if fail is None:
            self._is_waiting = True
            self._watch(snapshot, partial(self._advance, start))
        else:
            self._refuse(fail)

    def _refuse(self, fail: Fail) -> None:
        """End a call that nothing can take."""
        self._finish(None, fail)

    def _begin(self, start: Start, sub: Subchannel, *, has_waited: bool) -> None:
        """Open an attempt that was counted in."""
        attempts = self._attempts
        timeout, metadata = attempts.terms(start, has_waited=has_waited)
        live: Live[InnerT] = Live(start, sub, time.monotonic())
        with self._lock:
            is_wanted = not self._is_over
            if is_wanted:
                self._live = {**(self._live or {}), start.attempt: live}
        if not is_wanted:
            sub.load.abandon()
            return
        try:
            live.inner = self._open(start.attempt, sub, timeout, metadata)
        except BaseException as error:
            self._not_opened(live, error)
            return
        if not self._is_live(live):
            # The call ended, or was cancelled, while the attempt was on its way to us.
            self._drop(live.inner)

    def _not_opened(self, live: Live[InnerT], error: BaseException) -> None:
        if self._take(live.start.attempt) is None:
            return
        actions = self._attempts.made_no_call(live.start, live.sub)
        if actions and is_closed_error(error):
            self._perform(actions)
            return
        if not isinstance(error, Exception):
            self._finish(None, Fail(Code.CANCELLED, CANCELLED))
            raise error
        self._broke(error)

    def attempt_ended(self, number: int, outcome: Outcome | None, inner: InnerT | None) -> None:
        """Take in how an attempt ended, once. The end of an attempt that was dropped is ignored.

        Args:
            number: the attempt's.
            outcome: how it failed, None for OK.
            inner: the face's object for it: the call may end with it.
        """
        with self._lock:
            live = self._take(number)
            is_open = self._chosen in (0, number)
            if live is not None and is_open and outcome is None:
                self._chosen = number
        if live is None:
            return
        if not is_open:
            self._abandon(live)
            return
        if outcome is not None:
            self._failed(live, outcome, inner)
            return
        method = self._method
        self.address = self.address or live.sub.address
        if method.end_hook.of_all:
            assert inner is not None  # it has ended with OK
            method.tell(live.sub, Code.OK, live.started_at, self._trailers(inner))
        if self._tried is None:  # the first attempt, and no plan
            count_out(live.sub, method.budget, time.monotonic_ns())
            self._finish(inner, None)
        else:
            with self._lock:
                actions = self._tried.succeeded(live.start, live.sub, time.monotonic_ns())
            self._perform(actions, inner)

    def _trailers(self, inner: InnerT) -> Sequence[tuple[str, Any]]:
        """Return the trailing metadata of an attempt that is over."""
        raise NotImplementedError

    def _failed(self, live: Live[InnerT], outcome: Outcome, inner: InnerT | None) -> None:
        attempts = self._attempts
        with self._lock:
            is_open = self._chosen in (0, live.start.attempt)
            actions = attempts.failed(live.start, live.sub, outcome, live.started_at) if is_open else ()
            self._chosen = self._chosen or winner(actions)
        if not is_open:
            self._abandon(live)
            return
        attempts.report_failed(live.sub, outcome, live.started_at)
        if inner is None and winner(actions):
            self._finish(None, Fail(to_code(outcome.code), outcome.details))
        else:
            self._perform(actions, inner)

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, which was found hung, if the call may."""
        with self._lock:
            found = [live for live in (self._live or {}).values() if live.sub is sub]
            if (
                self._is_over
                or self._chosen
                or not found
                or not self._attempts.rescue(found[0].start, sub, time.monotonic_ns())
            ):
                return False
            live = found[0]
            self._take(live.start.attempt)
            actions = self._attempts.failed(live.start, sub, RESCUED, live.started_at)
        self._attempts.report_failed(sub, RESCUED, live.started_at)
        if live.inner is not None:
            self._drop(live.inner)
        self._safely(partial(self._perform, actions))
        return True

    def commit(self, number: int) -> bool:
        """Let no other attempt take over; False where one has already, and what this one gave is to be dropped."""
        with self._lock:
            if self._is_over or self._chosen not in (0, number) or number not in (self._live or ()):
                return False
            assert self._live is not None
            self.address = self._live[number].sub.address
            if self._tried is None:
                return True  # There is no other attempt, and a face whose `_make_attempts` comes later remembers.
            self._tried.is_committed = True
            self._chosen = number
        # A cancelled call has no winner.
        has_won = not self._attempts.is_cancelled
        for other in tuple(self._live):
            if other != number:
                self._cancel_attempt(other, is_superseded=has_won and other < number)
        return True

    def _is_live(self, live: Live[InnerT]) -> bool:
        return self._live is not None and self._live.get(live.start.attempt) is live

    def _take(self, number: int) -> Live[InnerT] | None:
        with self._lock:
            if self._live is None or number not in self._live:
                return None
            live = self._live[number]
            self._live = {other: kept for other, kept in self._live.items() if other != number}
            return live

    def _cancel_attempt(self, number: int, *, is_superseded: bool = False) -> None:
        """Count an attempt out before it is cancelled, so that how it ends does not count as a failure.

        It counts against its backend only if a later attempt won: the backend had more time, and gave no answer.
        """
        live = self._take(number)
        if live is None:
            return
        if is_superseded:
            self._attempts.superseded(live.sub)
        self._abandon(live)
        if live.inner is not None:
            self._drop(live.inner)

    def _abandon(self, live: Live[InnerT]) -> None:
        """Count out an attempt of which it does not matter any more how it ends."""
        live.sub.load.abandon()
        if self._method.end_hook.of_all:
            self._method.tell(live.sub, Code.CANCELLED, live.started_at)

    # --- waiting ---------------------------------------------------------------------------------------

    def _watch(self, snapshot: Snapshot, act: Callable[[], None]) -> None:
        """Have `act` called at the next snapshot."""
        holder = self._method.subchannels.holder
        if self._watcher >= 0:  # of a wait before this one
            holder.forget(self._watcher)
        self._watcher = self._when_changed(snapshot.generation, partial(self._safely, act))
        if self._is_over:  # another thread was quicker
            holder.forget(self._watcher)

    def _begin_wait(self, snapshot: Snapshot) -> Fail | None:
        """Wait from now on, if not already; return how the call ends that may not."""
        if self._wait is None:
            now = time.monotonic_ns()
            wait = begin_wait(self._method.subchannels, now, self._attempts.deadline_at, snapshot)
            if isinstance(wait, Fail):
                return wait
            self._wait = wait
            if wait.ends_at is not None:
                self._stop_expiring = self._later(wait.ends_at, self._expire)
            if self._is_over:  # another thread was quicker
                self._end_wait()
        return None

    def _expire(self) -> None:
        wait = self._wait
        if wait is not None:
            self._finish(None, wait.ran_out(self._method.subchannels.holder.snapshot))

    def _end_wait(self) -> None:
        wait, self._wait = self._wait, None
        stop, self._stop_expiring = self._stop_expiring, None
        if wait is not None:
            wait.end()
        if stop is not None:
            stop()

    def _wake_at(self, at: int) -> None:
        if self._stop_waking is not None:
            self._stop_waking()
        self._stop_waking = self._later(at, self._woke)
        if self._is_over:  # another thread was quicker
            self._stop_waking()
        self._watch_closing()

    def _woke(self) -> None:
        with self._lock:
            actions = self._attempts.woke(time.monotonic_ns())
        self._perform(actions)

    def _watch_closing(self) -> None:
        """End with the channel, where only a timer is under way."""
        if self._live or self._is_waiting or self._is_over:
            return
        snapshot = self._method.subchannels.holder.snapshot
        fail = failure(snapshot, wait_for_ready=True)
        if fail is not None:
            self._finish(None, fail)
        else:
            self._watch(snapshot, self._watch_closing)

    def _later(self, at: int, act: Callable[[], None]) -> Callable[[], object]:
        delay = max(0, at - time.monotonic_ns()) / SECOND
        return self._call_later(delay, partial(self._safely, act))

    def _when_changed(self, generation: int, work: Callable[[], None]) -> int:
        """Have `work` run at the first snapshot after this generation; return a number for `SnapshotHolder.forget`."""
        return self._method.subchannels.holder.when_changed(generation, work)

    def _call_later(self, delay: float, work: Callable[[], None]) -> Callable[[], object]:
        """Have `work` run in `delay` seconds; return what takes that back."""
        return self._method.subchannels.call_later(delay, work)

    def _safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self._broke(error)

    # --- end -------------------------------------------------------------------------------------------

    def _finish(self, inner: InnerT | None, fail: Fail | None) -> bool:
        """End the call, once; False where it is over already."""
        if not self._stop():
            return False
        self._over(inner, fail)
        return True

    def _stop(self) -> bool:
        """End what is under way, once; its caller is still to be told. False where it is over already."""
        with self._lock:
            if self._is_over:
                return False
            self._is_over = True
        if self._stop_waking is not None:
            self._stop_waking()
            self._stop_waking = None
        self._end_wait()
        if self._watcher >= 0:
            self._method.subchannels.holder.forget(self._watcher)
        for number in tuple(self._live or ()):
            self._cancel_attempt(number)
        return True

    def cancel_attempts(self, details: str = CANCELLED) -> bool:
        """End the call for its caller, who wants it no more; False where it is over."""
        with self._lock:
            if self._is_over:
                return False
            self._attempts.is_cancelled = True
        return self._finish(None, Fail(Code.CANCELLED, details))

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed."""
        return () if self._tried is None else self._tried.history
