"""What the asyncio face uses of grpcio beneath its public names, in one place.

Calls are objects of grpcio's own classes (`grpc.aio._call`), and so behave as its own do; what stands beneath them
is ours. `tests/lifecycle/test_grpcio_aio.py` checks every name here against the installed version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from healthlb.calls.metadata import check_types, illegal_keys
from healthlb.health_client.answer import HealthAdviser

# By module, not by grpc.aio's names: instrumentation replaces those with plain functions (seen with OpenTelemetry).
_CALL: Any = import_module("grpc.aio._call")
_CHANNEL: Any = import_module("grpc.aio._channel")
_COMMON: Any = import_module("grpc._common")
_CYGRPC: Any = import_module("grpc._cython.cygrpc")
_OBSERVABILITY: Any = import_module("grpc._observability")
_INTERCEPTOR: Any = import_module("grpc.aio._interceptor")

UnaryUnaryCall: Any = _CALL.UnaryUnaryCall
UnaryStreamCall: Any = _CALL.UnaryStreamCall
StreamUnaryCall: Any = _CALL.StreamUnaryCall
StreamStreamCall: Any = _CALL.StreamStreamCall

UnaryUnaryMultiCallable: Any = _CHANNEL.UnaryUnaryMultiCallable
UnaryStreamMultiCallable: Any = _CHANNEL.UnaryStreamMultiCallable
StreamUnaryMultiCallable: Any = _CHANNEL.StreamUnaryMultiCallable
StreamStreamMultiCallable: Any = _CHANNEL.StreamStreamMultiCallable

InterceptedUnaryUnaryCall: Any = _INTERCEPTOR.InterceptedUnaryUnaryCall
InterceptedUnaryStreamCall: Any = _INTERCEPTOR.InterceptedUnaryStreamCall
InterceptedStreamUnaryCall: Any = _INTERCEPTOR.InterceptedStreamUnaryCall
InterceptedStreamStreamCall: Any = _INTERCEPTOR.InterceptedStreamStreamCall

Status: Any = _CYGRPC.AioRpcStatus
EOF: Any = _CYGRPC.EOF
CallCredentials: Any = _CYGRPC.CallCredentials
InternalError: type[Exception] = _CYGRPC.InternalError
ExecuteBatchError: type[Exception] = _CYGRPC.ExecuteBatchError

# Makes grpcio's error of headers and a status.
make_error: Any = _CALL._create_rpc_error
# Log what a serializer raises, and return None.
serialize: Any = _COMMON.serialize
deserialize: Any = _COMMON.deserialize

# Iterations of the loop until it has what C-core says of a batch of operations: the least that was seen.
_ITERATIONS = 3


class CoreCall(Protocol):
    """A call of C-core (`cygrpc._AioCall`): what attempts use of one. Metadata are tuples of pairs."""

    _status: Any
    """An `AioRpcStatus`, None while it is under way."""
    _initial_metadata: tuple[Any, ...] | None
    """The server's, None before they came."""

    def done(self) -> bool:
        """Whether it is over."""

    def is_ok(self) -> bool:
        """Whether it ended with OK."""

    def cancel(self, details: str) -> object:
        """End it with CANCELLED."""

    def set_internal_error(self, details: str) -> object:
        """End it with INTERNAL, and leave what is on its way."""

    def add_done_callback(self, callback: Callable[[], object]) -> object:
        """Call `callback` once it is over, maybe at once."""

    async def status(self) -> Any:
        """Return the status once it is over."""

    async def initial_metadata(self) -> tuple[Any, ...]:
        """Return the server's, or nothing where it ended without."""

    async def unary_unary(self, request: bytes | None, metadata: tuple[Any, ...], context: Any) -> bytes | None:
        """Send one request and return the response; None where it did not end with OK."""

    async def initiate_unary_stream(self, request: bytes, metadata: tuple[Any, ...], context: Any) -> None:
        """Send one request, and return when the call has begun; responses follow."""

    async def stream_unary(self, metadata: tuple[Any, ...], sent: Callable[[], object], context: Any) -> bytes | None:
        """Begin, call `sent` when requests may follow, and return the response; None where it did not end with OK."""

    async def initiate_stream_stream(self, metadata: tuple[Any, ...], sent: Callable[[], object], context: Any) -> None:
        """Begin, and call `sent` when requests may follow."""

    async def send_serialized_message(self, message: bytes) -> None:
        """Send one of many requests."""

    async def send_receive_close(self) -> None:
        """Say that no request follows."""

    async def receive_serialized_message(self) -> Any:
        """Return the next response, or EOF."""


# Makes a call of C-core: by its deadline (seconds of time.time(), None for none), its call credentials, and None.
MakeCall = Callable[[float | None, Any, None], CoreCall]


def call_maker(multi_callable: Any) -> MakeCall:
    """Return what makes the calls of C-core that a plain multi-callable makes its Python calls on."""
    make = multi_callable._channel.call
    method = multi_callable._method
    handle = getattr(multi_callable, "_registered_call_handle", 0)
    if not handle:
        return partial(make, method)
    return lambda deadline, credentials, wait_for_ready: make(method, deadline, credentials, wait_for_ready, handle)


def census_context() -> Any:
    """Return what a call carries for grpcio's observability plugin, None where there is none."""
    return None if _OBSERVABILITY._OBSERVABILITY_PLUGIN is None else _CYGRPC.build_census_context()


async def check_metadata(metadata: tuple[tuple[str, str | bytes], ...]) -> None:
    """Raise what C-core's calls of one request and one response raise of metadata that cannot be sent.

    Raises:
        TypeError: a key or a value of another type.
        grpc.aio.InternalError: a text that HTTP/2 does not allow.
    """
    check_types(metadata)
    illegal = illegal_keys(metadata)
    if illegal:
        await yield_to_core()
        raise ExecuteBatchError(f"Metadata key or value is invalid: {illegal[0]!r}")


async def yield_to_core() -> None:
    """Wait for as long as C-core takes at least to tell how operations have ended: it does on a thread of its own.

    So much may lie between an attempt's headers and the status that came with them, too.
    """
    for _ in range(_ITERATIONS):
        await asyncio.sleep(0)


def check_message(message: object, name: str = "request") -> None:
    """Raise what C-core's calls raise of a message that was not serialized.

    Raises:
        TypeError: it is neither bytes nor None, which stands for what a serializer failed on.
    """
    if message is not None and type(message) is not bytes:
        raise TypeError(f"Argument '{name}' has incorrect type (expected bytes, got {type(message).__name__})")


def retell(error: Any, adviser: HealthAdviser, method: str, service: str = "") -> None:
    """Have the error of a health client's call say what to do, where that is known.

    Args:
        error: what a call has raised.
        adviser: of the client.
        method: that was called: Check, Watch or List.
        service: the name that was asked for.
    """
    text = adviser.explained(method, service, error)
    if text != (error.details() or ""):
        error._details = text
