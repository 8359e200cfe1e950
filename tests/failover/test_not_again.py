"""Why a call was not tried again: in its attempts, in its traceback, and in the log where a pattern never matched."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.experimental
import pytest

import healthlb
import healthlb.aio

METHODS = ("/shop.Cart/Get", "/shop.Cart/Put")
READ_BY_ITS_THREAD = (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)
Target = tuple[list[str], dict[str, Any]]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server whose calls all fail with UNAVAILABLE."""

    def fail(request: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "overloaded")

    server = grpc.server(futures.ThreadPoolExecutor(4))
    handlers = {name.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(fail) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def sync_errors(address: str, failover: healthlb.Failover | None) -> list[Exception]:
    """Return the errors of a call of each method."""
    errors: list[Exception] = []
    with healthlb.HealthAwareChannel([address], None, failover=failover, outliers=None) as channel:
        stubs = [channel.unary_unary(name) for name in METHODS]
        for stub in stubs:
            try:
                stub(b"", timeout=20)
            except grpc.RpcError as error:
                errors.append(error)
    return errors


def aio_errors(address: str, failover: healthlb.Failover | None) -> list[Exception]:
    """Return the errors of a call of each method."""

    async def main() -> list[Exception]:
        errors: list[Exception] = []
        async with healthlb.aio.HealthAwareChannel([address], None, failover=failover, outliers=None) as channel:
            stubs: list[Any] = [channel.unary_unary(name) for name in METHODS]
            for stub in stubs:
                try:
                    await stub(b"", timeout=20)
                except grpc.aio.AioRpcError as error:
                    errors.append(error)
        return errors

    return asyncio.run(main())


SYNC_CALLS: dict[str, Callable[[grpc.Channel], Any]] = {
    "unary": lambda channel: channel.unary_unary("/shop.Cart/Get")(b"", timeout=20),
    "with_call": lambda channel: channel.unary_unary("/shop.Cart/Get").with_call(b"", timeout=20),
    "future": lambda channel: channel.unary_unary("/shop.Cart/Get").future(b"", timeout=20).result(),
    "server stream": lambda channel: next(channel.unary_stream("/shop.Cart/Get")(b"", timeout=20)),
    "upload": lambda channel: channel.stream_unary("/shop.Cart/Get")(iter([b""]), timeout=20),
    "upload future": lambda channel: channel.stream_unary("/shop.Cart/Get").future(iter([b""]), timeout=20).result(),
    "both streams": lambda channel: next(channel.stream_stream("/shop.Cart/Get")(iter([b""]), timeout=20)),
}
AIO_CALLS: dict[str, Callable[[grpc.aio.Channel], Any]] = {
    "unary": lambda channel: channel.unary_unary("/shop.Cart/Get")(b"", timeout=20),
    "server stream": lambda channel: channel.unary_stream("/shop.Cart/Get")(b"", timeout=20).read(),
    "iterated": lambda channel: anext(aiter(channel.unary_stream("/shop.Cart/Get")(b"", timeout=20))),
    "upload": lambda channel: channel.stream_unary("/shop.Cart/Get")(iter([b""]), timeout=20),
    "both streams": lambda channel: channel.stream_stream("/shop.Cart/Get")(iter([b""]), timeout=20).read(),
}


faces = pytest.mark.parametrize("make", [sync_errors, aio_errors], ids=["sync", "aio"])


def assert_noted_once(error: Any) -> None:
    text = "".join(traceback.format_exception(error))

    assert text.count("healthlb: not tried again: /shop.Cart/Get is not idempotent: see Failover.idempotent") == 1


@faces
def test_u7_the_error_says_that_the_method_is_not_idempotent(make: Any, address: str) -> None:
    error = make(address, healthlb.Failover(max_attempts=5))[0]
    said = "/shop.Cart/Get is not idempotent: see Failover.idempotent"

    assert [attempt.not_again for attempt in healthlb.attempts_of(error)] == [said]
    assert f"healthlb: not tried again: {said}" in "".join(traceback.format_exception(error))
    assert error.details() == "overloaded"


@pytest.mark.parametrize("options", [[], [READ_BY_ITS_THREAD]], ids=["", "single-threaded"])
@pytest.mark.parametrize("call", SYNC_CALLS.values(), ids=SYNC_CALLS)
def test_u7_whatever_a_sync_call_raises_says_so(call: Any, options: Any, address: str) -> None:
    channel = healthlb.HealthAwareChannel([address], None, options=options, outliers=None)
    with channel, pytest.raises(grpc.RpcError) as raised:
        call(channel)

    assert_noted_once(raised.value)


@pytest.mark.parametrize("call", AIO_CALLS.values(), ids=AIO_CALLS)
async def test_u7_whatever_an_asyncio_call_raises_says_so(call: Any, address: str) -> None:
    async with healthlb.aio.HealthAwareChannel([address], None, outliers=None) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(channel)

    assert_noted_once(raised.value)


def test_u7_it_is_said_once_however_often_it_is_asked_for(address: str) -> None:
    with healthlb.HealthAwareChannel([address], None, outliers=None) as channel:
        call = channel.unary_unary("/shop.Cart/Get").future(b"", timeout=20)
        assert_noted_once(call.exception())
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as raised:
                call.result()

        assert_noted_once(raised.value)
        assert_noted_once(pickle.loads(pickle.dumps(call)))


@faces
def test_u7_a_pattern_that_never_matched_is_told_once(
    make: Any, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    errors = make(address, healthlb.Failover(idempotent=["/shop.Cart/get", "/shop.Cart/G*"]))
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    assert [healthlb.attempts_of(error)[-1].not_again for error in errors] == [
        "",
        "/shop.Cart/Put is not idempotent: no pattern of Failover.idempotent matches it "
        "('/shop.Cart/get', '/shop.Cart/G*')",
    ]
    assert ["'/shop.Cart/get';" in text and "G*" not in text for text in told] == [True]


@faces
@pytest.mark.parametrize("failover", [None, healthlb.Failover(idempotent=True), healthlb.Failover(codes=["INTERNAL"])])
def test_nothing_is_said_where_that_is_not_why(make: Any, address: str, failover: healthlb.Failover | None) -> None:
    for error in make(address, failover):
        assert {attempt.not_again for attempt in healthlb.attempts_of(error)} <= {""}
        assert getattr(error, "__notes__", []) == []


def test_u11_other_errors_have_no_attempts() -> None:
    assert healthlb.attempts_of(ValueError()) == healthlb.aio.attempts_of(grpc.RpcError()) == ()


def test_u9_a_sync_channel_in_a_running_loop_says_so_once(address: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        sync_errors(address, None)

    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]

    assert ["healthlb.aio.HealthAwareChannel" in text for text in told if "running event loop" in text] == [True]
