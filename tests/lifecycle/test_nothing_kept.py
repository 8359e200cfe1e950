"""With the garbage collector off, ended calls leave nothing: they are part of no cycle, and keep no request.

The server is another process. What a failed call's *caller* keeps is its own: an error holds the frames it came through,
and a frame that holds the call in turn makes a cycle, as with grpcio. So these callers keep none.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb import Failover
from healthlb.aio.hedging import FirstAttempts
from healthlb.core.messages import SECOND
from tests.backends import Backend
from tests.lifecycle.support import PATIENCE, eventually

CALLS = 300
SIZE = 100 * 1024
# What all calls together may leave, where a single request is as much.
MOST = SIZE
REQUEST = bytes(SIZE)
FAIL = (("x-fail", "UNAVAILABLE"),)
SLOW = (("x-sleep", "30"),)
ENDS = {"ok": None, "failed": FAIL}


@pytest.fixture
def channel(targets: list[str]) -> Iterator[healthlb.HealthAwareChannel]:
    """Return one that makes two attempts, and ejects nobody."""
    failover = Failover(idempotent=True, max_attempts=2, budget=None)
    with healthlb.HealthAwareChannel(targets, "svc", failover=failover, outliers=None) as opened:
        opened.wait_until_ready(PATIENCE, 2)
        yield opened


def forms(channel: healthlb.HealthAwareChannel) -> dict[str, Callable[[Any], Any]]:
    """Return each form of a call: made with metadata, and its end awaited."""
    unary, client_stream = channel.unary_unary("/test.Echo/Unary"), channel.stream_unary("/test.Echo/ClientStream")
    stream, bidi = channel.unary_stream("/test.Echo/ServerStream"), channel.stream_stream("/test.Echo/Bidi")
    return {
        "call": lambda metadata: unary(REQUEST, PATIENCE, metadata),
        "with_call": lambda metadata: unary.with_call(REQUEST, PATIENCE, metadata)[0],
        "future": lambda metadata: result(unary.future(REQUEST, PATIENCE, metadata)),
        "future, asked": lambda metadata: asked(unary.future(REQUEST, PATIENCE, metadata)),
        "stream": lambda metadata: drained(stream(REQUEST, PATIENCE, metadata)),
        "client stream": lambda metadata: client_stream(iter([REQUEST]), PATIENCE, metadata),
        "its future": lambda metadata: result(client_stream.future(iter([REQUEST]), PATIENCE, metadata)),
        "bidi": lambda metadata: drained(bidi(iter([REQUEST]), PATIENCE, metadata)),
    }


def result(future: Any) -> Any:
    """Return its response; hold nothing of it where it fails."""
    try:
        return future.result()
    finally:
        del future


def asked(future: Any) -> None:
    """Ask how it ended; hold nothing of it."""
    assert (future.exception() is None) is (future.traceback() is None)


def drained(responses: Any) -> None:
    """Read all; hold nothing of them where they fail."""
    try:
        for _ in responses:
            pass
    finally:
        del responses


def quietly(run: Callable[[], Any]) -> None:
    """Run it; what it raises is of no interest."""
    try:
        run()
    except grpc.RpcError:
        pass


def leaves_nothing(call: Callable[[], Any], channel: healthlb.HealthAwareChannel) -> None:
    """Make many calls without the collector, and compare what is held; there must be nothing to collect either.

    What calls leave, they leave each time. Other threads of this process allocate, too, but not three times in a row.
    """
    for _ in range(20):
        quietly(call)
    settle(channel)
    gc.collect()
    gc.disable()
    try:
        found = [grown(call, channel)]
        while min(found) >= MOST and len(found) < 3:
            found.append(grown(call, channel))
        garbage = gc.collect()
    finally:
        gc.enable()
    assert min(found) < MOST, found
    assert garbage < len(found) * CALLS // 3


def settle(channel: healthlb.HealthAwareChannel) -> None:
    """Wait until no call is under way."""
    eventually(lambda: not any(status.in_flight for status in channel.subchannels()))


def grown(call: Callable[[], Any], channel: healthlb.HealthAwareChannel) -> int:
    """Return by how many bytes of Python's own memory has grown over many calls."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(CALLS):
            quietly(call)
        settle(channel)
        with contextlib.suppress(AssertionError):
            eventually(lambda: tracemalloc.get_traced_memory()[0] - before < MOST, 3.0)
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("form", forms(healthlb.HealthAwareChannel(["127.0.0.1:1"])))
def test_an_ended_call(form: str, end: str, channel: healthlb.HealthAwareChannel) -> None:
    call = forms(channel)[form]
    leaves_nothing(lambda: call(ENDS[end]), channel)


@pytest.mark.parametrize("end", ["cancelled", "dropped"])
def test_a_call_that_nobody_wants_any_more(end: str, channel: healthlb.HealthAwareChannel) -> None:
    unary: Any = channel.unary_unary("/test.Echo/Unary")
    stream: Any = channel.unary_stream("/test.Echo/ServerStream")

    def make() -> None:
        for call in (unary.future(REQUEST, PATIENCE, SLOW), stream(REQUEST, PATIENCE, SLOW)):
            if end == "cancelled":
                call.cancel()

    leaves_nothing(make, channel)


def test_a_call_that_waits(backends: list[Backend], silent: str) -> None:
    with healthlb.HealthAwareChannel([silent], "svc") as channel:
        unary: Any = channel.unary_unary("/test.Echo/Unary")
        leaves_nothing(lambda: unary.future(REQUEST, PATIENCE).cancel(), channel)
        leaves_nothing(lambda: unary(REQUEST, 0.001), channel)
        assert channel._subchannels.admission.limiter.waiting == 0


def test_a_kept_future_keeps_no_request(channel: healthlb.HealthAwareChannel) -> None:
    unary: Any = channel.unary_unary("/test.Echo/Unary")
    futures = [unary.future(bytes(SIZE), PATIENCE) for _ in range(3)]
    for future in futures:
        future.result()
    eventually(lambda: not any(len(held) == SIZE for held in _bytes_of(futures)))


def _bytes_of(root: Any) -> list[bytes]:
    """Return what bytes an object holds, near and far."""
    found: list[bytes] = []
    seen: set[int] = set()
    stack = [root]
    while stack:
        for held in gc.get_referents(stack.pop()):
            is_part = type(held).__module__.startswith(("healthlb.sync", "grpc", "builtins"))
            if isinstance(held, bytes):
                found.append(held)
            elif is_part and id(held) not in seen and not isinstance(held, type | ModuleType | FunctionType):
                seen.add(id(held))
                stack.append(held)
    return found


# --- hedged calls: attempts, a timer and a plan hold each other while they last -------------------------

HEDGES = 12
LATE = (("x-sleep", "0.03"),)
ENDS_OF_HEDGED: dict[str, Callable[[Any], Any]] = {
    "at once": lambda unary: unary(b"", PATIENCE),
    "late": lambda unary: unary(b"", PATIENCE, LATE),
    "late, as a future": lambda unary: result(unary.future(b"", PATIENCE, LATE)),
    "at its deadline": lambda unary: unary(b"", 0.03, SLOW),
    "at its deadline, as a future": lambda unary: result(unary.future(b"", 0.03, SLOW)),
    "failed": lambda unary: unary(b"", PATIENCE, FAIL),
    "failed late": lambda unary: unary(b"", PATIENCE, (*FAIL, *LATE)),
    "failed late, as a future": lambda unary: result(unary.future(b"", PATIENCE, (*FAIL, *LATE))),
    "cancelled": lambda unary: unary.future(b"", PATIENCE, SLOW).cancel(),
    "cancelled late": lambda unary: _cancel_late(unary.future(b"", PATIENCE, SLOW)),
}


def _cancel_late(future: Any) -> None:
    with contextlib.suppress(grpc.FutureTimeoutError):
        future.result(0.03)
    future.cancel()


@pytest.mark.parametrize("number", [1, 2], ids=["one backend", "two backends"])
def test_an_ended_hedged_call_is_part_of_no_cycle(number: int, targets: list[str]) -> None:
    failover = Failover(idempotent=True, hedging_delay=0.01, budget=None)
    found = {}
    with healthlb.HealthAwareChannel(targets[:number], "svc", failover=failover, outliers=None) as channel:
        channel.wait_until_ready(PATIENCE, number)
        unary: Any = channel.unary_unary("/test.Echo/Unary")
        for name, end in ENDS_OF_HEDGED.items():
            found[name] = _collected(partial(end, unary), channel)

    # What other threads of this process leave at times is less than three objects for each call.
    assert {name: count for name, count in found.items() if count >= 3 * HEDGES} == {}


def test_hedged_calls_that_are_answered_in_time_share_one_timer(targets: list[str]) -> None:
    failover = Failover(idempotent=True, hedging_delay=60.0)
    with healthlb.HealthAwareChannel(targets, "svc", failover=failover, outliers=None) as channel:
        unary: Any = channel.unary_unary("/test.Echo/Unary")
        for _ in range(20):
            unary(b"", PATIENCE)
        waiting = channel._subchannels.rescuable.hedged[60 * SECOND].waiting
        timers = channel._subchannels._control._alarms

        assert (len(waiting), len(timers)) == (0, 1)
    assert not timers


def test_asyncio_calls_that_are_answered_in_time_share_one_timer(targets: list[str]) -> None:
    async def timers() -> tuple[int, int]:
        failover = Failover(idempotent=True, hedging_delay=60.0)
        async with healthlb.aio.HealthAwareChannel(targets, "svc", failover=failover, outliers=None) as channel:
            unary: Any = channel.unary_unary("/test.Echo/Unary")
            await channel.channel_ready()
            await asyncio.gather(*(unary(b"", timeout=PATIENCE) for _ in range(20)))
            while_open = _hedging_timers()
        return while_open, _hedging_timers()

    assert asyncio.run(timers()) == (1, 0)


def _hedging_timers() -> int:
    scheduled: Any = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    return sum(
        not timer.cancelled() and isinstance(getattr(timer._callback, "__self__", None), FirstAttempts)
        for timer in scheduled
    )


def _collected(call: Callable[[], Any], channel: healthlb.HealthAwareChannel) -> int:
    """Return how many objects are part of cycles after many calls."""
    quietly(call)
    settle(channel)
    gc.collect()
    gc.disable()
    try:
        for _ in range(HEDGES):
            quietly(call)
        settle(channel)
        with contextlib.suppress(AssertionError):
            eventually(lambda: not channel._subchannels._control._alarms, 1.0)
        return gc.collect()
    finally:
        gc.enable()
