"""What the asyncio face uses of grpcio beneath its public names, checked against the version that is installed.

Each test names one thing that `healthlb/aio/` relies on; where one fails after an upgrade, that is what has changed.
"""

from __future__ import annotations

import asyncio
import inspect
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb.aio import HealthAwareChannel, grpcio
from tests.lifecycle.support import UNARY

# What grpcio's call classes ask of the call beneath them.
OF_CALLS = (
    *("done", "cancelled", "is_ok", "is_locally_cancelled", "time_remaining", "status", "initial_metadata"),
    *("add_done_callback", "cancel", "set_internal_error", "unary_unary", "initiate_unary_stream", "stream_unary"),
    *("initiate_stream_stream", "receive_serialized_message", "send_serialized_message", "send_receive_close"),
)


def test_ours_has_all_that_grpcio_asks_of_a_call() -> None:
    from healthlb.aio.streams import BalancedStream
    from healthlb.aio.unary import BalancedUnaryCall

    theirs = {name for name in dir(grpcio._CYGRPC._AioCall) if not name.startswith("__")}
    known = {*OF_CALLS, "_channel", "_handle_status_once_received", "_initial_metadata", "_repr", "_status"}
    assert theirs <= known
    for name in set(OF_CALLS) - {"unary_unary"}:
        assert hasattr(BalancedStream, name)
    of_streams = {name for name in OF_CALLS if "stream" in name or "message" in name or name == "send_receive_close"}
    for name in set(OF_CALLS) - of_streams - {"unary_unary"}:  # its coroutine is `UnaryUnaryCall._invoke`
        assert hasattr(BalancedUnaryCall, name)


def test_attempts_ask_what_a_call_of_c_core_has() -> None:
    asked = {name for name in vars(grpcio.CoreCall) if not name.startswith("_")} | set(grpcio.CoreCall.__annotations__)

    assert len(asked) == 16
    assert [name for name in asked if not hasattr(grpcio._CYGRPC._AioCall, name)] == []


@pytest.mark.parametrize("kind", ["UnaryUnaryCall", "UnaryStreamCall", "StreamUnaryCall", "StreamStreamCall"])
def test_calls_are_made_by_what_they_are_given(kind: str) -> None:
    parameters = list(inspect.signature(getattr(grpcio, kind).__init__).parameters)[1:11]

    assert parameters[0] in ("request", "request_iterator")
    assert parameters[1:] == [
        *("deadline", "metadata", "credentials", "wait_for_ready", "channel", "method"),
        *("request_serializer", "response_deserializer", "loop"),
    ]


async def test_a_unary_call_of_ours_is_made_with_all_that_a_plain_one_has(targets: list[str]) -> None:
    """Its constructor and its coroutine are ours, in the place of grpcio's."""
    async with grpc.aio.insecure_channel(targets[0]) as plain, HealthAwareChannel(targets[:1]) as ours:
        calls = [channel.unary_unary(UNARY)(b"") for channel in (plain, ours)]
        for call in calls:
            await call

    theirs, own = calls
    assert {name: type(value) for name, value in vars(own).items() if name != "_cython_call"} == {
        name: type(value) for name, value in vars(theirs).items() if name != "_cython_call"
    }
    assert own._invocation_task is own._call_response
    assert theirs._invocation_task is theirs._call_response
    assert list(inspect.signature(grpcio.UnaryUnaryCall._invoke).parameters) == ["self"]


def test_without_an_observability_plugin_a_call_carries_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    assert grpcio._CYGRPC.build_census_context() is None
    assert grpcio.census_context() is None

    made = object()
    monkeypatch.setattr(grpcio._OBSERVABILITY, "_OBSERVABILITY_PLUGIN", object())
    monkeypatch.setattr(grpcio, "_CYGRPC", SimpleNamespace(build_census_context=lambda: made))
    assert grpcio.census_context() is made


def test_serializers_that_raise_give_none(caplog: pytest.LogCaptureFixture) -> None:
    assert grpcio.serialize(1, lambda value: value / 0) is None
    assert grpcio.deserialize(1, lambda value: value / 0) is None
    assert len(caplog.records) == 2


def test_an_error_is_made_of_headers_and_a_status() -> None:
    error = grpcio.make_error((("h", "1"),), grpcio.Status(14, "text", (("k", "v"),), "debug"))

    assert isinstance(error, grpc.aio.AioRpcError)
    assert (error.code(), error.details(), error.debug_error_string()) == (
        *(grpc.StatusCode.UNAVAILABLE, "text"),
        "debug",
    )
    assert (tuple(error.initial_metadata()), tuple(error.trailing_metadata())) == ((("h", "1"),), (("k", "v"),))


@pytest.mark.parametrize("kind", ["UnaryUnary", "UnaryStream", "StreamUnary", "StreamStream"])
def test_intercepted_calls_are_made_by_what_they_are_given(kind: str) -> None:
    parameters = list(inspect.signature(getattr(grpcio, f"Intercepted{kind}Call").__init__).parameters)[1:12]

    assert parameters[1] in ("request", "request_iterator")
    assert [parameters[0], *parameters[2:]] == [
        *("interceptors", "timeout", "metadata", "credentials", "wait_for_ready", "channel", "method"),
        *("request_serializer", "response_deserializer", "loop"),
    ]


def test_a_status_is_made_of_code_details_trailers_and_debug_text() -> None:
    status = grpcio.Status(14, "text", (("k", "v"),), "debug")

    assert (status.code(), status.details(), status.trailing_metadata(), status.debug_error_string()) == (
        *(14, "text"),
        *((("k", "v"),), "debug"),
    )


async def test_a_call_beneath_a_plain_channel(targets: list[str]) -> None:
    """It is made from a multi-callable, and has its status and headers once it is over."""
    async with grpc.aio.insecure_channel(targets[0]) as channel:
        real = grpcio.call_maker(channel.unary_unary(UNARY))(None, None, None)
        response = await real.unary_unary(b"", (), None)

        assert response == b"b0"
        assert real.is_ok()
        assert real._status.code() == 0
        assert isinstance(real._initial_metadata, tuple)


async def test_a_call_beneath_that_is_cancelled_is_over_at_once(targets: list[str]) -> None:
    async with grpc.aio.insecure_channel(targets[0]) as channel:
        real = grpcio.call_maker(channel.unary_unary(UNARY))(None, None, None)
        called: list[bool] = []
        real.add_done_callback(lambda: called.append(True))
        making = asyncio.ensure_future(real.unary_unary(b"", (("x-sleep", "60"),), None))
        await asyncio.sleep(0.05)
        real.cancel("not wanted")

        assert called == [True]
        assert (real._status.code(), real._status.details()) == (1, "not wanted")
        assert await making is None


async def test_a_call_beneath_on_a_closed_channel_is_refused(targets: list[str]) -> None:
    channel = grpc.aio.insecure_channel(targets[0])
    make = grpcio.call_maker(channel.unary_unary(UNARY))
    await channel.close()

    with pytest.raises(grpc.aio.UsageError):
        make(None, None, None)


@pytest.mark.parametrize(
    "metadata", [(("Upper", "v"),), (("k", "a\nb"),), (("k", 3),)], ids=["upper case", "newline", "number"]
)
async def test_metadata_that_cannot_be_sent(metadata: Any, targets: list[str]) -> None:
    """Ours are refused by the same types of errors, also where no subchannel is READY yet."""
    async with grpc.aio.insecure_channel(targets[0]) as channel:
        with pytest.raises((TypeError, grpc.aio.InternalError)) as theirs:
            await channel.unary_unary(UNARY)(b"", metadata=metadata)
    with pytest.raises((TypeError, grpc.aio.InternalError)) as ours:
        await grpcio.check_metadata(metadata)

    assert ours.type is theirs.type


@pytest.mark.parametrize(
    ("arity", "kind", "coroutine", "tasks"),
    [
        ("unary_unary", "UnaryUnaryCall", "_invoke", {"_call_response", "_invocation_task"}),
        ("unary_stream", "UnaryStreamCall", "_send_unary_request", {"_preparation", "_send_unary_request_task"}),
        ("stream_unary", "StreamUnaryCall", "_conduct_rpc", {"_call_response", "_async_request_poller"}),
        (
            "stream_stream",
            "StreamStreamCall",
            "_prepare_rpc",
            {"_preparation", "_initializer", "_async_request_poller"},
        ),
    ],
)
async def test_the_tasks_of_a_call_that_may_hold_it(
    arity: str, kind: str, coroutine: str, tasks: set[str], targets: list[str]
) -> None:
    """What they raise, or are cancelled with, holds their frames: `healthlb/aio/calls.py` has these let go."""
    async with grpc.aio.insecure_channel(targets[0]) as plain:
        call = getattr(plain, arity)("/test.Echo/Any")(b"" if arity.startswith("unary") else iter(()))
        found = {name for name, value in vars(call).items() if isinstance(value, asyncio.Task)}
        call.cancel()

    assert type(call) is getattr(grpcio, kind)
    assert inspect.iscoroutinefunction(getattr(type(call), coroutine))
    assert found == tasks
