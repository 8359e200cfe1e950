"""Unary calls of the aio face, beside native grpcio's; the twin of `sync_calls`."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc.aio

from tests.backends import start_backends
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import CONTESTANTS, HEALTHLB, PLAIN, UNARY, open_aio
from tests.benchmarks.effort import Effort
from tests.benchmarks.pairing import alternate

_BACKENDS = 3
_WARM_UP_CALLS = 300
_PATIENCE = 30.0

Call = Callable[[bytes], Awaitable[Any]]


def latency(effort: Effort, *, is_null: bool = False) -> list[Measurement]:
    """Measure the median latency of calls one after the other, in microseconds."""
    with _calls(is_null) as (runner, contestants):
        blocks = {
            name: lambda call=call: runner.run(_median_latency(call, effort.calls))
            for name, call in contestants.items()
        }
        return [Measurement("aio_latency", alternate(blocks, effort.rounds))]


def throughput(effort: Effort, *, is_null: bool = False) -> list[Measurement]:
    """Measure the calls per second of many tasks."""
    with _calls(is_null) as (runner, contestants):
        blocks = {name: lambda call=call: runner.run(_rate(call, effort)) for name, call in contestants.items()}
        return [Measurement("aio_throughput", alternate(blocks, effort.throughput_rounds))]


@contextlib.contextmanager
def _calls(is_null: bool) -> Iterator[tuple[asyncio.Runner, dict[str, Call]]]:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        try:
            yield runner, runner.run(_connect(stack, is_null))
        finally:
            runner.run(stack.aclose())


async def _connect(stack: contextlib.AsyncExitStack, is_null: bool) -> dict[str, Call]:
    backends = start_backends(_BACKENDS)
    for backend in backends:
        stack.callback(backend.close)
    addresses = [backend.address for backend in backends]
    contestants: dict[str, Call] = {}
    for name in CONTESTANTS:
        channel = await stack.enter_async_context(open_aio(HEALTHLB if is_null else name, addresses))
        wanted = 1 if name == PLAIN and not is_null else _BACKENDS
        contestants[name] = await _warm(channel, wanted)
    return contestants


async def _warm(channel: grpc.aio.Channel, wanted: int) -> Call:
    call: Any = channel.unary_unary(UNARY)
    deadline = time.monotonic() + _PATIENCE
    answers: set[bytes] = set()
    while len(answers) < wanted:
        answers.add(await call(b"", timeout=_PATIENCE, wait_for_ready=True))
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {sorted(answers)} of {wanted} backends answer")
    for _ in range(_WARM_UP_CALLS):
        await call(b"")
    return call  # type: ignore[no-any-return]


async def _median_latency(call: Call, count: int) -> float:
    clock = time.perf_counter_ns
    durations = []
    for _ in range(count):
        began_at = clock()
        await call(b"")
        durations.append(clock() - began_at)
    return statistics.median(durations) / 1e3


async def _rate(call: Call, effort: Effort) -> float:
    clock = time.perf_counter
    began_at = clock()
    ends_at = began_at + effort.seconds

    async def work() -> int:
        count = 0
        while clock() < ends_at:
            await call(b"")
            count += 1
        return count

    counts = await asyncio.gather(*(work() for _ in range(effort.tasks)))
    return sum(counts) / (clock() - began_at)
