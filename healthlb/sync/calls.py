"""The four multi-callables of the sync face.

The one rule: a call that finds a READY subchannel is one pick, one plain grpcio call and two updates of a
counter; everything else is off that path.
"""

from __future__ import annotations

import time
from typing import Any

import grpc

from healthlb.control.attempts import Attempts, Method
from healthlb.sync.attempts import outcome_of, pick
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
        attempts = Attempts(self._method, timeout, metadata, wait_for_ready)
        return OngoingCall(attempts, form, request, (metadata, credentials, None, compression)).begin()


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
        attempts = Attempts(self._method, timeout, metadata, wait_for_ready)
        while True:
            sub = pick(attempts)
            try:
                call = getattr(self._method.on(sub), form)
                # wait_for_ready stays here: below, the call would wait for this one subchannel.
                result = call(request, attempts.timeout, metadata, credentials, None, compression)
            except grpc.RpcError as error:
                if attempts.failed(sub, outcome_of(error)):
                    error.attempts = attempts.history  # type: ignore[attr-defined]
                    raise
            except ValueError:
                if not attempts.lost(sub):
                    raise
            except BaseException:
                sub.load.abandon()
                raise
            else:
                sub.load.succeed(time.monotonic_ns())
                return result

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


class UnaryUnary(_UnaryResponse, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""


class UnaryStream(_StreamResponse, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class StreamUnary(_UnaryResponse, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response."""


class StreamStream(_StreamResponse, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""
