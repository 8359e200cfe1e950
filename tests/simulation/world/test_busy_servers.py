"""Checks of busy servers: the simulator's against those of real gRPC servers, a pool of threads and an event loop.

Counted, not timed: how many of the calls that were sent before a Check have ended by the time it is answered.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer as AioHealthServicer

from healthlb.core.states import Code
from healthlb.simulation.scenario.laws import Deterministic
from healthlb.simulation.world.backend import Job
from healthlb.simulation.world.health import CHECKS
from healthlb.simulation.world.link import Stream
from healthlb.simulation.world.world import World
from tests.simulation.build import MS, scenario
from tests.simulation.world.test_wire import Lab

CALLS = 20
WORK = 0.02
SOON = 10.0


def _handlers(work: Callable[[bytes, Any], Any]) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler("test.Work", {"Do": grpc.unary_unary_rpc_method_handler(work)})


class Arrivals(grpc.ServerInterceptor):  # type: ignore[misc]
    """Counts the calls that a server has been handed, be they worked on or not."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self._arrived.release()
        return continuation(details)

    def wait(self, calls: int) -> None:
        for _ in range(calls):
            assert self._arrived.acquire(timeout=SOON)


@contextmanager
def pool(threads: int, arrivals: Arrivals) -> Iterator[str]:
    """A `grpc.server` of so many threads whose calls sleep."""

    def work(request: bytes, context: Any) -> bytes:
        time.sleep(WORK)
        return request

    server = grpc.server(futures.ThreadPoolExecutor(threads), interceptors=[arrivals])
    server.add_generic_rpc_handlers((_handlers(work),))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def loop(work: Callable[[bytes, Any], Awaitable[bytes]]) -> Iterator[str]:
    """A `grpc.aio.server` on a thread of its own."""
    addresses: list[str] = []
    is_up = threading.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        servicer = AioHealthServicer()
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        server.add_generic_rpc_handlers((_handlers(work),))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        ended = asyncio.Event()
        ends.append(lambda: running.call_soon_threadsafe(ended.set))
        running = asyncio.get_running_loop()
        is_up.set()
        await ended.wait()
        await server.stop(None)

    ends: list[Callable[[], object]] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert is_up.wait(SOON)
    try:
        yield addresses[0]
    finally:
        ends[0]()
        thread.join(SOON)


class Load:
    """Calls that are under way on one connection, and a Check after them."""

    def __init__(self, channel: grpc.Channel) -> None:
        grpc.channel_ready_future(channel).result(SOON)
        self.done: list[None] = []
        call = channel.unary_unary("/test.Work/Do")
        self.calls = [call.future(b"") for _ in range(CALLS)]
        for one in self.calls:
            one.add_done_callback(lambda _: self.done.append(None))
        self.health = health_pb2_grpc.HealthStub(channel)

    def check(self) -> grpc.Future:
        return self.health.Check.future(health_pb2.HealthCheckRequest())

    def end(self) -> None:
        for call in self.calls:
            call.result(SOON)


def simulated(checks: str, **backend: Any) -> int:
    """How many calls end before a Check is answered that comes after them."""
    lab = Lab(checks=checks, service=Deterministic(int(WORK * 1000) * MS), **backend)
    lab.connection.connect()
    lab.world.engine.run(10 * MS)
    link = lab.connection.link
    assert link is not None
    ended: list[Code] = []
    for _ in range(CALLS):
        lab.server.backend.submit(Job(int(WORK * 1000) * MS, lambda job, code: ended.append(code)))
    answered: list[int] = []
    lab.connection.check("", lambda code, details: answered.append(len(ended)))
    lab.world.engine.run(60_000 * MS)
    return answered[0]


def test_a_check_waits_in_the_pools_line() -> None:
    arrivals = Arrivals()
    with pool(2, arrivals) as address, grpc.insecure_channel(address) as channel:
        load = Load(channel)
        arrivals.wait(CALLS)
        load.check().result(SOON)
        before = len(load.done)
        load.end()

    # The two calls at the end of the line run beside it.
    assert before >= CALLS - 3
    assert CALLS - 2 <= simulated("pool", slots=2) <= CALLS


def test_a_check_waits_for_nobody_on_an_event_loop() -> None:
    async def work(request: bytes, context: Any) -> bytes:
        while not is_over.is_set():
            await asyncio.sleep(0.001)
        return request

    is_over = threading.Event()
    with loop(work) as address, grpc.insecure_channel(address) as channel:
        load = Load(channel)
        load.check().result(SOON)
        before = len(load.done)
        is_over.set()
        load.end()

    assert before == simulated("beside") == 0


def test_a_check_waits_for_a_call_or_two_where_calls_block_the_loop() -> None:
    async def work(request: bytes, context: Any) -> bytes:
        begun.set()
        is_over.wait(SOON)
        time.sleep(WORK)
        return request

    begun, is_over = threading.Event(), threading.Event()
    with loop(work) as address, grpc.insecure_channel(address) as channel:
        load = Load(channel)
        assert begun.wait(SOON)
        check = load.check()
        with pytest.raises(grpc.FutureTimeoutError):
            check.result(0.3)
        is_over.set()
        check.result(SOON)
        before = len(load.done)
        load.end()

    # It is behind the call at work and, by the turns of the loop, at most a few others; never at the end of the line.
    assert before <= 5
    assert simulated("loop", slots=1) == 2


@pytest.mark.parametrize("checks", CHECKS)
def test_a_check_of_an_idle_server_is_answered_at_once(checks: str) -> None:
    lab = Lab(checks=checks)
    lab.connection.connect()
    lab.world.engine.run(10 * MS)
    answered: list[float] = []

    lab.connection.check("", lambda code, details: answered.append(lab.now - 10))
    lab.world.engine.run(20 * MS)

    assert answered == pytest.approx([2 * lab.path.delay / MS])


def lab_with_line(jobs: int, **backend: Any) -> Lab:
    lab = Lab(checks="pool", slots=1, **backend)
    lab.connection.connect()
    lab.world.engine.run(10 * MS)
    for _ in range(jobs):
        lab.server.backend.submit(Job(100 * MS, lambda job, code: None))
    return lab


def watch(lab: Lab, said: list[Any]) -> Stream:
    stream = lab.connection.watch("", said.append, lambda code, details: said.append(code))
    assert stream is not None
    return stream


def test_a_watch_begins_in_the_line_and_is_told_of_changes_without_it() -> None:
    lab = lab_with_line(1)
    said: list[Any] = []
    watch(lab, said)
    lab.world.engine.run(100 * MS)
    assert said == []
    lab.world.engine.run(120 * MS)
    assert said == [1]
    lab.server.backend.submit(Job(100 * MS, lambda job, code: None))
    lab.server.fall_ill(2)
    lab.world.engine.run(130 * MS)

    assert said == [1, 2]


def test_a_watch_that_was_cancelled_in_the_line_is_not_begun() -> None:
    lab = lab_with_line(1)
    said: list[Any] = []
    watch(lab, said).cancel()
    lab.world.engine.run(500 * MS)
    lab.server.fall_ill(2)
    lab.world.engine.run(600 * MS)

    assert said == []


def test_a_crash_ends_the_line() -> None:
    lab = lab_with_line(1)
    said: list[Any] = []
    watch(lab, said)
    lab.world.engine.run(50 * MS)
    lab.server.crash("rst")
    lab.world.engine.run(500 * MS)

    assert said == [Code.UNAVAILABLE]


def test_a_server_that_takes_no_more_refuses_checks_too() -> None:
    """As `grpc.server(maximum_concurrent_rpcs=1)` does."""
    lab = lab_with_line(1, queue=0)
    said: list[Any] = []
    watch(lab, said)
    lab.world.engine.run(50 * MS)

    assert said == [Code.RESOURCE_EXHAUSTED]


def test_a_paused_server_goes_on_with_its_line() -> None:
    lab = lab_with_line(1)
    said: list[Any] = []
    watch(lab, said)
    lab.world.engine.run(50 * MS)
    lab.server.pause()
    lab.world.engine.run(300 * MS)
    assert said == []
    lab.server.resume()
    lab.world.engine.run(500 * MS)

    assert said == [1]


def test_calls_are_none_the_slower_for_checks() -> None:
    """A Check takes a slot for no time: the same calls end at the same times."""
    runs = [
        World(scenario(backends={"slots": 1, "checks": checks}, rate=250.0), "p", trace=0).run()
        for checks in ("pool", "beside")
    ]

    assert runs[0].latency.mean == pytest.approx(runs[1].latency.mean, rel=0.02)
