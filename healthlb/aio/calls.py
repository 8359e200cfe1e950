"""The four multi-callables of the aio face."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from healthlb.aio.ongoing import OngoingCall, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from healthlb.control.attempts import Method


class _MultiCallable:
    _kind: type[OngoingCall]

    def __init__(self, method: Method) -> None:
        self._method = method

    def _check_secure(self) -> None:
        if self._method.pool.settings.credentials is None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels")


class _UnaryRequest(_MultiCallable):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the call; see `grpc.aio.UnaryUnaryMultiCallable`."""
        if credentials is not None:
            self._check_secure()
        terms = (timeout, metadata, wait_for_ready)
        return self._kind(self._method, request, (credentials, compression), terms).begin()


class _StreamRequest(_MultiCallable):
    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the call; see `grpc.aio.StreamUnaryMultiCallable`."""
        if credentials is not None:
            self._check_secure()
        terms = (timeout, metadata, wait_for_ready)
        return self._kind(self._method, request_iterator, (credentials, compression), terms).begin()


class UnaryUnary(_UnaryRequest, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one response."""

    _kind = UnaryUnaryCall


class UnaryStream(_UnaryRequest, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of responses."""

    _kind = UnaryStreamCall


class StreamUnary(_StreamRequest, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one response."""

    _kind = StreamUnaryCall


class StreamStream(_StreamRequest, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""

    _kind = StreamStreamCall
