"""What grpcio's own unit tests of its channels ask for, and ours once did otherwise."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from tests.backends.clients import failure
from tests.lifecycle.support import PATIENCE, UNARY, eventually

STREAM, BIDI, CLIENT_STREAM = "/test.Echo/ServerStream", "/test.Echo/Bidi", "/test.Echo/ClientStream"
INVALID = (("InVaLiD", "value"),)
IDLE, SHUTDOWN = grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_streams_that_fail_block_no_thread(kind: str, targets: list[str]) -> None:
    """Their status may come before their initial metadata, on the one thread that brings both."""
    channel = healthlb.HealthAwareChannel(targets, "svc")
    channel.wait_until_ready(PATIENCE)
    method: Any = channel.unary_stream(STREAM) if kind == "unary_stream" else channel.stream_stream(BIDI)
    for _ in range(50):
        call = method(b"" if kind == "unary_stream" else iter([b""]), metadata=(("x-fail", "UNAVAILABLE"),))
        ended = threading.Event()
        if not call.add_callback(ended.set):
            ended.set()
        assert ended.wait(PATIENCE)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    started = time.monotonic()
    channel.close()

    assert time.monotonic() - started < 4.0


@pytest.mark.parametrize("form", ["call", "with_call", "future", "stream"])
def test_invalid_metadata_before_there_is_a_subchannel(form: str, silent: str) -> None:
    with healthlb.HealthAwareChannel([silent], "svc") as channel:
        unary: Any = channel.unary_unary(UNARY)
        stream: Any = channel.unary_stream(STREAM)
        forms = {
            "call": lambda: unary(b"", metadata=INVALID),
            "with_call": lambda: unary.with_call(b"", metadata=INVALID),
            "future": lambda: unary.future(b"", metadata=INVALID).result(PATIENCE),
            "stream": lambda: next(stream(b"", metadata=INVALID)),
        }
        error = failure(forms[form])

        assert error.code() is grpc.StatusCode.INTERNAL
        assert error.details() == "Invalid metadata"


@pytest.mark.parametrize("metadata", [((b"key", b"value"),), (("key-bin", b"\xff"),), (), None])
def test_valid_metadata_may_wait(metadata: Any, silent: str) -> None:
    with healthlb.HealthAwareChannel([silent], "svc") as channel:
        unary: Any = channel.unary_unary(UNARY)

        assert failure(lambda: unary(b"", metadata=metadata, timeout=0.1)).code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_call_credentials_need_a_secure_channel(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        with pytest.raises(grpc.aio.UsageError, match="Call credentials are only valid on secure channels"):
            channel.unary_unary(UNARY)(b"", credentials=grpc.access_token_call_credentials("token"))


async def test_get_state_says_what_was_before_it_connects(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        assert channel.get_state(try_to_connect=True) is IDLE
        assert channel.get_state() is not IDLE


async def test_no_change_of_a_closed_channel_is_waited_for(targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    await channel.close()
    with pytest.raises(grpc.aio.UsageError, match=r"Channel is closed\."):
        await channel.wait_for_state_change(SHUTDOWN)


async def test_write_after_an_early_cancel(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        call = channel.stream_unary(CLIENT_STREAM)()
        assert call.cancel()
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"")
        await call.done_writing()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_write_after_an_early_failure() -> None:
    async with healthlb.aio.HealthAwareChannel(["127.0.0.1:1"], "svc") as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(UNARY)(b"", timeout=PATIENCE)
        call = channel.stream_stream(BIDI)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.write(b"")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


class PassOn(grpc.aio.StreamStreamClientInterceptor):
    """Does nothing; with it grpcio's machinery stands between the user's writes and our call."""

    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Go on."""
        return await continuation(client_call_details, request_iterator)


async def test_writes_through_an_interceptor(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc", interceptors=[PassOn()]) as channel:
        call = channel.stream_stream(BIDI)()
        await call.write(b"x")
        answer = await call.read()
        await call.done_writing()

        assert answer in (b"b0:x", b"b1:x")
        assert await call.read() is grpc.aio.EOF


async def test_a_close_with_grace_waits_for_calls_that_wait(targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    call = channel.unary_unary(UNARY)(b"", metadata=(("x-sleep", "0.1"),))
    await channel.close(PATIENCE)

    assert await call in (b"b0", b"b1")


async def test_a_close_with_grace_ends_with_the_last_call(silent: str) -> None:
    channel = healthlb.aio.HealthAwareChannel([silent], "svc")
    call = channel.unary_unary(UNARY)(b"", timeout=0.1)
    started = time.monotonic()
    await channel.close(4 * PATIENCE)

    assert time.monotonic() - started < PATIENCE
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_no_interceptors_may_be_none(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc", interceptors=None) as channel:
        assert await channel.unary_unary(UNARY)(b"") in (b"b0", b"b1")


def test_a_subscriber_hears_of_the_end(targets: list[str]) -> None:
    seen: list[grpc.ChannelConnectivity] = []
    channel = healthlb.HealthAwareChannel(targets, "svc")
    channel.subscribe(seen.append)
    channel.close()
    eventually(lambda: seen == [IDLE, SHUTDOWN])
