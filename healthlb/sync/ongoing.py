"""A call that does not block: a future, or a stream of responses.

The one rule: to its caller it is one call from beginning to end, however often it had to wait or pick
again before an attempt left. It holds on to the attempt under way and to nothing else, so that dropping it
cancels that attempt, as with grpcio.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Self

import grpc

from healthlb.control.attempts import Attempt, Attempts
from healthlb.control.delivery import run_callback
from healthlb.control.pool import failure, too_late
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Fail
from healthlb.sync.attempts import outcome_of
from healthlb.sync.errors import CallError

_CANCELLED = "Locally cancelled by application!"


class OngoingCall(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """One call, over as many attempts as it takes.

    Args:
        attempts: its way through the subchannels.
        form: `future` or `__call__`, the form of grpcio's multi-callable to use.
        request: the request, or the iterator of requests.
        rest: metadata, credentials, wait_for_ready and compression of each attempt.
    """

    def __init__(self, attempts: Attempts, form: str, request: Any, rest: tuple[Any, ...]) -> None:
        super().__init__()
        self._attempts = attempts
        self._form = form
        self._request = request
        self._rest = rest
        self._changed = threading.Condition()
        self._inner: Any = None
        self._error: CallError | None = None
        self._is_over = False
        self._stop_timer: Callable[[], object] | None = None
        self._watcher = -1
        self._callbacks: list[Callable[[], None]] = []

    def begin(self) -> Self:
        """Make the first attempt, or begin to wait for it."""
        sub = self._attempts.try_pick()
        if sub is None:
            self._attempts.method.pool.start()
            self._advance()
        elif not self._open(sub):
            self._advance()
        return self

    # --- attempts --------------------------------------------------------------------------------

    def _advance(self) -> None:
        attempts = self._attempts
        pool = attempts.method.pool
        while not self._is_over:
            snapshot = pool.board.snapshot
            sub = attempts.try_pick()
            if sub is None:
                fail = failure(snapshot, wait_for_ready=attempts.wait_for_ready)
                if fail is not None:
                    self._end(fail)
                else:
                    self._wait(snapshot.generation)
                return
            attempts.waited()
            if self._open(sub):
                return

    def _wait(self, generation: int) -> None:
        pool = self._attempts.method.pool
        reference = weakref.ref(self)
        delay = self._attempts.time_remaining
        if delay is not None and self._stop_timer is None:
            self._stop_timer = pool.call_later(delay, lambda: _on(reference, OngoingCall._expire))
        self._watcher = pool.board.when_changed(generation, lambda: _on(reference, OngoingCall._advance))

    def _expire(self) -> None:
        if self._inner is None:
            self._end(too_late(self._attempts.method.pool.board.snapshot))

    def _end(self, fail: Fail) -> None:
        self._finish(CallError(fail, self._attempts.history))

    def _open(self, sub: Subchannel) -> bool:
        try:
            call = getattr(self._attempts.method.on(sub), self._form)
            inner = call(self._request, self._attempts.timeout, *self._rest)
        except ValueError:
            if self._attempts.lost(sub):
                return False
            raise
        except BaseException:
            sub.load.abandon()
            raise
        with self._changed:
            is_wanted = not self._is_over
            self._inner = inner
            self._changed.notify_all()
        reference = weakref.ref(self)
        if not inner.add_callback(lambda: _attempt_ended(reference, sub)):
            self._attempt_ended(sub)
        if not is_wanted:
            inner.cancel()
        return True

    def _attempt_ended(self, sub: Subchannel) -> None:
        inner = self._inner
        if inner.code() is grpc.StatusCode.OK:
            sub.load.succeed(time.monotonic_ns())
        elif not self._attempts.failed(sub, outcome_of(inner)):
            with self._changed:
                self._inner = None
            self._advance()
            return
        self._finish(None)

    def _finish(self, error: CallError | None) -> None:
        with self._changed:
            if self._is_over:
                return
            self._is_over = True
            self._error = error
            callbacks, self._callbacks = self._callbacks, []
            self._changed.notify_all()
        if self._stop_timer is not None:
            self._stop_timer()
            self._attempts.method.pool.board.forget(self._watcher)
        for callback in callbacks:
            run_callback(callback)

    # --- what the caller sees ----------------------------------------------------------------------

    def _started(self) -> Any:
        """Return the attempt under way, or the error of a call that has none; wait for either."""
        inner = self._inner
        if inner is not None and self._error is None:
            return inner
        with self._changed:
            self._changed.wait_for(lambda: self._inner is not None or self._error is not None)
            return self._inner if self._error is None else self._error

    def _is_final(self, inner: Any) -> bool:
        """Whether an attempt that has ended was the last; wait until that is decided."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._inner is not inner)
            return self._inner is inner

    def _ask(self, name: str) -> Any:
        while True:
            inner = self._started()
            value = getattr(inner, name)()
            if inner is self._error or inner.is_active() or self._is_final(inner):
                return value

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Return the next response.

        Raises:
            StopIteration: the stream ended with OK.
            grpc.RpcError: it ended otherwise.
        """
        while True:
            inner = self._started()
            if inner is self._error:
                raise self
            try:
                return inner.__next__()
            except grpc.RpcError:
                if self._is_final(inner):
                    raise self from None

    next = __next__

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed."""
        return self._attempts.history

    def initial_metadata(self) -> Any:
        """The server's initial metadata; blocks until it is there."""
        return self._ask("initial_metadata")

    def trailing_metadata(self) -> Any:
        """The server's trailing metadata; blocks until the call is over."""
        return self._ask("trailing_metadata")

    def code(self) -> Any:
        """The status code; blocks until the call is over."""
        return self._ask("code")

    def details(self) -> Any:
        """The status's text; blocks until the call is over."""
        return self._ask("details")

    def debug_error_string(self) -> Any:
        """C-core's own text; blocks until the call is over."""
        return self._ask("debug_error_string")

    def is_active(self) -> bool:
        """Whether the call is under way."""
        return not self._is_over

    def time_remaining(self) -> float | None:  # type: ignore[override]
        """Seconds to the deadline, None without one."""
        return self._attempts.time_remaining

    def cancel(self) -> bool:
        """End the call with CANCELLED; False where it is over."""
        with self._changed:
            if self._is_over:
                return False
            inner = self._inner
        if inner is not None:
            return bool(inner.cancel())
        self._end(Fail(Code.CANCELLED, _CANCELLED))
        return True

    def cancelled(self) -> bool:
        """Whether the caller cancelled it."""
        if self._inner is not None:
            return bool(self._inner.cancelled())
        return self._error is not None and self._error.details() == _CANCELLED

    def running(self) -> bool:
        """Whether the call is under way."""
        return not self._is_over

    def done(self) -> bool:
        """Whether the call is over."""
        return self._is_over

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call `callback` once the call is over; False where it is already."""
        with self._changed:
            if self._is_over:
                return False
            self._callbacks.append(callback)
        return True

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        """Call `fn` with this call once it is over, maybe at once."""
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    def result(self, timeout: float | None = None) -> Any:
        """Return the response; block until it is there.

        Raises:
            grpc.FutureTimeoutError: not within `timeout` seconds.
            grpc.FutureCancelledError: the caller cancelled it.
            grpc.RpcError: the call failed.
        """
        return self._outcome("result", timeout)

    def exception(self, timeout: float | None = None) -> Any:
        """Return the error, None for none; raises as `result` does on time-out and cancellation."""
        return self._outcome("exception", timeout)

    def traceback(self, timeout: float | None = None) -> Any:
        """Return the error's traceback; raises as `result` does on time-out and cancellation."""
        return self._outcome("traceback", timeout)

    def _outcome(self, name: str, timeout: float | None) -> Any:
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_over, timeout):
                raise grpc.FutureTimeoutError()
        if self.cancelled():
            raise grpc.FutureCancelledError()
        source = self._inner if self._error is None else self._error
        try:
            value = getattr(source, name)()
        except grpc.RpcError:
            raise self from None
        return self if name == "exception" and value is not None else value

    def __repr__(self) -> str:
        return f"<OngoingCall {self._attempts.method.name}: {self._inner or self._error or 'waiting for a subchannel'}>"

    __str__ = __repr__


def _on(reference: weakref.ref[OngoingCall], act: Callable[[OngoingCall], None]) -> None:
    call = reference()
    if call is not None:
        act(call)


def _attempt_ended(reference: weakref.ref[OngoingCall], sub: Subchannel) -> None:
    call = reference()
    if call is None:
        sub.load.abandon()
    else:
        call._attempt_ended(sub)
