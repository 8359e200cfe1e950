"""Instructions of the client's process per call, counted by `valgrind --tool=callgrind`: the same on a busy machine.

The one rule: each way of calling has a process of its own for each contestant, and calls one after the other, or some
at a time. What was counted is written out at each mark, a call of `getpriority`, which nothing else calls.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio

import healthlb
import healthlb.aio
from tests.backends import start_backends
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.contestants import AGAIN, BIDI, HEALTHLB, NATIVE, SERVER_STREAM, UNARY, open_aio, open_sync
from tests.benchmarks.effort import Effort

T = TypeVar("T")

_ROOT = Path(__file__).resolve().parents[2]
_BACKENDS = 3
_WARM_UP = 30
_PATIENCE = 120.0
_AT_A_TIME = 10
_MANY = 50  # messages
# So late that no second attempt is ever sent.
_HEDGING = healthlb.Failover(idempotent=True, hedging_delay=60.0)
# Time passes fifty times as fast for what is counted: what is done by the clock would count for too much.
_QUIET = healthlb.HealthCheck(heartbeat=None)
_TOTAL = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def instructions(effort: Effort, face: str, row: str = "") -> list[Measurement]:
    """Measure thousands of instructions per call, or per message of long streams, in each way of calling.

    Args:
        effort: how many calls.
        face: "sync" or "aio".
        row: the one of `WAYS` that is measured; "" is all.
    """
    backends = start_backends(_BACKENDS)
    try:
        addresses = [backend.address for backend in backends]
        return [
            Measurement(
                f"{face}_instructions",
                {name: count(effort, face, way, name, addresses) for name in (HEALTHLB, AGAIN, NATIVE)},
                way,
            )
            for way in WAYS
            if row in ("", way)
        ]
    finally:
        for backend in backends:
            backend.close()


def count(effort: Effort, face: str, way: str, contestant: str, addresses: Sequence[str]) -> list[float]:
    """Return the thousands of instructions per call of each block, counted in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        subprocess.run(
            [
                *(
                    "valgrind",
                    "--tool=callgrind",
                    "--quiet",
                    f"--callgrind-out-file={out}",
                    "--dump-before=getpriority",
                ),
                *(sys.executable, "-m", "tests.benchmarks.instructions", face, way, contestant),
                *(str(effort.counted_rounds), str(effort.counted_calls), *addresses),
            ],
            cwd=_ROOT,
            check=True,
        )
        # The first is what was before the first mark.
        counted = [out.with_suffix(f".{number}") for number in range(2, effort.counted_rounds + 2)]
        totals = [_TOTAL.findall(file.read_text())[-1] for file in counted]
    each = effort.counted_calls * (_MANY if way in _PER_MESSAGE else 1)
    return [int(total) / each / 1000 for total in totals]


# --- in the process that is counted ----------------------------------------------------------------


class _SyncInterceptor(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(client_call_details, request)


class _AioInterceptor(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details, request)


def _sync_channel(contestant: str, way: str, addresses: Sequence[str]) -> grpc.Channel:
    if contestant in (HEALTHLB, AGAIN):
        failover = _HEDGING if way == "hedging on" else healthlb.Failover()
        channel: grpc.Channel = healthlb.HealthAwareChannel(addresses, failover=failover, health=_QUIET)
    else:
        channel = open_sync(contestant, addresses)
    return grpc.intercept_channel(channel, _SyncInterceptor()) if way == "one interceptor" else channel


WAYS = (
    "unary",
    "futures, 10 at a time",
    "stream of one message",
    "long stream, per message",
    "bidi, one message",
    "hedging on",
    "one interceptor",
)
_PER_MESSAGE = ("long stream, per message",)


def _by_way(calls: T, futures: T, streams: Any, conversations: T) -> dict[str, T]:
    """Return what makes so many calls, by way; `streams` takes the messages of each, too."""
    return dict(
        zip(
            WAYS,
            (calls, futures, streams, lambda count: streams(count, _MANY), conversations, calls, calls),
            strict=True,
        )
    )


def _sync_blocks(channel: grpc.Channel) -> dict[str, Callable[[int], None]]:
    unary: Any = channel.unary_unary(UNARY)
    stream: Any = channel.unary_stream(SERVER_STREAM)
    bidi: Any = channel.stream_stream(BIDI)

    def calls(count: int) -> None:
        for _ in range(count):
            unary(b"")

    def futures(count: int) -> None:
        for _ in range(count // _AT_A_TIME):
            for future in [unary.future(b"") for _ in range(_AT_A_TIME)]:
                future.result()

    def streams(count: int, messages: int = 1) -> None:
        for _ in range(count):
            for _ in stream(b"", metadata=(("x-count", str(messages)),)):
                pass

    def conversations(count: int) -> None:
        for _ in range(count):
            for _ in bidi(iter([b""])):
                pass

    return _by_way(calls, futures, streams, conversations)


def _aio_channel(contestant: str, way: str, addresses: Sequence[str]) -> Any:
    if contestant in (HEALTHLB, AGAIN):
        failover = _HEDGING if way == "hedging on" else healthlb.Failover()
        channel: Any = healthlb.aio.HealthAwareChannel(addresses, failover=failover, health=_QUIET)
    else:
        channel = open_aio(contestant, addresses)
    if way == "one interceptor":
        channel._unary_unary_interceptors.append(_AioInterceptor())
    return channel


def _aio_blocks(channel: grpc.aio.Channel) -> dict[str, Callable[[int], Awaitable[None]]]:
    unary: Any = channel.unary_unary(UNARY)
    stream: Any = channel.unary_stream(SERVER_STREAM)
    bidi: Any = channel.stream_stream(BIDI)

    async def calls(count: int) -> None:
        for _ in range(count):
            await unary(b"")

    async def futures(count: int) -> None:
        for _ in range(count // _AT_A_TIME):
            await asyncio.gather(*(unary(b"") for _ in range(_AT_A_TIME)))

    async def streams(count: int, messages: int = 1) -> None:
        for _ in range(count):
            async for _ in stream(b"", metadata=(("x-count", str(messages)),)):
                pass

    async def conversations(count: int) -> None:
        for _ in range(count):
            call = bidi()
            await call.write(b"")
            await call.read()
            await call.done_writing()
            await call.code()

    return _by_way(calls, futures, streams, conversations)


def _mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


def _warm() -> Iterator[dict[str, Any]]:
    return iter([{"timeout": _PATIENCE, "wait_for_ready": True}] * _WARM_UP)


def _run_sync(contestant: str, way: str, rounds: int, calls: int, addresses: Sequence[str]) -> None:
    with _sync_channel(contestant, way, addresses) as channel:
        for terms in _warm():
            channel.unary_unary(UNARY)(b"", **terms)
        block = _sync_blocks(channel)[way]
        block(_WARM_UP)
        for _ in range(rounds):
            _mark()
            block(calls)
        _mark()


async def _run_aio(contestant: str, way: str, rounds: int, calls: int, addresses: Sequence[str]) -> None:
    async with _aio_channel(contestant, way, addresses) as channel:
        for terms in _warm():
            await channel.unary_unary(UNARY)(b"", **terms)
        block = _aio_blocks(channel)[way]
        await block(_WARM_UP)
        for _ in range(rounds):
            _mark()
            await block(calls)
        _mark()


def _main() -> None:
    face, way, contestant, rounds, calls, *addresses = sys.argv[1:]
    run: Any = _run_sync if face == "sync" else _run_aio
    done = run(contestant, way, int(rounds), int(calls), addresses)
    if done is not None:
        asyncio.run(done)


if __name__ == "__main__":
    _main()
