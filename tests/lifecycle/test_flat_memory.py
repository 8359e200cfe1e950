"""An ended call leaves nothing that only the garbage collector finds: with it switched off, memory stays flat.

Python's own objects are counted, which tells a cycle of one call in a hundred; requests of 200 KiB are weighed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Iterator
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


MAKES: dict[str, Make] = {
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
