"""Runs a call that does not block, in both faces: it does what the plan says.

The one rule: the runner holds on to its attempts, and nothing that lives longer holds on to it; so a call that its
user has dropped is collected, and its attempts are cancelled with it, as with grpcio.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import MappingProxyType
from typing import Any, Self

from healthlb.control.attempts import Attempt, Attempts, Method, Outcome
from healthlb.control.delivery import run_callback
from healthlb.core.attempts import FIRST, count_out, failure, winner
from healthlb.core.failover import Action, Cancel, Finish, Start, WakeAt
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code, Fail
from healthlb.core.pickers import ANY_CALL
from healthlb.core.snapshot import Snapshot
from healthlb.core.waiting import Wait, begin_wait

CANCELLED = "Locally cancelled by application!"


class Runner:
    """One call over its attempts.

    Args:
        method: what is called.
        request: the request, or what gives the requests.
        arguments: of grpcio's multi-callable, but for timeout and metadata.
        terms: the caller's timeout, metadata and wait_for_ready.
    """

    # Guards what follows against other threads; a condition in the sync face.
    _lock: AbstractContextManager[Any]
    # What most calls never change; a call is made faster without it.
    _inner: Any = None
    _error: Any = None
    _is_over = False
    _waiting: Start | None = None
    _wait: Wait | None = None
    _stop_waking: Callable[[], object] | None = None
    _stop_expiring: Callable[[], object] | None = None
    _watcher = -1
    _callbacks: tuple[Callable[[], None], ...] = ()
    _hedged: Mapping[int, Subchannel] = MappingProxyType({})
    _tried: Attempts | None = None

    def __init__(
        self, method: Method, request: Any, arguments: Any, terms: tuple[float | None, Any, bool | None]
    ) -> None:
        self._method = method
        self._begun_at = time.monotonic_ns()
        self._terms = terms
        self._request = request
        self._arguments = arguments
        self._live: dict[int, Any] = {}

    # --- what a face has of its own -------------------------------------------------------------------

    def _call(self, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        """Make the call on a subchannel; may raise what grpcio raises."""
        raise NotImplementedError

    def _outcome(self, inner: Any) -> Outcome | None:
        """Return how an attempt failed, None for OK."""
        raise NotImplementedError

    def _trailers(self, inner: Any) -> Iterable[tuple[str, Any]]:
        """Return the trailing metadata of an attempt that is over."""
        raise NotImplementedError

    def _when_done(self, inner: Any, callback: Callable[[], None]) -> None:
        """Call `callback` once an attempt is over, maybe at once; a second time does no harm."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Wake who waits for a change; under the lock."""
        raise NotImplementedError

    def _make_error(self, fail: Fail) -> Any:
        """Return the error of a call that ends without an attempt."""
        raise NotImplementedError

    # --- attempts ----------------------------------------------------------------------------------

    @property
    def _attempts(self) -> Attempts:
        """The call's way through the subchannels; most calls need none."""
        if self._tried is None:
            # One wins, whichever thread is first.
            vars(self).setdefault("_tried", Attempts(self._method, *self._terms, self._begun_at))
        assert self._tried is not None
        return self._tried

    def begin(self) -> Self:
        """Make the first attempt, or begin to wait for it."""
        method = self._method
        method.budget.call_started(self._begun_at)
        sub = method.pool.board.snapshot.picker.pick(ANY_CALL) if method.is_plain else None
        if sub is not None and sub.load.start():
            self._open(FIRST, sub, self._terms[0], self._terms[1])
        else:
            self._begin_with_care()
        return self

    def _begin_with_care(self) -> None:
        attempts = self._attempts
        beside = attempts.begin(time.monotonic_ns()) if self._method.is_hedged else ()
        sub = attempts.try_pick(FIRST)
        if sub is None:
            self._method.pool.start()
            self._advance(FIRST)
        else:
            self._open(FIRST, sub, *attempts.terms(FIRST, has_waited=False))
        self._perform(beside)

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Start():
                    self._start(action)
                case WakeAt(at):
                    delay = max(0, at - time.monotonic_ns()) / SECOND
                    if self._stop_waking is not None:
                        self._stop_waking()
                    self._stop_waking = self._later(delay, Runner._woke)
                    self._watch_closing()
                case Cancel(attempt):
                    # Out of the books first: how it ends is no news of its backend, but if a later one has won.
                    with self._lock:
                        beaten = self._live.pop(attempt, None)
                    if beaten is not None:
                        if attempt < winner(actions):
                            self._attempts.beaten(self._hedged[attempt])
                        beaten.cancel()
                case Finish(attempt):
                    self._finish(self._live.get(attempt), None)

    def _later(self, delay: float, act: Callable[[Runner], None]) -> Callable[[], object]:
        return self._method.pool.call_later(delay, partial(_on, weakref.ref(self), act))

    def _watch_closing(self) -> None:
        """End with the channel, where only a timer is under way."""
        if self._live or self._waiting is not None or self._is_over:
            return
        board = self._method.pool.board
        snapshot = board.snapshot
        fail = failure(snapshot, wait_for_ready=True)
        if fail is not None:
            self._finish(None, self._make_error(fail))
        else:
            act = partial(_on, weakref.ref(self), Runner._watch_closing)
            self._watcher = board.when_changed(snapshot.generation, act)

    def _woke(self) -> None:
        with self._lock:
            actions = self._attempts.woke(time.monotonic_ns())
        self._perform(actions)

    def _start(self, start: Start) -> None:
        is_beside = self._method.is_hedged and (self._live or self._waiting is not None)
        if not is_beside:
            self._advance(start)
            return
        sub = self._attempts.try_pick_beside(start)
        if sub is not None:
            self._open(start, sub, *self._attempts.terms(start, has_waited=True))
            return
        with self._lock:
            actions = self._attempts.skipped(start, time.monotonic_ns())
        self._perform(actions)

    def _advance(self, start: Start) -> None:
        attempts = self._attempts
        while not self._is_over:
            snapshot = self._method.pool.board.snapshot
            sub = attempts.try_pick(start)
            if sub is not None:
                self._waiting = None
                self._end_wait()
                self._open(start, sub, *attempts.terms(start, has_waited=True))
                return
            fail = attempts.failure(snapshot) or self._begin_wait(snapshot)
            if fail is None:
                self._wait_on(start, snapshot.generation)
            else:
                self._finish(None, self._make_error(fail))
            return

    def _begin_wait(self, snapshot: Snapshot) -> Fail | None:
        """Wait from now on, if not already; return how the call ends that may not."""
        if self._wait is None:
            now = time.monotonic_ns()
            wait = begin_wait(self._method.pool, now, self._attempts.deadline_at, snapshot)
            if isinstance(wait, Fail):
                return wait
            self._wait = wait
            if wait.ends_at is not None:
                self._stop_expiring = self._later(max(0, wait.ends_at - now) / SECOND, Runner._expire)
            if self._is_over:  # another thread was quicker
                self._end_wait()
        return None

    def _wait_on(self, start: Start, generation: int) -> None:
        pool = self._method.pool
        reference = weakref.ref(self)
        self._waiting = start
        pool.waiting.add(self)
        self._watcher = pool.board.when_changed(generation, partial(_on, reference, partial(_advance, start)))

    def _expire(self) -> None:
        wait = self._wait
        if wait is not None:
            self._finish(None, self._make_error(wait.ran_out(self._method.pool.board.snapshot)))

    def _end_wait(self) -> None:
        wait, self._wait = self._wait, None
        stop, self._stop_expiring = self._stop_expiring, None
        if wait is not None:
            wait.end()
        if stop is not None:
            stop()

    def _open(self, start: Start, sub: Subchannel, timeout: float | None, metadata: Any) -> None:
        started_at = time.monotonic()
        try:
            inner = self._call(sub, timeout, metadata)
        except Exception as error:
            actions = self._attempts.made_no_call(start, sub)
            if not actions or not is_closed_error(error):
                raise
            self._perform(actions)
            return
        except BaseException:
            sub.load.abandon()
            raise
        with self._lock:
            is_wanted = not self._is_over
            self._live[start.attempt] = inner
            if self._method.is_hedged:
                self._hedged = {**self._hedged, start.attempt: sub}
            else:
                self._inner = inner
            self._wake()
        self._when_done(inner, _Ended(self, start, sub, started_at))
        if not is_wanted:
            inner.cancel()

    def _attempt_ended(self, start: Start, sub: Subchannel, started_at: float) -> None:
        inner = self._live.get(start.attempt)
        if self._is_over or inner is None:
            sub.load.abandon()
            if self._method.told.of_all:
                self._method.tell(sub, Code.CANCELLED, started_at)
            return
        outcome = self._outcome(inner)
        if outcome is None and self._method.told.of_all:
            self._method.tell(sub, Code.OK, started_at, self._trailers(inner))
        if outcome is None and (self._tried is None or self._tried.plan is None):
            # The way of nearly all calls: the first attempt, and nothing was planned beside it.
            count_out(sub, self._method.budget, time.monotonic_ns())
            self._finish(inner, None)
            return
        with self._lock:
            if outcome is None:
                actions = self._attempts.succeeded(start, sub, time.monotonic_ns())
            else:
                actions = self._attempts.failed(start, sub, outcome, started_at)
            if not isinstance(actions[-1] if actions else None, Finish):
                del self._live[start.attempt]
                if self._inner is inner:
                    self._inner = None
        self._perform(actions)

    def _finish(self, inner: Any, error: Any) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            self._inner = inner
            self._error = error
            callbacks, self._callbacks = self._callbacks, ()
            self._wake()
        if self._stop_waking is not None:
            self._stop_waking()
        self._end_wait()
        if self._watcher >= 0:
            self._method.pool.board.forget(self._watcher)
        for callback in callbacks:
            run_callback(callback)

    # --- what the caller sees ------------------------------------------------------------------------

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed."""
        return () if self._tried is None else self._tried.history

    def cancel(self) -> bool:
        """End the call with CANCELLED; False where it is over."""
        with self._lock:
            if self._is_over:
                return False
            self._attempts.is_cancelled = True
            live = list(self._live.values())
        if not live or self._method.is_hedged:
            self._finish(None, self._make_error(Fail(Code.CANCELLED, CANCELLED)))
        for inner in live:
            inner.cancel()
        return True

    def done(self) -> bool:
        """Whether the call is over."""
        return self._is_over

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None without one."""
        return self._attempts.time_remaining

    def _add_callback(self, callback: Callable[[], None]) -> bool:
        with self._lock:
            if self._is_over:
                return False
            self._callbacks += (callback,)
        return True

    def __repr__(self) -> str:
        what = self._inner or self._error or "waiting"
        return f"<{type(self).__name__} {self._method.name}: {what}>"


def is_closed_error(error: Exception) -> bool:
    """Whether grpcio refused to make a call since its channel is closed."""
    return isinstance(error, ValueError) or type(error).__name__ == "UsageError"


def _advance(start: Start, call: Runner) -> None:
    call._advance(start)


def _on(reference: weakref.ref[Runner], act: Callable[[Runner], None]) -> None:
    call = reference()
    if call is not None:
        try:
            act(call)
        except Exception as error:
            _fail(call, error)


def _fail(call: Runner, error: Exception) -> None:
    # There is no caller's frame to raise it in: the call ends with it.
    call._finish(None, call._make_error(Fail(Code.INTERNAL, f"the next attempt failed: {error!r}")))


class _Ended:
    """What is to be done when an attempt is over, once."""

    __slots__ = ("_is_told", "_reference", "_start", "_started_at", "_sub")

    def __init__(self, call: Runner, start: Start, sub: Subchannel, started_at: float) -> None:
        self._reference = weakref.ref(call)
        self._start = start
        self._sub = sub
        self._started_at = started_at
        self._is_told = False

    def __call__(self) -> None:
        if self._is_told:
            return
        self._is_told = True
        call = self._reference()
        if call is None:
            self._sub.load.abandon()
            return
        try:
            call._attempt_ended(self._start, self._sub, self._started_at)
        except Exception as error:
            _fail(call, error)
