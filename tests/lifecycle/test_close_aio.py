"""Closing an aio channel: at any time, from any task, as often as one likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

import healthlb.aio
from tests.backends import Backend
from tests.backends.clients import tasks_of
from tests.lifecycle.support import PATIENCE, UNARY, eventually_async

SLOW = (("x-sleep", "60"),)
CLOSED = "Channel is closed."


async def code_of(call: Any) -> grpc.StatusCode:
    """Return how a call ends."""
    try:
        await call
    except (grpc.aio.AioRpcError, asyncio.CancelledError):
        pass
    code: grpc.StatusCode = await call.code()
    return code


def in_flight(channel: healthlb.aio.HealthAwareChannel) -> int:
    """Return how many calls are under way."""
    return sum(status.in_flight for status in channel.subchannels())


@pytest.fixture(params=["unused", "connecting", "ready"])
async def channel(
    request: pytest.FixtureRequest, targets: list[str], silent: str
) -> AsyncIterator[healthlb.aio.HealthAwareChannel]:
    """Return a channel in some part of its life."""
    made = healthlb.aio.HealthAwareChannel([silent] if request.param == "connecting" else targets, "svc")
    if request.param == "connecting":
        made.get_state(try_to_connect=True)
    if request.param == "ready":
        await made.wait_until_ready(PATIENCE)
    yield made
    await made.close()


async def test_a_closed_channel_takes_no_calls(channel: healthlb.aio.HealthAwareChannel) -> None:
    made_before = channel.unary_unary(UNARY)
    await channel.close()

    for attempt in (
        lambda: made_before(b""),
        lambda: channel.unary_unary(UNARY)(b""),
        lambda: channel.unary_stream("/test.Echo/ServerStream")(b""),
        lambda: channel.stream_unary("/test.Echo/ClientStream")(iter([b""])),
        lambda: channel.stream_stream("/test.Echo/Bidi")(iter([b""])),
    ):
        with pytest.raises(grpc.aio.UsageError, match=CLOSED) as caught:
            attempt()
        assert isinstance(caught.value, healthlb.ChannelClosed | ValueError)
    with pytest.raises(healthlb.ChannelClosed):
        await channel.wait_until_ready(1.0)
    with pytest.raises(grpc.aio.UsageError):
        await channel.channel_ready()
    assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.SHUTDOWN


async def test_close_again_and_at_once(channel: healthlb.aio.HealthAwareChannel) -> None:
    await asyncio.gather(*(channel.close() for _ in range(16)))
    await channel.close(1.0)

    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("grace", [None, 0, 0.05])
async def test_close_ends_calls_that_wait(grace: float | None, silent: str) -> None:
    channel = healthlb.aio.HealthAwareChannel([silent], "svc")
    unary = channel.unary_unary(UNARY)(b"", wait_for_ready=True)
    stream = channel.unary_stream("/test.Echo/ServerStream")(b"", wait_for_ready=True)
    writer = channel.stream_unary("/test.Echo/ClientStream")(wait_for_ready=True)
    waiting = [asyncio.ensure_future(code_of(unary)), asyncio.ensure_future(stream.read())]
    written = asyncio.ensure_future(writer.write(b""))
    await eventually_async(lambda: channel.get_state() is grpc.ChannelConnectivity.CONNECTING)
    await channel.close(grace)
    ends = await asyncio.wait_for(asyncio.gather(*waiting, written, return_exceptions=True), PATIENCE)

    assert ends[0] is grpc.StatusCode.CANCELLED
    assert all(
        isinstance(end, grpc.aio.AioRpcError | asyncio.CancelledError | asyncio.InvalidStateError) for end in ends[1:]
    )
    assert {await call.code() for call in (unary, stream, writer)} == {grpc.StatusCode.CANCELLED}


async def test_close_ends_calls_under_way(targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    await channel.wait_until_ready(PATIENCE)
    calls = [channel.unary_unary(UNARY)(b"", metadata=SLOW) for _ in range(8)]
    stream = channel.unary_stream("/test.Echo/ServerStream")(b"", metadata=(("x-count", "99"), ("x-interval", "60")))
    await stream.read()
    await eventually_async(lambda: in_flight(channel) == 9)
    await channel.close()

    assert {await asyncio.wait_for(code_of(call), PATIENCE) for call in calls} == {grpc.StatusCode.CANCELLED}
    assert await asyncio.wait_for(stream.code(), PATIENCE) is grpc.StatusCode.CANCELLED


async def test_close_with_grace_lets_calls_end(targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    await channel.wait_until_ready(PATIENCE)
    call = channel.unary_unary(UNARY)(b"", metadata=(("x-sleep", "0.2"),))
    await asyncio.sleep(0)
    await channel.close(PATIENCE)

    assert await code_of(call) is grpc.StatusCode.OK


async def test_close_that_is_cancelled_closes_all_the_same(backends: list[Backend], targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    await channel.wait_until_ready(PATIENCE)
    call = channel.unary_unary(UNARY)(b"", metadata=SLOW)
    closing = asyncio.ensure_future(channel.close(60))
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    await channel.close()
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    assert await asyncio.wait_for(code_of(call), PATIENCE) is grpc.StatusCode.CANCELLED
    await eventually_async(lambda: not any(backend.stats().watches_open for backend in backends))


@pytest.mark.parametrize("grace", [None, 0, 0.1, 60])
async def test_a_second_close_leaves_calls_the_grace_of_the_first(grace: float | None, targets: list[str]) -> None:
    """As with grpcio, beside it: a shutdown with grace in a task, inside `async with`."""
    for channel in (grpc.aio.insecure_channel(targets[0]), healthlb.aio.HealthAwareChannel(targets, "svc")):
        await channel.channel_ready()
        call = channel.unary_unary(UNARY)(b"", metadata=(("x-sleep", "0.5"),))
        await asyncio.sleep(0)
        first = asyncio.ensure_future(channel.close(PATIENCE))
        await asyncio.sleep(0)
        await asyncio.wait_for(channel.close(grace), PATIENCE)

        assert not first.done()
        assert await code_of(call) is grpc.StatusCode.OK
        await first


async def test_a_close_that_is_cancelled_leaves_calls_to_their_end(targets: list[str]) -> None:
    """As with grpcio, beside it. Ours can be closed for good afterwards."""
    for channel in (grpc.aio.insecure_channel(targets[0]), healthlb.aio.HealthAwareChannel(targets, "svc")):
        await channel.channel_ready()
        call = channel.unary_unary(UNARY)(b"", metadata=(("x-sleep", "0.5"),))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.close(60), 0.1)

        with pytest.raises(grpc.aio.UsageError):
            channel.unary_unary(UNARY)(b"")
        assert await code_of(call) is grpc.StatusCode.OK
        await channel.close()


async def test_negative_grace_is_refused_as_by_grpcio(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        with pytest.raises(ValueError, match="grace"):
            await channel.close(-1)


async def test_close_ends_waits(silent: str) -> None:
    channel = healthlb.aio.HealthAwareChannel([silent], "svc")
    waits = [
        asyncio.ensure_future(channel.wait_until_ready()),
        asyncio.ensure_future(channel.channel_ready()),
    ]
    changes = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.CONNECTING))
    await eventually_async(lambda: channel.get_state() is grpc.ChannelConnectivity.CONNECTING)
    await channel.close()
    ends = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), PATIENCE)
    await asyncio.wait_for(changes, PATIENCE)

    assert [isinstance(end, grpc.aio.UsageError) for end in ends] == [True, True]


async def test_close_from_a_done_callback(targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets[:1], "svc")
    await channel.wait_until_ready(PATIENCE)
    others = [channel.unary_unary(UNARY)(b"", metadata=SLOW) for _ in range(4)]
    closing: list[asyncio.Task[None]] = []
    last = channel.unary_unary(UNARY)(b"")
    last.add_done_callback(lambda call: closing.append(asyncio.ensure_future(channel.close())))
    await eventually_async(lambda: bool(closing))
    await asyncio.wait_for(closing[0], PATIENCE)

    assert {await asyncio.wait_for(code_of(call), PATIENCE) for call in others} == {grpc.StatusCode.CANCELLED}


async def test_close_from_a_listener(targets: list[str]) -> None:
    closing: list[asyncio.Task[None]] = []
    channel = healthlb.aio.HealthAwareChannel(
        targets, "svc", listeners=[lambda fact: closing.append(asyncio.ensure_future(channel.close()))]
    )
    channel.get_state(try_to_connect=True)
    await eventually_async(lambda: bool(closing))
    await asyncio.wait_for(asyncio.gather(*closing), PATIENCE)

    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


class ClosingResolver:
    """Closes its channel, then goes on as if nothing had happened."""

    def __init__(self, address: str) -> None:
        """Know one address."""
        self.channel: healthlb.aio.HealthAwareChannel
        self._address = address

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Close from the resolver's own task."""
        await self.channel.close()
        update([healthlb.Endpoint(self._address)])


async def test_close_from_a_resolver(targets: list[str]) -> None:
    resolver = ClosingResolver(targets[0])
    resolver.channel = channel = healthlb.aio.HealthAwareChannel(resolver, "svc")
    call = channel.unary_unary(UNARY)(b"", wait_for_ready=True)

    assert await asyncio.wait_for(code_of(call), PATIENCE) is grpc.StatusCode.CANCELLED


async def test_calls_that_start_while_closing(targets: list[str]) -> None:
    for _ in range(5):
        channel = healthlb.aio.HealthAwareChannel(targets, "svc")
        await channel.wait_until_ready(PATIENCE)
        unary = channel.unary_unary(UNARY)

        async def use(unary: Any) -> set[object]:
            outcomes: set[object] = set()
            while True:
                try:
                    await unary(b"")
                except grpc.aio.AioRpcError as error:
                    outcomes.add(error.code())
                except asyncio.CancelledError:
                    outcomes.add(grpc.StatusCode.CANCELLED)
                except healthlb.ChannelClosed as error:
                    assert str(error) == "Channel is closed."
                    return outcomes

        users = [asyncio.ensure_future(use(unary)) for _ in range(8)]
        await unary(b"")
        await channel.close()
        outcomes = set().union(*await asyncio.wait_for(asyncio.gather(*users), PATIENCE))

        assert outcomes <= {grpc.StatusCode.CANCELLED}


async def test_a_server_sees_no_more_of_a_closed_channel(backends: list[Backend], targets: list[str]) -> None:
    before = tasks_of()
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        await channel.wait_until_ready(PATIENCE, min_ready=2)
        calls = [channel.unary_unary(UNARY)(b"", metadata=SLOW) for _ in range(4)]
        await eventually_async(lambda: sum(backend.stats().in_flight for backend in backends) >= 4)

    await eventually_async(lambda: not any(backend.stats().watches_open for backend in backends))
    await eventually_async(lambda: not any(backend.stats().in_flight for backend in backends))
    await eventually_async(lambda: tasks_of() == before)
    assert all(call.done() for call in calls)
