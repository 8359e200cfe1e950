"""Calls of the sync face, beside native grpcio's."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grpc

from tests.backends import start_backends
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import AGAIN, BIDI, CONTESTANTS, PLAIN, SERVER_STREAM, UNARY, open_sync
from tests.benchmarks.effort import Effort
from tests.benchmarks.pairing import alternate

_BACKENDS = 3
_WARM_UP_CALLS = 300
_PATIENCE = 30.0

Call = Callable[[bytes], Any]


def latency(effort: Effort, row: str = "") -> list[Measurement]:
    """Measure the median latency of calls one after the other, in microseconds."""
    with _channels() as channels:
        blocks = {name: partial(_median_latency, _unary(channel), effort.calls) for name, channel in channels.items()}
        return [Measurement("sync_latency", alternate(blocks, effort.rounds))]


def throughput(effort: Effort, row: str = "") -> list[Measurement]:
    """Measure the calls per second of many threads."""
    with _channels() as channels:
        blocks = {name: partial(_rate, _unary(channel), effort) for name, channel in channels.items()}
        return [Measurement("sync_throughput", alternate(blocks, effort.throughput_rounds))]


def streaming(effort: Effort, row: str = "") -> list[Measurement]:
    """Measure the messages per second that one stream takes, and that one sends and takes in turn."""
    with _channels() as channels:
        return [
            Measurement(figure, alternate(blocks, effort.stream_rounds))
            for figure, flow in (("sync_stream", _take), ("sync_bidi", _converse))
            if row in ("", figure)
            for blocks in [{name: partial(flow, one, effort.messages) for name, one in channels.items()}]
        ]


@contextlib.contextmanager
def _channels() -> Iterator[dict[str, grpc.Channel]]:
    """Yield each contestant's channel, connected to every backend."""
    with contextlib.ExitStack() as stack:
        backends = start_backends(_BACKENDS)
        for backend in backends:
            stack.callback(backend.close)
        addresses = [backend.address for backend in backends]
        channels: dict[str, grpc.Channel] = {}
        for name in (*CONTESTANTS, AGAIN):
            channels[name] = stack.enter_context(open_sync(name, addresses))
            _warm(channels[name], 1 if name == PLAIN else _BACKENDS)
        yield channels


def _unary(channel: grpc.Channel) -> Call:
    return channel.unary_unary(UNARY)


def _warm(channel: grpc.Channel, wanted: int) -> None:
    call: Any = _unary(channel)
    deadline = time.monotonic() + _PATIENCE
    answers: set[bytes] = set()
    while len(answers) < wanted:
        answers.add(call(b"", timeout=_PATIENCE, wait_for_ready=True))
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {sorted(answers)} of {wanted} backends answer")
    for _ in range(_WARM_UP_CALLS):
        call(b"")


def _median_latency(call: Call, count: int) -> float:
    clock = time.perf_counter_ns
    durations = []
    for _ in range(count):
        began_at = clock()
        call(b"")
        durations.append(clock() - began_at)
    return statistics.median(durations) / 1e3


def _take(channel: grpc.Channel, count: int) -> float:
    stream: Any = channel.unary_stream(SERVER_STREAM)
    began_at = time.perf_counter()
    taken = sum(1 for _ in stream(b"", metadata=(("x-count", str(count)),)))
    return taken / (time.perf_counter() - began_at)


def _converse(channel: grpc.Channel, count: int) -> float:
    stream: Any = channel.stream_stream(BIDI)
    answered = threading.Semaphore()
    began_at = time.perf_counter()

    def requests() -> Iterator[bytes]:
        for _ in range(count):
            answered.acquire()
            yield b""

    taken = 0
    for _ in stream(requests()):
        taken += 1
        answered.release()
    return taken / (time.perf_counter() - began_at)


def _rate(call: Call, effort: Effort) -> float:
    crew = _Crew(call, effort.seconds, effort.threads)
    threads = [threading.Thread(target=crew.work) for _ in range(effort.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return crew.rate(effort.threads)


class _Crew:
    """Threads that begin together and call until the time is up."""

    def __init__(self, call: Call, seconds: float, size: int) -> None:
        self._call = call
        self._seconds = seconds
        self._start = threading.Barrier(size, self._begin)
        self._began_at = self._ends_at = 0.0
        self._done: list[tuple[int, float]] = []

    def work(self) -> None:
        """Call until the time is up."""
        self._start.wait()
        clock, call, ends_at = time.perf_counter, self._call, self._ends_at
        count = 0
        while clock() < ends_at:
            call(b"")
            count += 1
        self._done.append((count, clock()))

    def rate(self, size: int) -> float:
        """Return the calls per second of all together."""
        counts, ends = _columns(self._done, size)
        return sum(counts) / (max(ends) - self._began_at)

    def _begin(self) -> None:
        self._began_at = time.perf_counter()
        self._ends_at = self._began_at + self._seconds


def _columns(done: Sequence[tuple[int, float]], size: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    if len(done) != size:
        raise RuntimeError("a caller failed; see the traceback above")
    counts, ends = zip(*done, strict=True)
    return counts, ends
