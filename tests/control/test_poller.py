"""How long a fork waits for grpcio: for the ends of cancelled calls, and for its poller's."""

from __future__ import annotations

import asyncio
import threading
import time

import grpc.aio

from healthlb.control.health_messages import WATCH, encode_request
from healthlb.control.poller import Patience, calls_ended, grpcio_tasks
from healthlb.control.thread import ControlThread
from tests.backends import Backend


def a_thread() -> threading.Thread:
    return threading.Thread(target=lambda: None)


async def seconds(patience: Patience) -> float:
    began_at = time.monotonic()
    await patience.wait()
    return time.monotonic() - began_at


async def test_no_wait_is_longer_than_the_pollers_life() -> None:
    alive = [a_thread()]
    patience = Patience(lambda: alive[0] if alive else None)
    waiting = asyncio.create_task(patience.wait())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    alive.clear()
    await waiting

    assert await seconds(patience) < await seconds(Patience(a_thread))


async def test_a_poller_that_others_need_is_waited_for_less_and_less() -> None:
    first, second = a_thread(), a_thread()
    alive = [first]
    patience = Patience(lambda: alive[0])
    waits = [await seconds(patience) for _ in range(5)]
    alive[0] = second
    another = await seconds(patience)

    assert waits[2] < waits[0]
    assert waits[4] < another


async def test_calls_are_known_until_grpcio_has_heard_how_they_ended() -> None:
    loop = asyncio.get_running_loop()
    with Backend(name="b0", services=("svc",)) as backend:
        async with grpc.aio.insecure_channel(backend.address) as channel:
            call = channel.unary_stream(WATCH)(encode_request("svc"))
            assert await call.read()
            tasks = grpcio_tasks(loop)
            assert tasks
            call.cancel()
            assert not all(task.done() for task in tasks)
            await calls_ended(loop)

            assert all(task.done() for task in tasks)
            assert not grpcio_tasks(loop)


def test_a_fork_waits_for_the_last_status_longer_than_for_a_resolver_that_hangs() -> None:
    is_over = threading.Event()

    async def late() -> None:
        await asyncio.sleep(1.5)
        is_over.set()

    late.__qualname__ = "_AioCall._handle_status_once_received"

    def move(_: object) -> None: ...

    thread = ControlThread.acquire(move)
    tasks: list[asyncio.Task[None]] = []
    thread.run_soon(lambda: tasks.append(thread.loop.create_task(late())))
    try:
        ControlThread.pause_all()
        assert is_over.is_set()
    finally:
        ControlThread.resume_all()
        thread.release(move)
