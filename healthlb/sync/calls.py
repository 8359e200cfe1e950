"""The four multi-callables of the sync face.

The one rule: a call that finds a READY subchannel is one pick, one plain grpcio call and two updates of a
counter; everything else is off that path.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import grpc

from healthlb.control.attempts import Attempts, Method
from healthlb.control.replay import Replay
from healthlb.core.attempts import FIRST
from healthlb.core.failover import Action, Start, WakeAt
from healthlb.core.messages import Code
from healthlb.sync.attempts import outcome_of, pause, wait_for_pick
from healthlb.sync.ongoing import OngoingCall


class _MultiCallable:
    """What all four share."""

    def __init__(self, method: Method) -> None:
        self._method = method

    def _ongoing(
        self,
        form: str,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        # wait_for_ready stays here: below, the call would wait for this one subchannel.
        arguments = (credentials, None, compression)
        return OngoingCall(self._method, request, arguments, (timeout, metadata, wait_for_ready), form).begin()


class _UnaryResponse(_MultiCallable):
    """The forms that block until the one response is there."""

    def _blocking(
        self,
        form: str,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        method = self._method
        if method.is_hedged:
            call = self._ongoing("future", request, timeout, metadata, credentials, wait_for_ready, compression)
            return call.result() if form == "__call__" else (call.result(), call)
        begun_at = time.monotonic_ns()
        method.budget.call_started(begun_at)
        attempts = Attempts(method, timeout, metadata, wait_for_ready, begun_at)
        replay = Replay(request, method.policy.buffer_limit) if method.has_request_stream else None
        start = FIRST
        # The other form has no trailers.
        beneath = "with_call" if method.told.needs_reports else form
        while True:
            sub = attempts.try_pick(start)
            has_waited = sub is None
            if sub is None:
                sub = wait_for_pick(attempts, start)
            started_at = time.monotonic()
            terms = attempts.terms(start, has_waited=has_waited)
            try:
                call = getattr(method.opened.get(sub) or method.open(sub), beneath)
                body = request if replay is None else replay.reader()
                # wait_for_ready stays here: below, the call would wait for this one subchannel.
                result = call(body, *terms, credentials, None, compression)
            except grpc.RpcError as error:
                attempts.is_committed = replay is not None and not replay.rewind()
                start = _next(attempts, attempts.failed(start, sub, outcome_of(error), started_at), error)
            except ValueError as error:
                start = _next(attempts, attempts.made_no_call(start, sub), error)
            except BaseException:
                sub.load.abandon()
                raise
            else:
                attempts.succeeded(start, sub, time.monotonic_ns())
                if method.told.of_all:
                    trailers = result[1].trailing_metadata() if beneath == "with_call" else ()
                    method.tell(sub, Code.OK, started_at, trailers)
                return result if form == beneath else result[0]

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call and return the response; see `grpc.UnaryUnaryMultiCallable`."""
        return self._blocking("__call__", request, timeout, metadata, credentials, wait_for_ready, compression)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> tuple[Any, grpc.Call]:
        """Call and return the response and the call; see `grpc.UnaryUnaryMultiCallable`."""
        result: tuple[Any, grpc.Call] = self._blocking(
            "with_call", request, timeout, metadata, credentials, wait_for_ready, compression
        )
        return result

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call without blocking; see `grpc.UnaryUnaryMultiCallable`."""
        return self._ongoing("future", request, timeout, metadata, credentials, wait_for_ready, compression)


class _StreamResponse(_MultiCallable):
    """The form that returns an iterator of responses."""

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Call without blocking and return the responses; see `grpc.UnaryStreamMultiCallable`."""
        return self._ongoing("__call__", request, timeout, metadata, credentials, wait_for_ready, compression)


def _next(attempts: Attempts, actions: Sequence[Action], error: Exception) -> Start:
    """Return the attempt that the plan asks for, after the wait that it asks for, or raise `error`."""
    match actions:
        case [Start() as start]:
            return start
        case [WakeAt(at)]:
            pause(attempts.method.pool, at)
            if not attempts.method.pool.is_closed:
                return _next(attempts, attempts.woke(time.monotonic_ns()), error)
    error.attempts = attempts.history  # type: ignore[attr-defined]
    raise error


class UnaryUnary(_UnaryResponse, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""


class UnaryStream(_StreamResponse, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class StreamUnary(_UnaryResponse, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response."""


class StreamStream(_StreamResponse, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""
