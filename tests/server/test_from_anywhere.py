"""`set` and the like from signal handlers, threads and event loops."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections import Counter
from concurrent import futures
from contextlib import closing
from types import FrameType
from typing import Any

import grpc
import pytest

from healthlb.aio import HealthServicer as AioHealthServicer
from healthlb.server import HealthServicer, WatchLimits
from healthlb.server.registry import Registry
from tests.backends.clients import Watching, eventually
from tests.server.served import PATIENCE, Served, connected, request
from tests.server.test_registry import Announced

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)


class Interrupting:
    """Calls a function once, as a signal handler would, before a line of `healthlb.server` that is run."""

    def __init__(self, line: int, function: Any) -> None:
        self._left = line
        self._function = function
        self._previous = sys.gettrace()
        self.is_done = False

    def __enter__(self) -> Interrupting:
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(self._previous)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if "healthlb/server" not in frame.f_code.co_filename:
            return None
        if event == "line" and not self.is_done:
            self._left -= 1
            if self._left < 0:
                self.is_done = True
                self._function()
        return self._trace


def interrupted(made: Any, doing: Any, interrupting: Any) -> list[Any]:
    """What comes of `doing` for each of its lines, at which `interrupting` comes in."""
    outcomes = []
    for line in range(1000):
        it = made()
        with Interrupting(line, lambda it=it: interrupting(it)) as interruption:
            doing(it)
        if not interruption.is_done:
            break
        outcomes.append(it)
    assert len(outcomes) > 5
    return outcomes


def watched() -> tuple[Registry, Announced, Any]:
    registry, courier = Registry(WatchLimits()), Announced()
    watcher = registry.watch("svc", "client", courier)
    watcher.take()
    return registry, courier, watcher


def test_a_signal_handler_may_set_in_the_middle_of_a_set() -> None:
    outcomes = interrupted(watched, lambda it: it[0].set("svc", SERVING), lambda it: it[0].set("other", NOT_SERVING))

    for registry, courier, watcher in outcomes:
        assert registry.statuses() == {"": SERVING, "svc": SERVING, "other": NOT_SERVING}
        assert (courier, watcher.take()) == (["svc"], SERVING)


def test_what_a_signal_handler_sets_is_the_later() -> None:
    outcomes = interrupted(watched, lambda it: it[0].set("svc", SERVING), lambda it: it[0].set("svc", NOT_SERVING))

    # Before its first lines the interrupted call has not begun.
    late = [registry.get("svc") for registry, _, _ in outcomes]
    assert late == [SERVING] * late.count(SERVING) + [NOT_SERVING] * late.count(NOT_SERVING)
    assert late.count(SERVING) < 14 < late.count(NOT_SERVING)
    assert all(courier[0] == "svc" and watcher.take() == registry.get("svc") for registry, courier, watcher in outcomes)


def test_a_signal_handler_may_shut_down_in_the_middle_of_anything() -> None:
    def use(it: Any) -> None:
        registry, courier, _ = it
        registry.set("svc", SERVING)
        registry.watch("a", "other", courier).leave()
        registry.statuses(), registry.watchers("svc", courier), registry.watcher_count()

    outcomes = interrupted(watched, use, lambda it: it[0].shut_down())

    for registry, courier, watcher in outcomes:
        assert registry.is_shut_down
        assert courier.count("svc") >= 1
        assert (watcher.take(), registry.watcher_count()) == (NOT_SERVING, 1)


def test_a_watch_that_is_collected_in_the_middle_of_anything_is_forgotten() -> None:
    def make() -> tuple[Registry, Announced, Any]:
        registry, courier, _ = watched()
        return registry, courier, registry.watch("svc", "leaving", courier)

    def use(it: Any) -> None:
        it[0].set("svc", SERVING)
        it[0].shut_down()

    for registry, courier, _ in interrupted(make, use, lambda it: it[2].leave()):
        assert registry.watcher_count() == 1
        assert len(registry.watchers("svc", courier)) == 1
        assert registry.get("svc") == NOT_SERVING


@pytest.mark.parametrize("kind", ["sync", "blocking", "aio"])
def test_real_signals_in_a_storm_of_sets(kind: str) -> None:
    heard = []
    with closing(Served(kind)) as served, connected(served) as stub:

        def handle(number: int, frame: object) -> None:
            heard.append(number)
            served.servicer.registry.set(f"svc {len(heard) % 10}", SERVING)
            served.servicer.registry.set("svc", NOT_SERVING)

        watching = Watching(stub.channel, "svc")
        assert watching.next() == SERVICE_UNKNOWN
        previous = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        try:
            sets = 0
            while len(heard) < 500:
                served.servicer.registry.set("svc", SERVING)
                sets += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        served.servicer.registry.set("svc", UNKNOWN)
        while (status := watching.next()) != UNKNOWN:
            assert status in (SERVING, NOT_SERVING)
        assert len(served.servicer.registry.statuses()) == 12


def test_a_signal_handler_shuts_down_a_servicer_that_is_being_set() -> None:
    servicer = HealthServicer()
    previous = signal.signal(signal.SIGALRM, lambda number, frame: servicer.enter_graceful_shutdown())
    try:
        for _ in range(100):
            servicer.resume()
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while servicer.get("svc") != NOT_SERVING:
                servicer.set("svc", SERVING)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_sets_from_many_threads_lose_nothing(served: Served, stub: Any) -> None:
    watchings = [Watching(stub.channel, f"svc {number}") for number in range(8)]
    assert {watching.next() for watching in watchings} == {SERVICE_UNKNOWN}

    def change(number: int) -> None:
        for turn in range(300):
            served.registry.set(f"svc {number}", turn % 2)
        served.registry.set(f"svc {number}", NOT_SERVING)

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(8)))
    for watching in watchings:
        while (status := watching.next()) != NOT_SERVING:
            assert status in (UNKNOWN, SERVING)
    for number in range(8):
        assert stub.Check(request(f"svc {number}"), timeout=PATIENCE).status == NOT_SERVING


@pytest.mark.parametrize("make", [AioHealthServicer, HealthServicer])
def test_one_servicer_on_two_loops(make: Any) -> None:
    servicer = make()
    older, newer = Served("aio", servicer=servicer), Served("aio", servicer=servicer)
    with closing(older), connected(older) as first:
        with closing(newer), connected(newer) as second:
            watchings = [Watching(stub.channel, "svc") for stub in (first, second)]
            assert [watching.next() for watching in watchings] == [SERVICE_UNKNOWN] * 2
            for status, served in ((SERVING, older), (NOT_SERVING, newer), (SERVING, older)):
                served.set("svc", status)
                assert [watching.next() for watching in watchings] == [status] * 2
            threading.Thread(target=servicer.registry.set, args=("svc", UNKNOWN)).start()
            assert [watching.next() for watching in watchings] == [UNKNOWN] * 2

        eventually(lambda: servicer.registry.watcher_count() == 1)
        older.set("svc", NOT_SERVING)
        assert watchings[0].next() == NOT_SERVING


def test_loops_in_a_row_leave_nothing_behind() -> None:
    servicer = AioHealthServicer()

    async def serve() -> None:
        server = grpc.aio.server()
        servicer.add_to_server(server)
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        async with grpc.aio.insecure_channel(address) as channel:
            from grpc_health.v1 import health_pb2_grpc

            stub: Any = health_pb2_grpc.HealthStub(channel)
            call = stub.Watch(request())
            assert (await call.read()).status == SERVING
            await servicer.set("", NOT_SERVING)
            assert (await call.read()).status == NOT_SERVING
            await servicer.set("", SERVING)
        await server.stop(None)

    for _ in range(4):
        asyncio.run(serve())
    gc.collect()

    assert servicer.registry.watcher_count() == 0
    assert len(servicer._couriers._couriers) == 1


class Told:
    """A context of `grpc.aio` that notes how many turns of the loop there were when it was told a status."""

    turns = 0

    def __init__(self) -> None:
        self.told: list[int] = []

    async def write(self, message: Any) -> None:
        self.told.append(Told.turns)


async def test_a_status_that_thousands_watch_is_sent_in_slices() -> None:
    servicer = AioHealthServicer(limits=WatchLimits(watchers_per_client=20_000))
    contexts = [Told() for _ in range(19_500)]
    tasks = [asyncio.ensure_future(servicer.Watch(request(), context)) for context in contexts]

    async def count_turns() -> None:
        while True:
            Told.turns += 1
            await asyncio.sleep(0)

    while not all(context.told for context in contexts):
        await asyncio.sleep(0)
    counting = asyncio.ensure_future(count_turns())
    for status in (NOT_SERVING, SERVING):
        await servicer.set("", status)
        seen = len(contexts[0].told)
        while not all(len(context.told) > seen for context in contexts):
            await asyncio.sleep(0)
        in_a_turn = Counter(context.told[-1] for context in contexts)
        assert max(in_a_turn.values()) <= 50
    for task in (counting, *tasks):
        task.cancel()
    await asyncio.gather(counting, *tasks, return_exceptions=True)
    assert servicer.registry.watcher_count() == 0
