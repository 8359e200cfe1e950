"""A call that does not block: a future, or a stream of responses.

The one rule: to its caller it is one call from beginning to end, however many attempts it takes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import grpc

from healthlb.control.attempts import Method, Outcome
from healthlb.control.replay import Replay
from healthlb.control.runner import CANCELLED, Runner
from healthlb.core.load import Subchannel
from healthlb.core.messages import Fail
from healthlb.sync.attempts import outcome_of
from healthlb.sync.errors import CallError


class OngoingCall(Runner, grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg,misc]
    """One call, over as many attempts as it takes.

    Args:
        method: what is called.
        request: the request, or the iterator of requests.
        arguments: credentials, wait_for_ready and compression.
        terms: the caller's timeout, metadata and wait_for_ready.
        form: `future` or `__call__`, the form of grpcio's multi-callable to use.
    """

    def __init__(
        self,
        method: Method,
        request: Any,
        arguments: Any,
        terms: tuple[float | None, Any, bool | None],
        form: str,
    ) -> None:
        super().__init__(method, request, arguments, terms)
        self._lock = self._changed = threading.Condition()
        self._form = form
        self._replay = Replay(request, method.policy.buffer_limit) if method.has_request_stream else None

    def _call(self, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        request = self._request if self._replay is None else self._replay.reader()
        method = self._method
        call = getattr(method.opened.get(sub) or method.open(sub), self._form)
        return call(request, timeout, metadata, *self._arguments)

    def _outcome(self, inner: Any) -> Outcome | None:
        if inner.code() is grpc.StatusCode.OK:
            return None
        if self._replay is not None and not self._replay.rewind():
            self._attempts.is_committed = True
        return outcome_of(inner)

    def _trailers(self, inner: Any) -> Iterable[tuple[str, Any]]:
        return inner.trailing_metadata() or ()

    def _when_done(self, inner: Any, callback: Callable[[], None]) -> None:
        if not inner.add_callback(callback):
            callback()

    def _wake(self) -> None:
        self._changed.notify_all()

    def _make_error(self, fail: Fail) -> CallError:
        return CallError(fail, self.attempts)

    def _commit(self, inner: Any) -> bool:
        """Let no other attempt take over; False where one has already, and what `inner` gave is to be dropped."""
        with self._changed:
            if self._inner is not inner:
                return False
            self._attempts.is_committed = True
        if self._replay is not None:
            self._replay.commit()
        return True

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
            if inner is self._error or self._is_final(inner):
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
                response = inner.__next__()
            except grpc.RpcError:
                _end_beneath(inner)
                if self._is_final(inner):
                    raise self from None
            else:
                if self._attempts.is_committed or self._commit(inner):
                    return response

    next = __next__

    def initial_metadata(self) -> Any:
        """The server's initial metadata; blocks until it is there. From then on no other attempt takes over."""
        while True:
            inner = self._started()
            metadata = inner.initial_metadata()
            if inner is self._error or ((inner.is_active() or self._is_final(inner)) and self._commit(inner)):
                return metadata

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

    def cancelled(self) -> bool:
        """Whether the caller cancelled it."""
        if self._inner is not None:
            return bool(self._inner.cancelled())
        return self._error is not None and self._error.details() == CANCELLED

    def running(self) -> bool:
        """Whether the call is under way."""
        return not self._is_over

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call `callback` once the call is over; False where it is already."""
        return self._add_callback(callback)

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
        return self._get("result", timeout)

    def exception(self, timeout: float | None = None) -> Any:
        """Return the error, None for none; raises as `result` does on time-out and cancellation."""
        return self._get("exception", timeout)

    def traceback(self, timeout: float | None = None) -> Any:
        """Return the error's traceback; raises as `result` does on time-out and cancellation."""
        return self._get("traceback", timeout)

    def _get(self, name: str, timeout: float | None) -> Any:
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
        return Runner.__repr__(self)

    __str__ = __repr__


def _end_beneath(inner: Any) -> None:
    # A response that cannot be deserialized ends a stream for its reader alone: grpcio lets it run on, and calls
    # nobody back (seen on 1.85.1).
    with inner._state.condition:
        is_running = inner._state.callbacks is not None
    if is_running:
        inner._call.cancel(grpc.StatusCode.INTERNAL.value[0], inner.details())
