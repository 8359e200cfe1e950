"""The health service under load: `python -m tests.server.load [sync|aio|stock|stock-aio ...]`.

Watchers on a few connections, clients that leave and come back at random, and a set every 10 ms. Printed: how long
`set` took, the memory of the server's process, and whether every watcher was told the last status. The server runs in
a process of its own; the stock servicer may hang, so everything is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING, NOT_SERVING = 1, 2
_CONNECTIONS = 20
_SETTLE = 20.0  # Seconds for the last status to reach everyone.


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is done to the server; `leavers` of the watchers come and go."""

    watchers: int = 1000
    leavers: int = 200
    sets_per_second: int = 100
    seconds: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What came of it: times in milliseconds, memory in MiB."""

    kind: str
    sets: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    memory_before: float = 0.0
    memory_half: float = 0.0
    memory_after: float = 0.0
    threads: int = 0
    messages: int = 0
    visits: int = 0
    wrong_last_values: int = 0
    watchers_left: int = 0
    hung: bool = False


# --- the clients ---------------------------------------------------------------------------------


class Watches:
    """All the clients, on one event loop."""

    def __init__(self, address: str, load: Load) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(_CONNECTIONS)]
        self._load = load
        self.last: dict[int, int] = {}
        self.messages = 0
        self.visits = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Open all Watches and wait for their first status."""
        stay = self._load.watchers - self._load.leavers
        self._tasks = [asyncio.create_task(self._stay(number)) for number in range(stay)]
        while len(self.last) < stay:
            await asyncio.sleep(0.05)
        self._tasks += [asyncio.create_task(self._come_and_go(number)) for number in range(self._load.leavers)]

    async def close(self) -> None:
        """Leave."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    def _watch(self, number: int) -> Any:
        stub: Any = health_pb2_grpc.HealthStub(self._channels[number % _CONNECTIONS])
        return stub.Watch(health_pb2.HealthCheckRequest(service="svc"))

    async def _stay(self, number: int) -> None:
        async for message in self._watch(number):
            self.last[number] = message.status
            self.messages += 1

    async def _come_and_go(self, number: int) -> None:
        rng = random.Random(number)
        while True:
            call = self._watch(number)
            with contextlib.suppress(grpc.RpcError):
                for _ in range(rng.randrange(1, 5)):
                    await call.read()
                    self.messages += 1
            call.cancel()
            self.visits += 1
            await asyncio.sleep(rng.random())


# --- the server's process ------------------------------------------------------------------------


def serve(kind: str) -> None:
    """Run a server until stdin ends: each line {sets, interval} is answered with how long each set took."""
    # Imported here: the load script itself must not need the servicers.
    from grpc_health.v1 import health

    from healthlb.aio import HealthServicer as AioHealthServicer
    from healthlb.server import HealthServicer
    from tests.server.served import Served

    made: dict[str, Any] = {
        "sync": HealthServicer, "aio": AioHealthServicer,
        "stock": health.HealthServicer, "stock-aio": health.aio.HealthServicer,
    }  # fmt: skip
    served = Served("aio" if kind.endswith("aio") else "sync", servicer=made[kind]())
    served.set("svc", SERVING)
    print(served.address, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(served, json.loads(line))), flush=True)


def _answer(served: Any, command: dict[str, Any]) -> dict[str, Any]:
    times = served.timed_sets(command.get("sets", 0), command.get("interval", 0.0))
    registry = getattr(served.servicer, "registry", None)
    return {
        "times": times,
        "memory": _memory(),
        "threads": threading.active_count(),
        "watchers": 0 if registry is None else registry.watcher_count(),
    }


def _memory() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


class Server:
    """The server's process, seen from the load."""

    def __init__(self, kind: str) -> None:
        command = [sys.executable, "-m", "tests.server.load", "--serve", kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()

    async def ask(self, timeout: float, **command: float) -> dict[str, Any]:
        """Have it set statuses; TimeoutError where it hangs."""
        async with asyncio.timeout(timeout):
            answer: dict[str, Any] = json.loads(await asyncio.to_thread(self._ask, json.dumps(command)))
            return answer

    def close(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() or "{}"


async def _run(kind: str, load: Load) -> Figures:
    server = Server(kind)
    watches = Watches(server.address, load)
    try:
        async with asyncio.timeout(60):
            await watches.open()
        return await _measure(kind, load, server, watches)
    except TimeoutError:
        return Figures(kind=kind, hung=True, messages=watches.messages, visits=watches.visits)
    finally:
        server.close()
        await watches.close()


async def _measure(kind: str, load: Load, server: Server, watches: Watches) -> Figures:
    half = {"sets": int(load.seconds * load.sets_per_second / 2), "interval": 1 / load.sets_per_second}
    bound = load.seconds * 3 + 20
    before = await server.ask(bound)
    halves = [await server.ask(bound, **half), await server.ask(bound, **half)]
    times = sorted(seconds * 1000 for answer in halves for seconds in answer["times"])
    # The last of an even number of sets is SERVING, one more settles it.
    await server.ask(bound, sets=1)
    final = NOT_SERVING
    deadline = time.monotonic() + _SETTLE
    while time.monotonic() < deadline and set(watches.last.values()) != {final}:
        await asyncio.sleep(0.05)
    wrong = sum(status != final for status in watches.last.values())
    await watches.close()
    after = await server.ask(bound)
    while after["watchers"] and time.monotonic() < deadline + _SETTLE:
        await asyncio.sleep(0.2)
        after = await server.ask(bound)
    return Figures(
        kind=kind,
        sets=len(times),
        p50=round(times[len(times) // 2], 4),
        p99=round(times[int(len(times) * 0.99)], 4),
        worst=round(times[-1], 3),
        memory_before=round(before["memory"], 1),
        memory_half=round(halves[0]["memory"], 1),
        memory_after=round(after["memory"], 1),
        threads=halves[1]["threads"],
        messages=watches.messages,
        visits=watches.visits,
        wrong_last_values=wrong,
        watchers_left=after["watchers"],
    )


async def _hostile(kind: str, count: int) -> dict[str, Any]:
    server = Server(kind)
    request = health_pb2.HealthCheckRequest
    codes: Counter[str] = Counter()

    async def watch(stub: Any, number: int) -> None:
        call = stub.Watch(request(service=f"random {number} {random.random()}"), timeout=60)
        try:
            codes[f"status {(await call.read()).status}"] += 1
            await asyncio.sleep(1)
        except grpc.RpcError as error:
            codes[error.code().name] += 1  # type: ignore[attr-defined]
        call.cancel()

    try:
        memory = [(await server.ask(30))["memory"]]
        async with grpc.aio.insecure_channel(server.address) as channel:
            for _ in range(3):
                stub: Any = health_pb2_grpc.HealthStub(channel)
                for begin in range(0, count, 1000):
                    await asyncio.gather(*(watch(stub, begin + number) for number in range(1000)))
                memory.append((await server.ask(30))["memory"])
            return {"kind": kind, "codes": codes, "memory": [round(mib, 1) for mib in memory]}
    finally:
        server.close()


def run(kind: str, load: Load) -> Figures:
    """Run one load against one kind of server."""
    return asyncio.run(_run(kind, load))


def main() -> None:
    """Print the figures of each kind, one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=["sync", "aio", "stock", "stock-aio"])
    parser.add_argument("--hostile", type=int, help="instead: so many Watches of random names, three times")
    parser.add_argument("--serve", metavar="KIND", help="be the server (used by the script itself)")
    for field in fields(Load):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return
    load = Load(**{field.name: getattr(arguments, field.name) for field in fields(Load)})
    for kind in arguments.kinds:
        if arguments.hostile:
            print(json.dumps(asyncio.run(_hostile(kind, arguments.hostile))), flush=True)
            continue
        print(json.dumps(asdict(run(kind, load))), flush=True)


if __name__ == "__main__":
    main()
