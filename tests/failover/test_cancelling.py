"""Cancellation reaches what is under way, and nothing is begun after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import Backoff, Failover
from tests.backends import Backend
from tests.backends.clients import eventually
from tests.failover.storm import comes_to_rest
from tests.failover.support import Call, failure, outcome, ready
from tests.parity.aio_face import AioClient, AioFace
from tests.parity.face import ARITIES, METHODS, Cancelled, Client, Face
from tests.parity.fleet import Fleet

SLOWLY = Failover(idempotent=True, backoff=Backoff(initial=60.0, jitter=0))


def both_idle(backends: list[Backend]) -> bool:
    """Whether no handler runs."""
    return not any(backend.stats().in_flight for backend in backends)


def calls_back(client: Client, call: Any) -> list[Any]:
    """Return a list that grows with each call of a callback."""
    heard: list[Any] = []
    client.run(lambda: call._call.add_done_callback(heard.append))
    return heard


@pytest.mark.parametrize("arity", ARITIES)
def test_r23_it_reaches_the_second_attempt(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    backends[1].behave(sleep=60)
    client = ready(face, backends)
    call = Call(client)
    ongoing = call.begin(arity)
    heard = calls_back(client, ongoing)
    eventually(lambda: call.executions(*backends) == [1, 1])

    assert not ongoing.is_over()
    assert ongoing.cancel()
    assert not ongoing.cancel() or face.name == "sync"
    with pytest.raises(Cancelled):
        outcome(ongoing, arity)
    assert ongoing.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: both_idle(backends))
    comes_to_rest(client)
    eventually(lambda: len(heard) == 1)
    assert call.executions(*backends) == [1, 1]
    assert client.subchannel(backends[1].address).failures == 0


@pytest.mark.parametrize("arity", ARITIES)
def test_r8_it_ends_the_wait_between_attempts(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends, SLOWLY)
    call = Call(client)
    ongoing = call.begin(arity, timeout=None)
    heard = calls_back(client, ongoing)
    eventually(lambda: client.subchannel(backends[0].address).failures == 1)

    assert not ongoing.is_over()
    assert ongoing.cancel()
    assert ongoing.is_over()
    with pytest.raises(Cancelled):
        outcome(ongoing, arity)
    assert ongoing.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: len(heard) == 1)
    assert call.executions(*backends) == [1, 0]


def test_callbacks_fire_once_however_many_attempts(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends[:2]:
        backend.behave(fail="UNAVAILABLE")
    client = ready(face, backends)
    ongoing = Call(client, sleep=0.2).begin()
    heard = calls_back(client, ongoing)

    assert ongoing.result() == b"b2"
    eventually(lambda: bool(heard))
    assert heard == [ongoing._call]  # type: ignore[attr-defined]
    late = calls_back(client, ongoing)
    assert late == heard


def test_closing_the_channel_ends_the_wait_between_attempts(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends, SLOWLY)
    call = Call(client)
    ongoing = call.begin(timeout=None)
    eventually(lambda: client.subchannel(backends[0].address).failures == 1)
    client.close()

    eventually(ongoing.is_over)
    assert ongoing.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)


def test_closing_the_channel_ends_the_wait_of_a_call_that_blocks(sync_face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(sync_face, backends, SLOWLY)
    errors: list[Any] = []
    thread = threading.Thread(target=lambda: errors.append(failure(lambda: client.call(timeout=None))))
    thread.start()
    eventually(lambda: client.subchannel(backends[0].address).failures == 1)
    client.close()
    thread.join(10)

    assert not thread.is_alive()
    assert len(errors[0].attempts) == 1


def test_a_future_that_is_dropped_is_not_tried_again(sync_face: Face, fleet: Fleet) -> None:
    """grpcio cancels it."""
    face = sync_face
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.5, fail="UNAVAILABLE")
    client = ready(face, backends)
    call = Call(client)
    ongoing = call.begin()
    eventually(lambda: call.executions(*backends) == [1, 0])
    ongoing.drop()

    eventually(lambda: both_idle(backends))
    comes_to_rest(client)
    assert call.executions(*backends) == [1, 0]


def test_an_aio_call_that_is_dropped_is_made_to_its_end(aio_face: Face, fleet: Fleet) -> None:
    """grpc.aio carries it on, and so its attempts are."""
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.5, fail="UNAVAILABLE")
    client = ready(aio_face, backends)
    call = Call(client)
    ongoing = call.begin()
    eventually(lambda: call.executions(*backends) == [1, 0])
    ongoing.drop()

    eventually(lambda: call.executions(*backends) == [1, 1])
    comes_to_rest(client)


def test_a_future_that_is_dropped_between_attempts(sync_face: Face, fleet: Fleet) -> None:
    face = sync_face
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends, Failover(idempotent=True, backoff=Backoff(initial=0.5, jitter=0)))
    call, other = Call(client), Call(client)
    ongoing = call.begin(timeout=None)
    eventually(lambda: client.subchannel(backends[0].address).failures == 1)
    ongoing.drop()

    # Another one that waits as long, and longer than it.
    assert other.make() == "b1"
    assert call.executions(*backends) == [1, 0]


# --- aio: whoever awaits is cancelled -----------------------------------------------------------------

Wait = Callable[[Any], Any]


def _waits(arity: str) -> dict[str, Wait]:
    async def iterate(call: Any) -> None:
        async for _ in call:
            pass

    async def wait(call: Any) -> Any:
        return await call

    if arity.endswith("stream"):
        return {"iterate": iterate, "read": lambda call: call.read()}
    return {"await": wait}


@pytest.mark.parametrize(("arity", "how"), [(arity, how) for arity in ARITIES for how in _waits(arity)])
def test_a_call_whose_awaiter_is_cancelled_is_not_tried_again(
    aio_face: AioFace, fleet: Fleet, arity: str, how: str
) -> None:
    """grpcio cancels the call then; a CANCELLED that the caller asked for mends nothing."""
    backends = fleet.lend(2)
    for backend in backends:
        backend.behave(sleep=60)
    client = ready(aio_face, backends)
    assert isinstance(client, AioClient)
    counted = Call(client)

    async def give_up() -> tuple[bool, grpc.StatusCode]:
        method = getattr(client.channel, arity)(METHODS[arity])
        request = iter([b"a"]) if arity.startswith("stream") else b""
        call = method(request, metadata=(("x-id", counted.id),))
        task = asyncio.ensure_future(_waits(arity)[how](call))
        while counted.executions(*backends) == [0, 0]:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return call.cancelled(), await call.code()

    assert client.loop.run(give_up()) == (True, grpc.StatusCode.CANCELLED)
    eventually(lambda: both_idle(backends))
    comes_to_rest(client)
    assert counted.executions(*backends) == [1, 0]
    assert client.subchannel(backends[0].address).failures == 0


def test_a_write_that_is_cancelled_cancels_the_call(aio_face: AioFace, fleet: Fleet) -> None:
    """As in grpcio; here the write waits for flow control."""
    backends = fleet.lend(2)
    for backend in backends:
        backend.behave(sleep=60)
    client = ready(aio_face, backends)
    assert isinstance(client, AioClient)
    counted = Call(client)

    async def give_up() -> grpc.StatusCode:
        call = client.channel.stream_unary(METHODS["stream_unary"])(metadata=(("x-id", counted.id),))

        async def write() -> None:
            while True:
                await call.write(b"x" * 1000)

        task = asyncio.ensure_future(write())
        while counted.executions(*backends) == [0, 0]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        code: grpc.StatusCode = await call.code()
        return code

    assert client.loop.run(give_up()) is grpc.StatusCode.CANCELLED
    comes_to_rest(client)
    assert counted.executions(*backends) == [1, 0]


@pytest.mark.parametrize("name", ["code", "details", "trailing_metadata", "initial_metadata"])
@pytest.mark.parametrize("is_waiting", [True, False])
def test_whoever_only_asks_may_give_up(aio_face: AioFace, fleet: Fleet, name: str, is_waiting: bool) -> None:
    """As in grpcio, that cancels nothing; nor while the call waits for its next attempt."""
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    backends[1].behave(sleep=0.3)
    backoff = Backoff(initial=0.5, jitter=0) if is_waiting else None
    client = ready(aio_face, backends, Failover(idempotent=True, backoff=backoff))
    assert isinstance(client, AioClient)

    async def ask() -> Any:
        call = client.channel.unary_unary(METHODS["unary_unary"])(b"")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(getattr(call, name)(), 0.1)
        return await call

    assert client.loop.run(ask()) == b"b1"


def test_a_generator_is_ended_with_its_call(aio_face: AioFace, fleet: Fleet) -> None:
    """It may be waiting for something that never comes."""
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(aio_face, backends)
    assert isinstance(client, AioClient)
    counted = Call(client)
    ended: list[str] = []

    async def requests() -> Any:
        try:
            yield b"a"
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("ended")

    async def cancel() -> None:
        call = client.channel.stream_stream(METHODS["stream_stream"])(requests(), metadata=(("x-id", counted.id),))
        assert await call.read() == b"b1:a"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.read()

    client.loop.run(cancel())
    eventually(lambda: bool(ended))
    assert counted.executions(*backends) == [1, 1]
