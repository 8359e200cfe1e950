"""An ended call leaves nothing that only the garbage collector finds: with it switched off, memory stays flat.

Python's own objects are counted, which tells a cycle of one call in a hundred; requests of 200 KiB are weighed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

import healthlb
import healthlb.aio
from tests.lifecycle.support import PATIENCE, UNARY, eventually_async

WARM_UP = 30
CALLS = 500
# Objects that all calls together may leave; a call that is part of a cycle leaves five at the least.
MOST = 50
BIG = b"x" * 200_000
BIG_CALLS = 200
# Requests that are kept make 40 MB.
MOST_BIG = 16 << 20

FAILING = (("x-fail", "ABORTED"),)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Without the cyclic garbage collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(psutil.Process().memory_info().rss)


Make = Callable[[grpc.aio.Channel, bytes, Any], Awaitable[object]]


async def _unary(channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    await channel.unary_unary(UNARY)(body, metadata=metadata, timeout=PATIENCE)


async def _unary_stream(channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    async for _ in channel.unary_stream("/test.Echo/ServerStream")(body, metadata=metadata, timeout=PATIENCE):
        pass


async def _stream_unary(channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    await channel.stream_unary("/test.Echo/ClientStream")(iter([body]), metadata=metadata, timeout=PATIENCE)


async def _written(channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    call = channel.stream_stream("/test.Echo/Bidi")(metadata=metadata, timeout=PATIENCE)
    with contextlib.suppress(asyncio.InvalidStateError):
        await call.write(body)
        await call.done_writing()
    while await call.read() is not grpc.aio.EOF:
        pass


async def _cancelled(channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    call = channel.unary_unary(UNARY)(body, metadata=metadata, timeout=PATIENCE)
    await asyncio.sleep(0)
    call.cancel()


async def _dropped(channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    over = asyncio.get_running_loop().create_future()
    channel.unary_unary(UNARY)(body, metadata=metadata, timeout=PATIENCE).add_done_callback(over.set_result)
    await over


STREAMS = {"unary_stream": "ServerStream", "stream_unary": "ClientStream", "stream_stream": "Bidi"}
WRONG: Any = [("key", 3)]


def _begun(channel: grpc.aio.Channel, arity: str, metadata: Any) -> Any:
    request = b"" if arity.startswith("unary") else iter([b""])
    return getattr(channel, arity)(f"/test.Echo/{STREAMS.get(arity, 'Unary')}")(request, metadata=metadata)


async def _cancelled_after(turns: int, arity: str, channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    call = _begun(channel, arity, metadata)
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(0)


async def _refused(arity: str, channel: grpc.aio.Channel, body: bytes, metadata: Any) -> None:
    call = _begun(channel, arity, WRONG)
    with contextlib.suppress(TypeError):
        try:
            await call
        finally:
            del call  # the call holds its error, and that this frame


async def _intercepted(turns: int, arity: str, channel: Any, body: bytes, metadata: Any) -> None:
    for kept in ("_unary_unary_interceptors", "_unary_stream_interceptors"):
        getattr(channel, kept)[:] = [_Interceptor()]
    await _cancelled_after(turns, arity, channel, body, metadata)


class _Interceptor(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(details, request)

    intercept_unary_stream = intercept_unary_unary


ALL = ("unary_unary", *STREAMS)
MAKES: dict[str, Make] = {
    # Not those whose responses are read: the error holds the frames of grpcio's reader, and these hold the call.
    **{f"{arity}, refused": partial(_refused, arity) for arity in ("unary_unary", "stream_unary")},
    **{f"{arity}, cancelled at once": partial(_cancelled_after, 0, arity) for arity in ALL},
    **{f"{arity}, cancelled after a turn": partial(_cancelled_after, 1, arity) for arity in ALL},
    **{f"{arity}, cancelled after 5 turns": partial(_cancelled_after, 5, arity) for arity in ALL},
    **{f"{arity}, intercepted, cancelled at once": partial(_intercepted, 0, arity) for arity in ALL[:2]},
    "unary_unary": _unary,
    "unary_stream": _unary_stream,
    "stream_unary": _stream_unary,
    "stream_stream, written": _written,
    "cancelled": _cancelled,
    "dropped": _dropped,
}


async def make_many(make: Make, channel: grpc.aio.Channel, body: bytes, metadata: Any, count: int) -> None:
    """Make so many calls, one after the other, whatever becomes of them."""
    for _ in range(count):
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            await make(channel, body, metadata)


@pytest.mark.parametrize("fails", [False, True], ids=["OK", "fails"])
@pytest.mark.parametrize("name", list(MAKES))
@pytest.mark.usefixtures("no_collector")
async def test_aio_calls(name: str, fails: bool, targets: list[str]) -> None:
    metadata = FAILING if fails else None
    make = MAKES[name]
    async with healthlb.aio.HealthAwareChannel(targets, "svc", outliers=None) as channel:
        await channel.wait_until_ready(PATIENCE, min_ready=2)
        await make_many(make, channel, b"", metadata, WARM_UP)
        gc.collect()
        before = len(gc.get_objects())
        await make_many(make, channel, b"", metadata, CALLS)
        await eventually_async(lambda: len(gc.get_objects()) - before < MOST)

        await make_many(make, channel, BIG, metadata, WARM_UP)
        weight = resident()
        await make_many(make, channel, BIG, metadata, BIG_CALLS)
        assert resident() - weight < MOST_BIG
