"""The four multi-callables of the aio face."""

from __future__ import annotations

from asyncio import _get_running_loop
from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from healthlb.aio.ongoing import OngoingCall, StreamStreamCall, StreamUnaryCall, UnaryStreamCall, UnaryUnaryCall
from healthlb.aio.pool import Pool
from healthlb.control.attempts import Method

_NONE: Mapping[str, Any] = {}


class _MultiCallable:
    _kind: type[OngoingCall]

    def __init__(self, method: Method) -> None:
        self._method = method

    def _begin(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> Any:
        method = self._method
        pool: Pool = method.pool  # type: ignore[assignment]
        if _get_running_loop() is not pool.loop:
            pool.check_caller()
        # wait_for_ready stays here: below, the call would wait for this one subchannel.
        arguments = _NONE
        if credentials is not None or compression is not None:
            if credentials is not None and pool.settings.credentials is None:
                raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
            arguments = {"credentials": credentials, "compression": compression}
        return self._kind(method, request, arguments, (timeout, metadata, wait_for_ready)).begin()


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
        return self._begin(request, timeout, metadata, credentials, wait_for_ready, compression)


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
        return self._begin(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)


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
