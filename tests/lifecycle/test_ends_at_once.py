"""An asyncio call that nothing can take ends some turns after it was made, as grpcio's own: not within the call.

A TaskGroup that is still being filled would shut down: with eager tasks, where its task is over before it is another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

import healthlb.aio
from healthlb import Overload
from tests.lifecycle.support import PATIENCE, UNARY

ARITIES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
NOBODY = "127.0.0.1:9"
INVALID = [("new\nline", "v")]
WRONG = [("key", 3)]
TURNS = 3  # the fewest in which grpcio's own calls ended

Open = Callable[[str], contextlib.AbstractAsyncContextManager[Any]]


@contextlib.asynccontextmanager
async def plain(address: str) -> AsyncIterator[Any]:
    """Open grpcio's channel to nobody."""
    async with grpc.aio.insecure_channel(NOBODY) as channel:
        await _fail(channel)
        yield channel


@contextlib.asynccontextmanager
async def unreachable(address: str) -> AsyncIterator[Any]:
    """Open a channel to nobody."""
    async with healthlb.aio.HealthAwareChannel([NOBODY], "svc") as channel:
        await _fail(channel)
        yield channel


@contextlib.asynccontextmanager
async def full(address: str) -> AsyncIterator[Any]:
    """Open a channel that takes no more calls."""
    async with healthlb.aio.HealthAwareChannel([address], "svc", overload=Overload(max_in_flight=1)) as channel:
        await channel.wait_until_ready(PATIENCE)
        first = channel.unary_unary(UNARY)(b"", metadata=(("x-sleep", "60"),))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        yield channel
        first.cancel()


async def _fail(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.unary_unary(UNARY)(b"", timeout=PATIENCE)


def make(channel: Any, arity: str, metadata: Any = None) -> Any:
    """Make a call."""
    request = b"" if arity.startswith("unary") else iter([b""])
    return getattr(channel, arity)("/test.Echo/Any")(request, metadata=metadata)


async def ended(call: Any) -> None:
    """Wait for the call's end, and raise how it failed."""
    if isinstance(call, grpc.aio.UnaryUnaryCall | grpc.aio.StreamUnaryCall):
        await call
    else:
        async for _ in call:
            pass


async def turns_until_done(call: Any, done_at_once: list[bool]) -> int:
    """Return how often the loop turned until the call was over."""
    done_at_once.append(call.done())
    told: list[Any] = []
    call.add_done_callback(told.append)
    count = 0
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not call.done():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0)
        count += 1
    assert told == [call]
    return count


LOOPS: dict[str, Any] = {"lazy tasks": None}
if sys.version_info >= (3, 12):
    LOOPS["eager tasks"] = asyncio.eager_task_factory


# grpcio's own calls with such metadata would never end (1.85.3).
REFUSED = [(opened, metadata) for opened in (unreachable, full) for metadata in (INVALID, WRONG)]


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize("tasks", LOOPS)
@pytest.mark.parametrize(("opened", "metadata"), [(plain, None), (unreachable, None), (full, None), *REFUSED])
async def test_it_is_not_done_when_it_was_made(
    arity: str, opened: Open, tasks: str, metadata: Any, targets: list[str]
) -> None:
    asyncio.get_running_loop().set_task_factory(LOOPS[tasks])
    async with opened(targets[0]) as channel:
        done_at_once: list[bool] = []
        call = make(channel, arity, metadata)

        assert await turns_until_done(call, done_at_once) >= TURNS
        assert done_at_once == [False]
        with pytest.raises((grpc.aio.AioRpcError, TypeError, grpc.aio.InternalError)):
            await ended(call)


@pytest.mark.parametrize("arity", ARITIES)
@pytest.mark.parametrize("opened", [plain, unreachable, full])
@pytest.mark.parametrize("tasks", LOOPS)
async def test_a_task_group_is_filled(arity: str, opened: Open, tasks: str, targets: list[str]) -> None:
    asyncio.get_running_loop().set_task_factory(LOOPS[tasks])
    made = 0

    async def call(channel: Any) -> None:
        await ended(make(channel, arity))

    async def fill(channel: Any) -> None:
        nonlocal made
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(call(channel))
                made += 1

    async with opened(targets[0]) as channel:
        with pytest.raises(ExceptionGroup) as raised:
            await fill(channel)

    assert made == 5
    assert all(isinstance(error, grpc.aio.AioRpcError) for error in raised.value.exceptions)


@pytest.mark.parametrize("end", ["cancel", "close"])
@pytest.mark.parametrize("arity", ARITIES)
async def test_one_that_is_ended_meanwhile(arity: str, end: str) -> None:
    """It is over when `cancel` returns, once, and says so."""
    async with unreachable("") as channel:
        call, told = make(channel, arity), []
        call.add_done_callback(told.append)
        await asyncio.sleep(0)
        if end == "cancel":
            assert call.cancel()
        else:
            await channel.close()
        assert call.done()
        for _ in range(2 * TURNS):
            await asyncio.sleep(0)

        assert told == [call]
        assert await call.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await ended(call)
