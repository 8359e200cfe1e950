"""`follow_state` tells each change of connectivity, on every kind of channel, until that is closed."""

from __future__ import annotations

import asyncio
import gc
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import grpc.aio
import pytest

import healthlb
import healthlb.aio
from healthlb import ChannelUnusable, ConfigError, ConnectivityChange
from healthlb.control.tasks import hidden
from tests.backends.backend import Backend
from tests.backends.clients import PATIENCE, eventually
from tests.lifecycle.support import eventually_async
from tests.server.served import Served

IDLE, CONNECTING, READY, FAILURE, SHUTDOWN = grpc.ChannelConnectivity


class Passing(grpc.UnaryUnaryClientInterceptor):
    """Changes nothing."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details, request)


SYNC: dict[str, Callable[[str], grpc.Channel]] = {
    "plain": grpc.insecure_channel,
    "intercepted": lambda address: grpc.intercept_channel(grpc.insecure_channel(address), Passing()),
    "ours": lambda address: healthlb.HealthAwareChannel([address], service=None),
}
AIO: dict[str, Callable[[str], grpc.aio.Channel]] = {
    "plain": grpc.aio.insecure_channel,
    "ours": lambda address: healthlb.aio.HealthAwareChannel([address], service=None),
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing(Served()) as served:
        yield served


def running() -> set[Any]:
    """Return the tasks of this loop that run, those included that `all_tasks` does not show."""
    loop = asyncio.get_running_loop()
    return asyncio.all_tasks() | {task for task in hidden if task.get_loop() is loop and not task.done()}


class Heard:
    """A callback that keeps what it hears."""

    def __init__(self) -> None:
        self.changes: queue.SimpleQueue[ConnectivityChange] = queue.SimpleQueue()

    def __call__(self, change: ConnectivityChange) -> None:
        self.changes.put(change)

    def until(self, state: grpc.ChannelConnectivity) -> list[grpc.ChannelConnectivity]:
        """Return all states up to this one."""
        states = [self.changes.get(timeout=PATIENCE).state]
        while states[-1] is not state:
            states.append(self.changes.get(timeout=PATIENCE).state)
        return states


# --- sync ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SYNC)
def test_states_come_with_their_time_until_shutdown(served: Served, kind: str) -> None:
    channel, heard, begun_at = SYNC[kind](served.address), Heard(), time.time()
    follower = healthlb.follow_state(channel, heard, try_to_connect=True)
    first = heard.changes.get(timeout=PATIENCE)
    states = [first.state, *heard.until(READY)]
    channel.close()

    assert begun_at <= first.at <= time.time()
    assert states in ([IDLE, READY], [IDLE, CONNECTING, READY])
    assert heard.until(SHUTDOWN) == [SHUTDOWN]
    eventually(lambda: follower.is_closed)
    follower.close()
    assert repr(follower) == "<StateFollower SHUTDOWN closed>"


@pytest.mark.parametrize("kind", SYNC)
def test_a_server_that_goes_away_and_comes_back(kind: str) -> None:
    with Backend(name="b0") as backend, SYNC[kind](backend.address) as channel:
        heard = Heard()
        healthlb.follow_state(channel, heard, try_to_connect=True)
        heard.until(READY)
        backend.kill()
        left = heard.changes.get(timeout=PATIENCE).state
        assert left in (IDLE, CONNECTING, FAILURE)
        backend.restart()
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE, wait_for_ready=True)
        heard.until(READY)


@pytest.mark.parametrize("kind", SYNC)
def test_closing_it_leaves_the_channel(served: Served, kind: str) -> None:
    with SYNC[kind](served.address) as channel:
        heard = Heard()
        with healthlb.follow_state(channel, heard, try_to_connect=True) as follower:
            heard.until(READY)
        follower.close()
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE) == b"\x08\x01"
    eventually(lambda: not [one for one in threading.enumerate() if "_poll_connectivity" in one.name])

    assert heard.changes.empty()


@pytest.mark.parametrize("kind", SYNC)
def test_a_channel_that_is_dropped_or_was_closed(served: Served, kind: str) -> None:
    channel, heard = SYNC[kind](served.address), Heard()
    healthlb.follow_state(channel, heard, try_to_connect=True)
    heard.until(READY)
    ref = weakref.ref(channel)
    if kind != "ours":  # which is closed by its owner only
        del channel
        gc.collect()
        assert ref() is None
        assert heard.until(SHUTDOWN) == [SHUTDOWN]
    else:
        channel.close()
        heard.until(SHUTDOWN)

    channel = SYNC[kind](served.address)
    channel.close()
    late = Heard()
    healthlb.follow_state(channel, late)
    assert late.until(SHUTDOWN)[-1] is SHUTDOWN


def test_a_callback_may_close_and_may_raise(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    heard, ready = Heard(), threading.Event()

    def once(change: ConnectivityChange) -> None:
        ready.wait(PATIENCE)
        heard(change)
        follower.close()
        raise SystemExit("mine")

    with caplog.at_level(logging.ERROR, "healthlb"), grpc.insecure_channel(served.address) as channel:
        follower = healthlb.follow_state(channel, once, try_to_connect=True)
        ready.set()
        heard.until(IDLE)
        eventually(lambda: not [one for one in threading.enumerate() if one.name == "healthlb-callbacks"])

    assert heard.changes.empty()
    assert len(caplog.records) == 1


def test_without_a_callback_it_is_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "healthlb"), grpc.insecure_channel(served.address) as channel:
        healthlb.follow_state(channel, try_to_connect=True)
        line = f"channel {served.address}: READY"
        eventually(lambda: line in [record.getMessage() for record in caplog.records])


def test_a_follower_that_is_closed_is_no_garbage(served: Served) -> None:
    with grpc.insecure_channel(served.address) as channel:
        heard = Heard()
        follower = healthlb.follow_state(channel, heard, try_to_connect=True)
        heard.until(READY)
        gc.collect()
        gc.disable()
        try:
            follower.close()
            ref = weakref.ref(follower)
            del follower
            eventually(lambda: ref() is None)
        finally:
            gc.enable()


def test_what_is_no_channel() -> None:
    for wrong in (None, "a:1"):
        with pytest.raises(ConfigError, match=r"channel must be a grpc\.Channel"):
            healthlb.follow_state(wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"channel must be a grpc\.aio\.Channel"):
            healthlb.aio.follow_state(wrong)  # type: ignore[arg-type]
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(ConfigError, match="callback must be callable or None"):
            healthlb.follow_state(channel, 7)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"see healthlb\.follow_state"):
            healthlb.aio.follow_state(channel)  # type: ignore[arg-type]


# --- asyncio ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AIO)
def test_states_come_with_their_time_until_shutdown_aio(served: Served, kind: str) -> None:
    async def work() -> list[ConnectivityChange]:
        seen: list[ConnectivityChange] = []
        async with AIO[kind](served.address) as channel:
            follower = healthlb.aio.follow_state(channel, seen.append, try_to_connect=True)
            await eventually_async(lambda: bool(seen) and seen[-1].state is READY)
            await eventually_async(lambda: len(seen) > 1)
        await eventually_async(lambda: follower.is_closed)
        await follower.close()
        await eventually_async(lambda: running() == {asyncio.current_task()})
        return seen

    begun_at = time.time()
    changes = asyncio.run(work(), debug=True)

    states = [change.state for change in changes]
    assert states in ([IDLE, READY, SHUTDOWN], [IDLE, CONNECTING, READY, SHUTDOWN])
    assert begun_at <= changes[0].at <= changes[-1].at <= time.time()


@pytest.mark.parametrize("kind", AIO)
def test_closing_it_leaves_nothing_pending(served: Served, kind: str) -> None:
    async def work() -> None:
        seen: list[ConnectivityChange] = []
        async with AIO[kind](served.address) as channel:
            before = running()
            async with healthlb.aio.follow_state(channel, seen.append) as follower:
                await eventually_async(lambda: bool(seen))
            assert running() <= before
            assert follower.is_closed
            gc.disable()
            ref = weakref.ref(follower)
            del follower
            await eventually_async(lambda: ref() is None)
            gc.enable()
            assert channel.get_state() is IDLE
        assert [change.state for change in seen] == [IDLE]

    asyncio.run(work(), debug=True)


def test_a_loop_that_ends_first_is_silent(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> Any:
        channel = grpc.aio.insecure_channel(served.address)
        follower = healthlb.aio.follow_state(channel, lambda change: None, try_to_connect=True)
        await asyncio.sleep(0.05)
        return channel, follower

    left = [asyncio.run(leave(), debug=True) for _ in range(3)]
    del left
    gc.collect()
    asyncio.run(asyncio.sleep(0.3))

    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_it_needs_a_loop_aio() -> None:
    async def make() -> grpc.aio.Channel:
        return grpc.aio.insecure_channel("127.0.0.1:1")

    with pytest.raises(ChannelUnusable, match="needs a running event loop"):
        healthlb.aio.follow_state(asyncio.run(make()))
