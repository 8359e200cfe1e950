"""User interceptors of the aio face, run by grpcio's own machinery.

The one rule: an interceptor sees a call as its caller made it, once, however many attempts it takes; and never
a Watch. So the chain runs on a channel that never connects, and its last link makes the real call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import grpc.aio

from healthlb.control.grpc_transport import open_intercepted_channel
from healthlb.errors import ConfigError

_KINDS = (
    grpc.aio.UnaryUnaryClientInterceptor,
    grpc.aio.UnaryStreamClientInterceptor,
    grpc.aio.StreamUnaryClientInterceptor,
    grpc.aio.StreamStreamClientInterceptor,
)

_real_call: ContextVar[Callable[..., Any]] = ContextVar("healthlb_real_call")


def check_interceptors(interceptors: object) -> tuple[grpc.aio.ClientInterceptor, ...]:
    """Return the interceptors; None stands for none, as in grpcio.

    Raises:
        ConfigError: names the culprit (a ValueError, as grpcio raises at construction).
    """
    try:
        checked: tuple[Any, ...] = tuple(interceptors or ())  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"interceptors must be a sequence of interceptors, not {interceptors!r}") from None
    for interceptor in checked:
        if not isinstance(interceptor, _KINDS):
            kinds = ", or ".join(kind.__name__ for kind in _KINDS)
            raise ConfigError(f"interceptors: Interceptor {interceptor!r} must be {kinds}")
    return checked


def _call(details: Any, request: Any) -> Any:
    return _real_call.get()(
        request,
        timeout=details.timeout,
        metadata=details.metadata,
        credentials=details.credentials,
        wait_for_ready=details.wait_for_ready,
    )


class _UnaryUnaryEnd(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return _call(client_call_details, request)


class _UnaryStreamEnd(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return _call(client_call_details, request)


class _StreamUnaryEnd(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return _call(client_call_details, request_iterator)


class _StreamStreamEnd(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return _call(client_call_details, request_iterator)


class InterceptedMethods:
    """Wraps multi-callables in the user's interceptors.

    Args:
        interceptors: in the order they see a call.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ClientInterceptor]) -> None:
        self._interceptors = (*interceptors, _UnaryUnaryEnd(), _UnaryStreamEnd(), _StreamUnaryEnd(), _StreamStreamEnd())
        self._front: grpc.aio.Channel | None = None

    def wrap(self, arity: str, name: str, multi_callable: Any) -> Callable[..., Any]:
        """Return what makes `multi_callable`'s calls through the interceptors."""

        def call(*request: Any, compression: grpc.Compression | None = None, **arguments: Any) -> Any:
            if self._front is None:
                self._front = open_intercepted_channel(self._interceptors)

            def real(request: Any, **details: Any) -> Any:
                return multi_callable(request, compression=compression, **details)

            token = _real_call.set(real)
            try:
                return getattr(self._front, arity)(name)(*request, **arguments)
            finally:
                _real_call.reset(token)

        return call
