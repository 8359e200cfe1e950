"""Calls of the aio face, beside native grpcio's; the twin of `sync_calls`."""

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
from tests.benchmarks.contestants import AGAIN, BIDI, CONTESTANTS, PLAIN, SERVER_STREAM, UNARY, open_aio
from tests.benchmarks.effort import Effort
from tests.benchmarks.pairing import alternate

_BACKENDS = 3
_WARM_UP_CALLS = 300
_PATIENCE = 30.0

Call = Callable[[bytes], Awaitable[Any]]


def latency(effort: Effort, row: str = "") -> list[Measurement]:
    """Measure the median latency of calls one after the other, in microseconds."""
    with _channels() as (runner, channels):
        blocks = {
            name: _block(runner, _median_latency, _unary(channel), effort.calls) for name, channel in channels.items()
        }
        return [Measurement("aio_latency", alternate(blocks, effort.rounds))]


def throughput(effort: Effort, row: str = "") -> list[Measurement]:
    """Measure the calls per second of many tasks."""
    with _channels() as (runner, channels):
        blocks = {name: _block(runner, _rate, _unary(channel), effort) for name, channel in channels.items()}
        return [Measurement("aio_throughput", alternate(blocks, effort.throughput_rounds))]


def streaming(effort: Effort, row: str = "") -> list[Measurement]:
    """Measure the messages per second that one stream takes, and that one sends and takes in turn."""
    with _channels() as (runner, channels):
        return [
            Measurement(figure, alternate(blocks, effort.stream_rounds))
            for figure, flow in (("aio_stream", _take), ("aio_bidi", _converse))
            if row in ("", figure)
            for blocks in [{name: _block(runner, flow, one, effort.messages) for name, one in channels.items()}]
        ]


def _block(runner: asyncio.Runner, measure: Callable[..., Any], *arguments: Any) -> Callable[[], float]:
    return lambda: runner.run(measure(*arguments))


@contextlib.contextmanager
def _channels() -> Iterator[tuple[asyncio.Runner, dict[str, grpc.aio.Channel]]]:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        try:
            yield runner, runner.run(_connect(stack))
        finally:
            runner.run(stack.aclose())


async def _connect(stack: contextlib.AsyncExitStack) -> dict[str, grpc.aio.Channel]:
    backends = start_backends(_BACKENDS)
    for backend in backends:
        stack.callback(backend.close)
    addresses = [backend.address for backend in backends]
    channels: dict[str, grpc.aio.Channel] = {}
    for name in (*CONTESTANTS, AGAIN):
        channels[name] = await stack.enter_async_context(open_aio(name, addresses))
        await _warm(channels[name], 1 if name == PLAIN else _BACKENDS)
    return channels


def _unary(channel: grpc.aio.Channel) -> Call:
    return channel.unary_unary(UNARY)


async def _warm(channel: grpc.aio.Channel, wanted: int) -> None:
    call: Any = _unary(channel)
    deadline = time.monotonic() + _PATIENCE
    answers: set[bytes] = set()
    while len(answers) < wanted:
        answers.add(await call(b"", timeout=_PATIENCE, wait_for_ready=True))
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {sorted(answers)} of {wanted} backends answer")
    for _ in range(_WARM_UP_CALLS):
        await call(b"")


async def _median_latency(call: Call, count: int) -> float:
    clock = time.perf_counter_ns
    durations = []
    for _ in range(count):
        began_at = clock()
        await call(b"")
        durations.append(clock() - began_at)
    return statistics.median(durations) / 1e3


async def _take(channel: grpc.aio.Channel, count: int) -> float:
    stream: Any = channel.unary_stream(SERVER_STREAM)
    began_at = time.perf_counter()
    taken = 0
    async for _ in stream(b"", metadata=(("x-count", str(count)),)):
        taken += 1
    return taken / (time.perf_counter() - began_at)


async def _converse(channel: grpc.aio.Channel, count: int) -> float:
    began_at = time.perf_counter()
    stream: Any = channel.stream_stream(BIDI)()
    for _ in range(count):
        await stream.write(b"")
        await stream.read()
    await stream.done_writing()
    await stream.code()
    return count / (time.perf_counter() - began_at)


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
