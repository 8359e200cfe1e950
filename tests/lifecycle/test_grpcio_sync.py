"""The contract with grpcio's own modules: what `healthlb.sync.grpcio` uses is there, and does what is relied on."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from healthlb.calls.metadata import check_types
from healthlb.core.messages import Code, Fail
from healthlb.sync import grpcio
from healthlb.sync.live_attempt import End
from tests.failover.local import Local
from tests.lifecycle.support import PATIENCE, eventually

METHODS = {
    "unary_unary": "/test.Echo/Unary",
    "unary_stream": "/test.Echo/ServerStream",
    "stream_unary": "/test.Echo/ClientStream",
    "stream_stream": "/test.Echo/Bidi",
}


@pytest.fixture
def server() -> Iterator[Local]:
    """Serve an echo of each arity, which says headers of its own."""

    def headed(context: grpc.ServicerContext) -> None:
        context.send_initial_metadata((("header", "1"),))
        context.set_trailing_metadata((("trailer", "2"),))

    def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
        headed(context)
        return request

    def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        headed(context)
        yield request

    with Local(
        unary_unary=unary,
        unary_stream=stream,
        stream_unary=lambda requests, context: unary(b"".join(requests), context),
        stream_stream=lambda requests, context: stream(b"".join(requests), context),
    ) as local:
        yield local


@pytest.fixture
def channel(server: Local) -> Iterator[grpc.Channel]:
    """Return a plain channel to it."""
    with grpcio.open_channel(server.address, None, (), None) as opened:
        yield opened


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (grpcio.event_handler, ["state", "response_deserializer"]),
        (grpcio.handle_event, ["event", "state", "response_deserializer"]),
        (grpcio.consume_requests, ["request_iterator", "state", "call", "request_serializer", "event_handler"]),
        (grpcio.deadline_of, ["timeout"]),
        (grpcio.with_parents_deadline, ["user_deadline"]),
        (grpcio.augment_metadata, ["metadata", "compression"]),
        (grpcio.serialize, ["message", "serializer"]),
        (grpcio.RpcState, ["due", "initial_metadata", "trailing_metadata", "code", "details"]),
        (grpcio.InactiveRpcError, ["state"]),
        (grpcio.MultiThreadedRendezvous, ["state", "call", "response_deserializer", "deadline"]),
        (grpcio.SingleThreadedRendezvous, ["state", "call", "response_deserializer", "deadline"]),
    ],
)
def test_parameters(function: Any, names: list[str]) -> None:
    assert parameters(function) == names


@pytest.mark.parametrize("name", ["_next", "result", "initial_metadata", "cancel", "__del__"])
def test_methods_that_are_built_on(name: str) -> None:
    for kind in (grpcio.MultiThreadedRendezvous, grpcio.SingleThreadedRendezvous):
        assert callable(getattr(kind, name))


def test_attempts_ask_what_a_call_of_c_core_has() -> None:
    asked = {name for name in vars(grpcio.CoreCall) if not name.startswith("_")}

    assert asked == {"operate", "cancel", "next_event"}
    assert [name for name in asked if not hasattr(grpcio._C.SegregatedCall, name)] == []
    assert [name for name in asked - {"next_event"} if not hasattr(grpcio._C.IntegratedCall, name)] == []


def test_a_state_is_locked_by_the_lock_of_its_condition() -> None:
    state = grpcio.new_state("unary_unary", "/a/b")
    with grpcio.lock_of(state):
        state.condition.notify_all()  # who does not hold its lock may not

    with pytest.raises(RuntimeError, match="un-acquired"):
        state.condition.notify_all()


@pytest.mark.parametrize("arity", METHODS)
def test_a_multi_callable_says_what_its_calls_are_made_of(arity: str, channel: grpc.Channel) -> None:
    multi_callable: Any = getattr(channel, arity)(METHODS[arity])
    opened = grpcio.Opened(multi_callable)

    assert opened.method == METHODS[arity].encode()
    assert opened.name == METHODS[arity]
    assert opened.target.endswith(multi_callable._target.decode())
    assert callable(opened.start)
    assert callable(opened.start_segregated)
    assert opened.handle is None
    assert opened.deserializer is None


def test_the_form_that_blocks(channel: grpc.Channel) -> None:
    opened = grpcio.Opened(channel.unary_unary(METHODS["unary_unary"]))
    deadline = grpcio.deadline_of(PATIENCE)
    state, call = grpcio.start_blocking(opened, b"a", deadline, (("key", "value"),), None, None)
    grpcio.handle_event(call.next_event(), state, opened.deserializer)

    assert (state.response, state.code) == (b"a", grpc.StatusCode.OK)
    assert dict(state.initial_metadata) == {"header": "1"}
    assert dict(state.trailing_metadata) == {"trailer": "2"}


class Beneath:
    """A call of C-core as grpcio takes it, and what passed."""

    def __init__(self, opened: Any, arity: str, body: Any, handler: Callable[[Any], bool]) -> None:
        self.kinds: list[list[int]] = []
        self.is_last: list[bool] = []
        self.threads: set[str] = set()
        self._handler = handler
        batches = grpcio.OPERATIONS[arity](None, body)
        self._real = grpcio.start_call(opened, None, None, None, batches, self)
        self.attempts = ()
        self.has_headers = False

    def __call__(self, event: Any) -> bool:
        assert event.tag is self
        self.kinds.append([operation.type() for operation in event.batch_operations])
        self.threads.add(threading.current_thread().name)
        self.is_last.append(self._handler(event))
        return self.is_last[-1]

    def operate(self, operations: Any, handler: Any) -> bool:
        return bool(self._real.operate(operations, self))

    def cancel(self, code: int, details: str) -> None:
        self._real.cancel(code, details)


@pytest.mark.parametrize("arity", METHODS)
def test_grpcio_takes_another_object_for_a_call(arity: str, channel: grpc.Channel) -> None:
    """Its events come on one thread, each operation's once; the handler returns True at the last, at no other."""
    opened = grpcio.Opened(getattr(channel, arity)(METHODS[arity]))
    state = grpcio.new_state(arity, METHODS[arity])
    handler = grpcio.event_handler(state, None)
    is_stream = arity.startswith("stream")
    call = Beneath(opened, arity, None if is_stream else b"a", handler)
    if is_stream:
        grpcio.consume_requests(iter([b"a"]), state, call, None, handler)
    rendezvous = grpcio.MultiThreadedRendezvous(state, call, None, None)

    assert (list(rendezvous) if arity.endswith("stream") else rendezvous.result(PATIENCE)) in ([b"a"], b"a")
    assert dict(rendezvous.initial_metadata()) == {"header": "1"}
    eventually(lambda: not state.due)
    assert call.is_last[-1]
    assert not any(call.is_last[:-1])
    assert len(call.threads) == 1
    status = [kinds for kinds in call.kinds if grpcio.RECEIVE_STATUS in kinds]
    assert [kinds[-1] for kinds in status] == [grpcio.RECEIVE_STATUS]


@pytest.mark.parametrize("arity", METHODS)
def test_the_operations_are_those_that_grpcio_starts(arity: str) -> None:
    batches = grpcio.OPERATIONS[arity](None, b"")

    assert {operation.type() for batch in batches for operation in batch} == grpcio.new_state(arity, "").due
    assert [batch[-1].type() for batch in batches][0] == grpcio.RECEIVE_STATUS
    assert [[operation.type() for operation in batch] for batch in batches[1:]] in (
        [],
        [[grpcio.RECEIVE_INITIAL_METADATA]],
    )


def test_an_event_of_our_own_ends_a_call() -> None:
    state = grpcio.new_state("unary_stream", METHODS["unary_stream"])
    heard: list[str] = []
    state.callbacks.append(lambda: heard.append("over"))
    grpcio.event_handler(state, None)(End(state, Fail(Code.UNAVAILABLE, "nobody")))

    assert (state.code, state.details, state.due) == (grpc.StatusCode.UNAVAILABLE, "nobody", set())
    assert (state.initial_metadata, state.trailing_metadata) == ((), ())
    assert heard == ["over"]


def test_the_condition_may_be_taken_again() -> None:
    """grpcio asks for operations under it, and so do we."""
    condition = grpcio.new_state("unary_unary", "").condition
    with condition:
        assert condition.acquire(blocking=False)
        condition.release()


@pytest.mark.parametrize(
    "metadata",
    [
        (("key", 1),),
        (("key",),),
        "abc",
        (("key-bin", "text"),),
        ((1, "value"),),
        (("key", bytearray(b"value")),),
        (("key", "value"), ("key-bin", b"\xff")),
        ((b"key", b"value"),),
    ],
)
def test_what_is_refused_without_a_connection_is_what_c_core_refuses(metadata: Any, channel: grpc.Channel) -> None:
    def raised(run: Callable[[], Any]) -> tuple[type[BaseException], str] | None:
        try:
            run()
        except Exception as error:
            return type(error), str(error)
        return None

    method: Any = channel.unary_unary(METHODS["unary_unary"])
    plain = raised(lambda: method(b"", PATIENCE, metadata))

    assert raised(lambda: check_types(metadata)) == plain
