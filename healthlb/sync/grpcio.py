"""What the sync face uses of grpcio beneath its public names, in one place.

What a caller holds is an object of grpcio's own classes (`grpc._channel`), and so behaves as its own do; what stands
beneath it, in the place of a `cygrpc.IntegratedCall`, is ours. `tests/lifecycle/test_grpcio_sync.py` checks every name
here, and what is relied on of it, against the installed version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Protocol

import grpc

from healthlb.calls.metadata import check_call_credentials
from healthlb.health_client.answer import HealthAdviser
from healthlb.text import REMEDY_MARK, add_remedy

_CHANNEL: Any = import_module("grpc._channel")
_COMMON: Any = import_module("grpc._common")
_COMPRESSION: Any = import_module("grpc._compression")
_C: Any = import_module("grpc._cython.cygrpc")

InactiveRpcError: Any = _CHANNEL._InactiveRpcError
MultiThreadedRendezvous: Any = _CHANNEL._MultiThreadedRendezvous
SingleThreadedRendezvous: Any = _CHANNEL._SingleThreadedRendezvous
RpcState: Any = _CHANNEL._RPCState
# What metadata that were received consist of.
Metadatum: Any = _C._Metadatum

# Takes an event of C-core into the state of a call and runs the caller's callbacks.
event_handler: Callable[[Any, Any], Callable[[Any], bool]] = _CHANNEL._event_handler
handle_event: Callable[[Any, Any, Any], Sequence[Callable[[], object]]] = _CHANNEL._handle_event
# Reads the caller's iterator in a thread of its own.
consume_requests: Callable[[Any, Any, Any, Any, Any], None] = _CHANNEL._consume_request_iterator

deadline_of: Callable[[Any], float | None] = _CHANNEL._deadline
with_parents_deadline: Callable[[float | None], float | None] = _CHANNEL._determine_deadline
augment_metadata: Callable[[Any, Any], Any] = _COMPRESSION.augment_metadata
serialize: Callable[[Any, Any], Any] = _COMMON.serialize
encode: Callable[[Any], bytes] = _COMMON.encode
decode: Callable[[Any], str] = _COMMON.decode
CODES: dict[int, grpc.StatusCode] = _COMMON.CYGRPC_STATUS_CODE_TO_STATUS_CODE
NUMBERS: dict[grpc.StatusCode, int] = _COMMON.STATUS_CODE_TO_CYGRPC_STATUS_CODE

IS_SINGLE_THREADED_BY_DEFAULT: bool = _CHANNEL._DEFAULT_SINGLE_THREADED_UNARY_STREAM

_SEND_INITIAL_METADATA: int = _C.OperationType.send_initial_metadata
SEND_MESSAGE: int = _C.OperationType.send_message
SEND_CLOSE: int = _C.OperationType.send_close_from_client
RECEIVE_INITIAL_METADATA: int = _C.OperationType.receive_initial_metadata
RECEIVE_MESSAGE: int = _C.OperationType.receive_message
RECEIVE_STATUS: int = _C.OperationType.receive_status_on_client
# Those of a client's call. Before 1.83, the type cannot be iterated over.
ALL = frozenset(
    (_SEND_INITIAL_METADATA, SEND_MESSAGE, SEND_CLOSE, RECEIVE_INITIAL_METADATA, RECEIVE_MESSAGE, RECEIVE_STATUS)
)

send_message = _C.SendMessageOperation
_send_initial_metadata = _C.SendInitialMetadataOperation
_send_close = _C.SendCloseFromClientOperation
_receive_initial_metadata = _C.ReceiveInitialMetadataOperation
_receive_message = _C.ReceiveMessageOperation
_receive_status = _C.ReceiveStatusOnClientOperation

_PROPAGATE: int = _C.PropagationConstants.GRPC_PROPAGATE_DEFAULTS
# wait_for_ready is not among them: beneath, the call would wait for this one subchannel.
_NO_FLAGS = 0

Batches = tuple[tuple[Any, ...], ...]


def send_close() -> Any:
    """Return the operation that ends a stream of requests."""
    return _send_close(_NO_FLAGS)


def receive_message() -> Any:
    """Return the operation that waits for a response."""
    return _receive_message(_NO_FLAGS)


# --- the operations that a call begins with, in the batches in which grpcio starts them; the status is a batch's last


def _unary_unary(metadata: Any, body: Any) -> Batches:
    return (
        (
            _send_initial_metadata(metadata, _NO_FLAGS),
            send_message(body, _NO_FLAGS),
            _send_close(_NO_FLAGS),
            _receive_initial_metadata(_NO_FLAGS),
            _receive_message(_NO_FLAGS),
            _receive_status(_NO_FLAGS),
        ),
    )


def _unary_stream(metadata: Any, body: Any) -> Batches:
    return (
        (
            _send_initial_metadata(metadata, _NO_FLAGS),
            send_message(body, _NO_FLAGS),
            _send_close(_NO_FLAGS),
            _receive_status(_NO_FLAGS),
        ),
        (_receive_initial_metadata(_NO_FLAGS),),
    )


def _stream_unary(metadata: Any, body: Any) -> Batches:
    return (
        (_send_initial_metadata(metadata, _NO_FLAGS), _receive_message(_NO_FLAGS), _receive_status(_NO_FLAGS)),
        (_receive_initial_metadata(_NO_FLAGS),),
    )


def _stream_stream(metadata: Any, body: Any) -> Batches:
    return (
        (_send_initial_metadata(metadata, _NO_FLAGS), _receive_status(_NO_FLAGS)),
        (_receive_initial_metadata(_NO_FLAGS),),
    )


OPERATIONS: dict[str, Callable[[Any, Any], Batches]] = {
    "unary_unary": _unary_unary,
    "unary_stream": _unary_stream,
    "stream_unary": _stream_unary,
    "stream_stream": _stream_stream,
}
_DUE: dict[str, Any] = {
    "unary_unary": _CHANNEL._UNARY_UNARY_INITIAL_DUE,
    "unary_stream": _CHANNEL._UNARY_STREAM_INITIAL_DUE,
    "stream_unary": _CHANNEL._STREAM_UNARY_INITIAL_DUE,
    "stream_stream": _CHANNEL._STREAM_STREAM_INITIAL_DUE,
}


def new_state(arity: str, method: str) -> Any:
    """Return the state of a call that has begun."""
    state = RpcState(_DUE[arity], None, None, None, None)
    # For grpcio's own observability, which looks at all three at the end of each call.
    state.rpc_start_time = time.perf_counter()
    state.method = method
    state.target = ""
    return state


def lock_of(state: Any) -> Any:
    """Return the lock beneath a state's condition: to enter the condition itself costs two calls of Python's more."""
    return state.condition._lock


def ended_state(code: grpc.StatusCode, details: str, debug_error_string: str | None = None) -> Any:
    """Return the state of a call that has ended, and of which nothing came."""
    state = RpcState((), (), (), code, details)
    state.debug_error_string = debug_error_string
    return state


class Opened:
    """A plain multi-callable, with what each of its calls of C-core needs.

    Args:
        multi_callable: grpcio's, of one subchannel.

    Attributes:
        name: the method's full name.
        target: of the subchannel.
        deserializer: the caller's, None where responses are bytes.
        start: starts a call of C-core whose events go to a tag, on grpcio's own thread of the channel.
        start_segregated: starts one whose events wait in a queue of its own.
        method: the name in bytes.
        context: for grpcio's observability.
        handle: of a registered method.
    """

    __slots__ = ("context", "deserializer", "handle", "method", "name", "start", "start_segregated", "target")

    def __init__(self, multi_callable: Any) -> None:
        self.name = decode(multi_callable._method)
        self.target = decode(multi_callable._target)
        self.deserializer = multi_callable._response_deserializer
        self.start: Callable[..., CoreCall] = multi_callable._managed_call
        self.start_segregated: Callable[..., CoreCall] = multi_callable._channel.segregated_call
        self.method = multi_callable._method
        self.context = multi_callable._context
        self.handle = multi_callable._registered_call_handle


class CoreCall(Protocol):
    """A call of C-core (`cygrpc.IntegratedCall` or `SegregatedCall`): what attempts use of one."""

    def operate(self, operations: tuple[Any, ...], tag: Callable[[Any], bool]) -> object:
        """Start operations, whose event `tag` takes; falsy where the call is over."""

    def cancel(self, code: int, details: str) -> None:
        """End it with this status."""

    def next_event(self) -> Any:
        """Wait for an event, have its tag take it, and return it. Of a `SegregatedCall` alone."""


def start_call(
    opened: Opened,
    deadline: float | None,
    metadata: Any,
    credentials: Any,
    batches: Batches,
    tag: Callable[[Any], bool],
) -> CoreCall:
    """Start a call of C-core; its events go to `tag` on grpcio's own thread.

    Args:
        opened: what is called.
        deadline: seconds of time.time(), None for none.
        metadata: for the text of an error.
        credentials: the caller's for this call, None for none.
        batches: what it begins with.
        tag: takes each event, and returns True at the last one.
    """
    return opened.start(
        _PROPAGATE,
        opened.method,
        None,
        deadline,
        metadata,
        None if credentials is None else credentials._credentials,
        batches,
        tag,
        opened.context,
        opened.handle,
    )


def start_segregated_call(
    opened: Opened, deadline: float | None, metadata: Any, credentials: Any, batches: Batches
) -> CoreCall:
    """Start a call of C-core with a completion queue of its own: its events wait for whoever asks it for them.

    Args:
        opened: what is called.
        deadline: seconds of time.time(), None for none.
        metadata: for the text of an error.
        credentials: the caller's for this call, None for none.
        batches: what it begins with.
    """
    return opened.start_segregated(
        _PROPAGATE,
        opened.method,
        None,
        deadline,
        metadata,
        None if credentials is None else credentials._credentials,
        tuple([(batch, None) for batch in batches]),
        opened.context,
        opened.handle,
    )


def read_one(call: Any) -> None:
    """Ask for the next message of a stream, and do not wait: it goes to the deserializer, on grpcio's own thread.

    It is what `next` of a `MultiThreadedRendezvous` does before it waits; what was read before is let go of.
    """
    state = call._state
    with state.condition:
        state.response = None
        if state.code is not None:
            return
        state.due.add(RECEIVE_MESSAGE)
        if not call._call.operate((receive_message(),), event_handler(state, call._response_deserializer)):
            state.due.remove(RECEIVE_MESSAGE)


def start_blocking(
    opened: Opened, body: bytes, deadline: float | None, metadata: Any, credentials: Any, compression: Any
) -> tuple[Any, Any]:
    """Start a unary call that this thread waits for; return its state, and C-core's call, which others may cancel.

    Its one event is for `handle_event`.

    Args:
        opened: what is called.
        body: the request.
        deadline: seconds of time.time(), None for none.
        metadata: a tuple of pairs, None for none.
        credentials: the caller's for this call, None for none.
        compression: the caller's, None for the channel's.
    """
    state = RpcState(_DUE["unary_unary"], None, None, None, None)
    state.rpc_start_time = time.perf_counter()
    state.method = opened.name
    state.target = opened.target
    if compression:
        metadata = augment_metadata(metadata, compression)
    call = opened.start_segregated(
        _PROPAGATE,
        opened.method,
        None,
        with_parents_deadline(deadline),
        metadata,
        None if credentials is None else credentials._credentials,
        ((_unary_unary(metadata, body)[0], None),),
        opened.context,
        opened.handle,
    )
    return state, call


def open_channel(target: str, credentials: Any, options: Any, compression: Any) -> Any:
    """Open a plain channel, past whatever stands in the place of grpc's own functions for it.

    Its streams take in their events on a thread, whatever the environment says.
    """
    channel = _CHANNEL.Channel(target, options, None if credentials is None else credentials._credentials, compression)
    channel._single_threaded_unary_stream = False
    return channel


def close_with(channel: Any, code: grpc.StatusCode, details: str) -> None:
    """Close a channel; calls in flight end with this status, and not with CANCELLED as by its own `close`."""
    channel._channel.close(NUMBERS[code], details)


def check_terms(compression: Any, credentials: Any) -> None:
    """Raise what grpcio raises of a call's terms before it asks C-core for a call.

    Raises:
        KeyError: no compression.
        AttributeError, TypeError: credentials of another type.
    """
    augment_metadata(None, compression)
    if credentials is not None:
        check_call_credentials(credentials, _C.CallCredentials)


def retell(error: Any, adviser: HealthAdviser, method: str, service: str = "") -> None:
    """Have the error of a health client's call say what to do, where that is known.

    Args:
        error: what a call has raised.
        adviser: of the client.
        method: that was called: Check, Watch or List.
        service: the name that was asked for.
    """
    if not hasattr(error, "code") or not hasattr(error, "details"):
        return
    text = adviser.explained(method, service, error)
    if text == (error.details() or ""):
        return
    state = getattr(error, "_state", None)
    if isinstance(state, RpcState):
        with state.condition:
            state.details = text
    elif hasattr(error, "add_note"):
        error.add_note(add_remedy("", text.partition(REMEDY_MARK)[2]))
