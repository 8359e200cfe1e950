"""An aio channel belongs to the loop of its first use; elsewhere it says so, and no loop is left with its tasks."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import healthlb.aio
from tests.backends import Backend
from tests.backends.clients import tasks_of
from tests.lifecycle.support import PATIENCE, UNARY, Nursery, eventually, eventually_async

OTHER_LOOP = "bound to the event loop of its first use"
NO_LOOP = "inside a running event loop"

# What a user may do first with a channel, or next.
USES: dict[str, Callable[[healthlb.aio.HealthAwareChannel], Coroutine[Any, Any, Any]]] = {}


def use(function: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Add a use."""
    USES[function.__name__] = function
    return function


@use
async def call(channel: healthlb.aio.HealthAwareChannel) -> Any:
    """Call."""
    return await channel.unary_unary(UNARY)(b"", timeout=PATIENCE)


@use
async def stream(channel: healthlb.aio.HealthAwareChannel) -> Any:
    """Read a stream."""
    metadata = (("x-count", "1"),)
    return [answer async for answer in channel.unary_stream("/test.Echo/ServerStream")(b"", metadata=metadata)]


@use
async def wait_until_ready(channel: healthlb.aio.HealthAwareChannel) -> Any:
    """Wait."""
    await channel.wait_until_ready(PATIENCE)


@use
async def channel_ready(channel: healthlb.aio.HealthAwareChannel) -> Any:
    """Wait as with grpcio."""
    await channel.channel_ready()


@use
async def get_state(channel: healthlb.aio.HealthAwareChannel) -> Any:
    """Connect."""
    channel.get_state(try_to_connect=True)


@pytest.mark.parametrize("again", USES)
def test_second_loop(again: str, targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    asyncio.run(call(channel))
    with pytest.raises(healthlb.ChannelUnusable, match=OTHER_LOOP):
        asyncio.run(USES[again](channel))


@pytest.mark.parametrize("first", USES)
def test_made_outside_of_any_loop(first: str, targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    assert channel.get_state() is grpc.ChannelConnectivity.IDLE
    unary = channel.unary_unary(UNARY)

    async def main() -> Any:
        await USES[first](channel)
        answer = await unary(b"", timeout=PATIENCE)
        await channel.close()
        return answer

    assert asyncio.run(main()) in (b"b0", b"b1")


def test_used_outside_of_any_loop(targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    unary = channel.unary_unary(UNARY)
    with pytest.raises(healthlb.ChannelUnusable, match=NO_LOOP):
        unary(b"")
    with pytest.raises(healthlb.ChannelUnusable, match=NO_LOOP):
        channel.get_state(try_to_connect=True)

    async def main() -> Any:
        async with channel:
            return await unary(b"", timeout=PATIENCE)

    assert asyncio.run(main()) in (b"b0", b"b1")


def in_thread(work: Callable[[], Any]) -> Any:
    """Return what `work` gives in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(2 * PATIENCE)


@pytest.mark.parametrize("again", USES)
async def test_another_thread_with_a_loop(again: str, targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        await call(channel)
        with pytest.raises(healthlb.ChannelUnusable, match=OTHER_LOOP):
            in_thread(lambda: asyncio.run(USES[again](channel)))
        assert await call(channel) in (b"b0", b"b1")


async def test_another_thread_without_a_loop(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        await call(channel)
        with pytest.raises(healthlb.ChannelUnusable, match=NO_LOOP):
            in_thread(lambda: channel.unary_unary(UNARY)(b""))
        assert await call(channel) in (b"b0", b"b1")


async def test_state_may_be_read_from_any_thread(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        await channel.wait_until_ready(PATIENCE, min_ready=2)

        assert in_thread(channel.state) is grpc.ChannelConnectivity.READY
        assert len(in_thread(channel.subchannels)) == 2


def test_close_on_another_loop_is_refused_and_changes_nothing(targets: list[str]) -> None:
    loop = asyncio.new_event_loop()
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    loop.run_until_complete(call(channel))
    with pytest.raises(healthlb.ChannelUnusable, match=OTHER_LOOP):
        in_thread(lambda: asyncio.run(channel.close()))

    assert loop.run_until_complete(call(channel)) in (b"b0", b"b1")
    loop.run_until_complete(channel.close())
    loop.close()


async def test_one_loop_in_each_thread(targets: list[str]) -> None:
    async def main() -> list[Any]:
        async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
            return [await call(channel) for _ in range(50)]

    def run() -> list[Any]:
        return asyncio.run(main())

    with ThreadPoolExecutor(4) as pool:
        answers = await asyncio.gather(*(asyncio.wrap_future(pool.submit(run)) for _ in range(4)))

    assert {answer for thread in answers for answer in thread} == {b"b0", b"b1"}


async def test_first_use_from_many_tasks_makes_one_control_plane(backends: list[Backend], targets: list[str]) -> None:
    before = sum(backend.stats().watches_started for backend in backends)
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        await asyncio.gather(*(call(channel) for _ in range(32)))
        await channel.wait_until_ready(PATIENCE, min_ready=2)

        assert sum(backend.stats().watches_started for backend in backends) - before == 2


@pytest.mark.parametrize("is_cyclic", [False, True], ids=["dropped", "in a cycle"])
@pytest.mark.parametrize("how", ["unused", "connecting", "ready", "listened to"])
async def test_a_collected_channel_leaves_no_task(
    how: str, is_cyclic: bool, backends: list[Backend], targets: list[str], silent: str
) -> None:
    before = tasks_of()
    channel = healthlb.aio.HealthAwareChannel([silent] if how == "connecting" else targets, "svc")
    if how == "connecting":
        channel.get_state(try_to_connect=True)
    if how in ("ready", "listened to"):
        await channel.wait_until_ready(PATIENCE)
    if how == "listened to":
        channel.add_listener(lambda fact: None)
    if is_cyclic:
        channel.cycle = channel  # type: ignore[attr-defined]
    stub = channel.unary_unary(UNARY)
    gone = weakref.ref(channel._subchannels)
    del channel, stub
    gc.collect()

    await eventually_async(lambda: gone() is None)
    await eventually_async(lambda: tasks_of() == before)
    await eventually_async(lambda: not any(backend.stats().watches_open for backend in backends))


async def test_a_channel_that_another_thread_collects(backends: list[Backend], targets: list[str]) -> None:
    before = tasks_of()
    channels = [healthlb.aio.HealthAwareChannel(targets, "svc")]
    await channels[0].wait_until_ready(PATIENCE)
    in_thread(channels.clear)

    await eventually_async(lambda: tasks_of() == before)
    await eventually_async(lambda: not any(backend.stats().watches_open for backend in backends))


def test_asyncio_run_closes_a_channel_that_was_left_open(backends: list[Backend], targets: list[str]) -> None:
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    asyncio.run(call(channel))

    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    eventually(lambda: not any(backend.stats().watches_open for backend in backends))


NEXT_LOOP = """
    import asyncio, gc, sys
    import healthlb.aio
    targets = sys.argv[1].split(",")

    async def first():
        channel = healthlb.aio.HealthAwareChannel(targets, "svc")
        await channel.unary_unary("/test.Echo/Unary")(b"")
        {end}
        return channel

    async def second(number):
        async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
            for _ in range(20):
                await asyncio.wait_for(channel.unary_unary("/test.Echo/Unary")(b""), 20)
                await asyncio.sleep(0.01)

    kept = asyncio.run(first())
    asyncio.run(second(1))
    del kept
    gc.collect()
    asyncio.run(second(2))
    print("done")
"""


@pytest.mark.parametrize("end", ["pass", "await channel.close()", "await channel.close(1)"])
def test_the_next_loop_hears_nothing_of_the_last(end: str, targets: list[str], nursery: Nursery) -> None:
    """grpcio has one poller for all loops, and a word for a closed one is an error in the next."""
    assert nursery.run(NEXT_LOOP.format(end=end), ",".join(targets)) == ["done"]


def test_a_loop_that_was_never_run_again(targets: list[str]) -> None:
    """Tasks of a stopped loop wait; the channel goes on where it was when the loop runs again."""
    loop = asyncio.new_event_loop()
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    for _ in range(3):
        assert loop.run_until_complete(call(channel)) in (b"b0", b"b1")
    loop.run_until_complete(channel.close())
    loop.close()


def test_uvloop_like_policies_do_not_matter(targets: list[str]) -> None:
    """A loop that is not the thread's current one will do, as long as it runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    answer = asyncio.run_coroutine_threadsafe(call(channel), loop).result(PATIENCE)
    asyncio.run_coroutine_threadsafe(channel.close(), loop).result(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()

    assert answer in (b"b0", b"b1")


def test_import_starts_no_loop() -> None:
    code = "import threading, healthlb, healthlb.aio; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "1\n"


@pytest.mark.parametrize("arity", ["stream_unary", "stream_stream"])
async def test_a_call_that_was_over_before_it_began_keeps_nobody_waiting(targets: list[str], arity: str) -> None:
    """grpcio's interceptors do that with eager tasks to a call whose requests are written (1.85.3)."""
    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        call = getattr(channel, arity)("/test.Echo/Any")(None)
        call._cython_call.cancel("before it began")

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call.wait_for_connection(), PATIENCE)


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("requests", [(), (b"a",)])
    async def test_a_stream_that_ends_while_it_is_made(targets: list[str], requests: tuple[bytes, ...]) -> None:
        """With eager tasks a call begins, and this one ends, before grpcio has put it together."""
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
            call = channel.stream_stream("/test.Echo/Bidi")(iter(requests), metadata=[("new\nline", "v")])

            with pytest.raises(grpc.aio.AioRpcError, match="metadata"):
                await asyncio.wait_for(anext(aiter(call)), PATIENCE)
