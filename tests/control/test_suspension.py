"""A control connection that is suspended, as around a fork: whoever follows it sees what has changed, and no more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import grpc.aio
import pytest

from healthlb.config import HealthCheck
from healthlb.control import grpc_transport
from healthlb.control.grpc_transport import GrpcConnection, GrpcTransport, connections_closed
from healthlb.control.options import subchannel_options
from healthlb.control.resolved_names import ResolvedNames
from healthlb.control.transport import CheckAnswer
from healthlb.core.messages import Code, ConnectivityState, Endpoint
from tests.backends import Backend
from tests.backends.clients import NOT_SERVING, PATIENCE, SERVING
from tests.lifecycle.support import UNARY

READY, FAILURE = ConnectivityState.READY, ConnectivityState.TRANSIENT_FAILURE


@pytest.fixture
def backend() -> Iterator[Backend]:
    """Start one that serves `svc`."""
    with Backend(name="b0", services=("svc",)) as started:
        yield started


async def connect(backend: Backend) -> GrpcConnection:
    """Return a connection that is READY."""
    options = subchannel_options((), HealthCheck().reconnect, None)
    connection = GrpcTransport(None, options, HealthCheck(), names=ResolvedNames()).connect(Endpoint(backend.address))
    connection.connect()
    async with asyncio.timeout(PATIENCE):
        while (state := connection.state()) is not READY:
            await connection.left(state)
    return connection


async def close(connection: GrpcConnection, *tasks: asyncio.Task[object]) -> None:
    """Give up the connection."""
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    connection.release()
    await connections_closed(asyncio.get_running_loop())


async def follow(connection: GrpcConnection, statuses: asyncio.Queue[int]) -> None:
    """Put each status into the queue."""
    async for status in connection.watch("svc"):
        await statuses.put(status)


async def test_the_same_status_is_no_news(backend: Backend) -> None:
    connection = await connect(backend)
    statuses: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.create_task(follow(connection, statuses))
    leaving = asyncio.create_task(connection.left(READY))
    async with asyncio.timeout(PATIENCE):
        assert await statuses.get() == SERVING
        for _ in range(3):
            await connection.suspend()
            assert connection.state() is READY
            connection.resume()
        while backend.stats().watches_started < 2:
            await asyncio.sleep(0.01)
        assert not leaving.done()
        backend.set("NOT_SERVING", "svc")
        assert await statuses.get() == NOT_SERVING
    assert connection.state() is READY
    assert not leaving.done()
    await close(connection, task, leaving)


async def test_a_status_that_changes_meanwhile(backend: Backend) -> None:
    connection = await connect(backend)
    statuses: asyncio.Queue[int] = asyncio.Queue()
    task = asyncio.create_task(follow(connection, statuses))
    async with asyncio.timeout(PATIENCE):
        assert await statuses.get() == SERVING
        await connection.suspend()
        backend.set("NOT_SERVING", "svc")
        connection.resume()
        assert await statuses.get() == NOT_SERVING
    await close(connection, task)


async def test_a_backend_that_dies_meanwhile(backend: Backend) -> None:
    connection = await connect(backend)
    leaving = asyncio.create_task(connection.left(READY))
    await asyncio.sleep(0)
    await connection.suspend()
    backend.kill()
    connection.resume()
    async with asyncio.timeout(PATIENCE):
        await leaving
    assert connection.state() is FAILURE
    await close(connection)


async def test_a_check_waits(backend: Backend) -> None:
    connection = await connect(backend)
    await connection.suspend()
    check = asyncio.create_task(connection.check("svc", PATIENCE))
    late = await connection.check("svc", 0.01)
    connection.resume()

    assert late == CheckAnswer(Code.DEADLINE_EXCEEDED, "not connected again yet")
    assert await check == CheckAnswer(Code.OK, "", 1)
    await close(connection)


async def test_a_check_under_way_is_sent_again(backend: Backend) -> None:
    backend.pause()
    try:
        connection = await connect_to_paused(backend)
        check = asyncio.create_task(connection.check("svc", PATIENCE))
        await asyncio.sleep(0.05)
        await connection.suspend()
        connection.resume()
    finally:
        backend.resume()

    assert await check == CheckAnswer(Code.OK, "", 1)
    await close(connection)


async def connect_to_paused(backend: Backend) -> GrpcConnection:
    """Return a connection that is READY to a backend that stands still afterwards."""
    backend.resume()
    connection = await connect(backend)
    backend.pause()
    return connection


async def test_nothing_is_left_of_grpc_aio_while_it_is_suspended(backend: Backend) -> None:
    connection = await connect(backend)
    await connection.suspend()

    with pytest.raises(AssertionError):
        _: grpc.aio.Channel = connection.channel
    connection.resume()
    await close(connection)


async def test_one_that_is_given_up_while_it_is_suspended(backend: Backend) -> None:
    connection = await connect(backend)
    await connection.suspend()
    await close(connection)
    connection.resume()

    with pytest.raises(AssertionError):
        _: grpc.aio.Channel = connection.channel


async def test_its_watcher_may_leave_while_it_is_suspended(backend: Backend) -> None:
    connection = await connect(backend)
    task = asyncio.create_task(follow(connection, asyncio.Queue()))
    await asyncio.sleep(0.05)
    await connection.suspend()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    connection.resume()
    await close(connection)


async def test_a_follower_outlives_a_closing_that_it_is_not_told_of(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where C-core is too busy to tell in time, or never does."""
    monkeypatch.setattr(grpc_transport, "_SUSPENSION", 0.0)
    monkeypatch.setattr(grpc_transport, "_kept_channels", untold := list[grpc.aio.Channel]())
    connection = await connect(backend)
    leaving = asyncio.create_task(connection.left(READY))
    # In C-core a call holds its channel: as long as somebody holds on to it, the channel's end is not told.
    call = connection.channel.unary_unary(UNARY)(b"")
    await call
    await connection.suspend()
    assert not leaving.done()
    assert len(untold) == 1
    del call
    backend.kill()
    connection.resume()

    async with asyncio.timeout(PATIENCE):
        await leaving
    assert connection.state() is FAILURE
    await close(connection)
