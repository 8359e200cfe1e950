"""User interceptors of the asyncio face, run by grpcio's own machinery; they see calls, never a Watch.

The last link of a chain makes the call with whatever details it was handed: another method, metadata, timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio

from healthlb.config import check_collection
from healthlb.errors import ConfigError

# In grpcio's order: an interceptor of several kinds is of the first one only, as there.
_KINDS = {
    "unary_unary": grpc.aio.UnaryUnaryClientInterceptor,
    "unary_stream": grpc.aio.UnaryStreamClientInterceptor,
    "stream_unary": grpc.aio.StreamUnaryClientInterceptor,
    "stream_stream": grpc.aio.StreamStreamClientInterceptor,
}

MakeCall = Callable[[bytes, Any, float | None, Any, grpc.CallCredentials | None, bool | None], Any]


def sort_interceptors(interceptors: object) -> dict[str, list[grpc.aio.ClientInterceptor]]:
    """Return the interceptors of each arity, in their order; None stands for none, as in grpcio.

    Raises:
        ConfigError: names the culprit (a ValueError, as grpcio raises at construction).
    """
    check_collection("interceptors", interceptors or (), "grpc.aio's client interceptors")
    try:
        given: tuple[Any, ...] = tuple(interceptors or ())  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"interceptors must be a sequence of interceptors, not {interceptors!r}") from None
    found: dict[str, list[grpc.aio.ClientInterceptor]] = {arity: [] for arity in _KINDS}
    for interceptor in given:
        arity = next((arity for arity, kind in _KINDS.items() if isinstance(interceptor, kind)), None)
        if arity is None:
            kinds = ", or ".join(kind.__name__ for kind in _KINDS.values())
            raise ConfigError(f"interceptors: Interceptor {interceptor!r} must be {kinds}")
        found[arity].append(interceptor)
    return found


class _LastLink:
    """Makes the call; it has the method of each kind of interceptor, as it is asked for that of its call alone."""

    def __init__(self, make: MakeCall) -> None:
        self._make = make

    async def _intercept(self, continuation: Any, details: Any, request: Any) -> Any:
        return self._make(
            details.method, request, details.timeout, details.metadata, details.credentials, details.wait_for_ready
        )

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = intercept_stream_stream = _intercept


def last_link(make: MakeCall) -> Any:
    """Return what stands at the end of a chain of interceptors.

    Args:
        make: makes the call from method, request, timeout, metadata, credentials and wait_for_ready.
    """
    return _LastLink(make)
