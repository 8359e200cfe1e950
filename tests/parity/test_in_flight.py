"""P18: however a call ends, it is counted out, and the counts of picks and ends agree."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import grpc
import pytest

from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.parity.aio_face import AioFace
from tests.parity.face import ARITIES, METHODS, CallInFlight, Cancelled, Client, Face
from tests.parity.fleet import Fleet, addresses

SLOW = {"sleep": 60, "timeout": None}
ENDS = pytest.mark.parametrize("arity", ARITIES)


def has_ended(client: Client, picks: int, successes: int, failures: int) -> bool:
    """Wait until nothing is in flight; return whether all that was picked is accounted for."""
    eventually(lambda: not any(status.in_flight for status in client.subchannels()))
    counts = client.subchannels()
    found = [sum(getattr(status, name) for status in counts) for name in ("picks", "successes", "failures")]
    assert found == [picks, successes, failures]
    return True


def in_flight(client: Client) -> int:
    """How many calls the channel thinks are under way."""
    return sum(status.in_flight for status in client.subchannels())


def begin_slow(client: Client, backend: Backend, arity: str, **how: Any) -> CallInFlight:
    """Begin a call that hangs in its handler, and see that it is counted in."""
    call = client.start(arity, **{**SLOW, **how})
    eventually(lambda: backend.stats().in_flight == 1)
    assert in_flight(client) == 1
    return call


@pytest.fixture
def backend(fleet: Fleet) -> Backend:
    """The one that all calls go to."""
    return fleet.lend()[0]


@pytest.fixture
def client(face: Face, backend: Backend) -> Client:
    """A channel to it alone."""
    return face.ready([backend.address])


@ENDS
def test_p18_success(client: Client, arity: str) -> None:
    call = client.start(arity)

    assert call.end() is grpc.StatusCode.OK
    assert has_ended(client, picks=1, successes=1, failures=0)


@ENDS
def test_p18_an_error_of_the_server(client: Client, arity: str) -> None:
    call = client.start(arity, fail="ABORTED")

    # grpc.aio may hide the status of a call that it is still writing to.
    assert call.end() in (grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL)
    assert has_ended(client, picks=1, successes=0, failures=1)


@ENDS
def test_p18_its_deadline(client: Client, arity: str) -> None:
    call = client.start(arity, sleep=60, timeout=0.2)

    assert call.end() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert has_ended(client, picks=1, successes=0, failures=1)


@ENDS
def test_p18_cancellation(client: Client, backend: Backend, arity: str) -> None:
    call = begin_slow(client, backend, arity)

    assert call.cancel() is True
    assert call.code() is grpc.StatusCode.CANCELLED
    assert has_ended(client, picks=1, successes=0, failures=0)
    assert call.cancel() is False


@ENDS
def test_p18_dropped_before_it_was_read(face: Face, client: Client, backend: Backend, arity: str) -> None:
    is_carried_on = face.name == "aio"
    begin_slow(client, backend, arity, timeout=0.7 if is_carried_on else None).drop()

    # grpc.aio carries a call on to its end, whoever has lost interest (1.85.3).
    assert has_ended(client, picks=1, successes=0, failures=int(is_carried_on))
    eventually(lambda: backend.stats().in_flight == 0)


@pytest.mark.parametrize("arity", ["unary_stream", "stream_stream"])
def test_p18_dropped_midway(face: Face, client: Client, backend: Backend, arity: str) -> None:
    is_carried_on = face.name == "aio"
    timeout = 1.0 if is_carried_on else None
    call = client.start(arity, requests=None, timeout=timeout, count=1000000, interval=0.01)
    if arity == "stream_stream":
        call.write(b"1")
    assert call.read() is not None
    assert in_flight(client) == 1
    call.drop()

    assert has_ended(client, picks=1, successes=0, failures=int(is_carried_on))
    eventually(lambda: backend.stats().in_flight == 0)


def test_p18_sync_a_loop_that_is_left(sync_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = sync_face.ready([backend.address])

    def take_one() -> bytes:
        stream = client.channel.unary_stream(METHODS["unary_stream"])
        for response in stream(b"", metadata=ENDLESS):
            return bytes(response)
        return b""

    assert take_one() == b"b0:0"
    assert has_ended(client, picks=1, successes=0, failures=0)
    eventually(lambda: backend.stats().in_flight == 0)


def test_p18_aio_a_loop_that_is_left(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = aio_face.ready([backend.address])

    async def take_one() -> bytes:
        stream = client.channel.unary_stream(METHODS["unary_stream"])
        async for response in stream(b"", metadata=ENDLESS, timeout=1.0):
            return bytes(response)
        return b""

    assert client.run(take_one) == b"b0:0"
    client.run(gc.collect)
    # grpc.aio carries it on, unread, until its deadline (1.85.3).
    assert has_ended(client, picks=1, successes=0, failures=1)
    eventually(lambda: backend.stats().in_flight == 0)


ENDLESS = (("x-count", "1000000"), ("x-interval", "0.01"))


def _refuse(message: object) -> Any:
    raise RuntimeError("a bug of the user's")


def fate(client: Client, arity: str, **how: Any) -> str:
    """What the caller of such a call is told."""
    try:
        client.start(arity, **how).take()
    except Cancelled:
        return "cancelled"
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    except Exception as error:
        return type(error).__name__
    return "answered"


@ENDS
@pytest.mark.parametrize("part", ["serializer", "deserializer"])
def test_p18_serialization_that_raises(
    face: Face, client: Client, backend: Backend, arity: str, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    # What is logged holds the frames, which hold the calls, which hold the channels.
    caplog.set_level(logging.CRITICAL, "grpc._common")
    # grpc.aio carries on a stream that nobody reads any more (1.85.3).
    timeout = 1.0 if face.name == "aio" else None
    native = fate(face.native([backend.address]), arity, timeout=timeout, **{part: _refuse})

    assert fate(client, arity, timeout=timeout, **{part: _refuse}) == native
    eventually(lambda: in_flight(client) == 0)
    assert client.call() == "b0"


BAD_METADATA = [(("Upper-Case", "v"),), (("no-value", None),), (("ctl", "\n"),), (("not a pair",),), 3]


@pytest.mark.needs("grpcio", "1.83", reason="its streams with such metadata do not fail at once")
@pytest.mark.parametrize("metadata", BAD_METADATA, ids=repr)
def test_p18_metadata_that_is_none(face: Face, client: Client, backend: Backend, metadata: Any) -> None:
    plain = face.native([backend.address])
    native = [fate(plain, arity, metadata=metadata).partition(":")[0] for arity in ARITIES]
    ours = [fate(client, arity, metadata=metadata).partition(":")[0] for arity in ARITIES]

    assert ours == native
    eventually(lambda: in_flight(client) == 0)
    assert client.call() == "b0"


def test_p18_aio_what_grpcio_refuses_to_send_is_counted_out_at_once(aio_face: AioFace, fleet: Fleet) -> None:
    client = aio_face.ready(addresses(fleet.lend()))
    call = client.start(metadata=BAD_METADATA[0])
    with pytest.raises(Exception, match=r"execute_batch|grpc_call_start_batch") as refused:
        call.result()

    # The error is held, and so are the frames that hold the call: nothing is left to the garbage collector.
    assert refused.value is not None
    assert has_ended(client, picks=1, successes=0, failures=0)
    assert call.is_over()


@ENDS
def test_p18_the_channel_closes_meanwhile(client: Client, backend: Backend, arity: str) -> None:
    call = begin_slow(client, backend, arity)
    client.close()

    assert call.code() is grpc.StatusCode.CANCELLED
    eventually(lambda: backend.stats().in_flight == 0)


def test_p18_the_server_dies_meanwhile(client: Client, backend: Backend) -> None:
    calls = [client.start(arity, **SLOW) for arity in ARITIES]
    eventually(lambda: backend.stats().in_flight == 4)
    backend.kill()

    assert [call.end() for call in calls] == [grpc.StatusCode.UNAVAILABLE] * 4
    assert has_ended(client, picks=4, successes=0, failures=4)


def test_p18_the_server_turns_unhealthy_and_dies(client: Client, backend: Backend) -> None:
    calls = [client.start(arity, **SLOW) for arity in ARITIES]
    eventually(lambda: backend.stats().in_flight == 4)
    backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T")
    assert in_flight(client) == 4
    backend.kill()

    assert [call.end() for call in calls] == [grpc.StatusCode.UNAVAILABLE] * 4
    assert has_ended(client, picks=4, successes=0, failures=4)


def test_p18_a_call_that_blocks_until_its_end(client: Client) -> None:
    assert failure(lambda: client.call(fail="INTERNAL")).code() is grpc.StatusCode.INTERNAL
    assert failure(lambda: client.call(timeout=0.2, sleep=60)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.call() == "b0"
    assert has_ended(client, picks=3, successes=1, failures=2)


def test_p18_in_sum(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    calls = [client.start(arity, **how) for arity in ARITIES for how in _MIXED]
    calls[0].cancel()
    backends[0].set("NOT_SERVING", "svc")
    client.wait_for_states("T", "R")
    backends[1].kill()
    for call in calls:
        call.end()
    eventually(lambda: in_flight(client) == 0)
    counts = client.subchannels()

    ended = sum(status.successes + status.failures for status in counts)
    assert sum(status.picks for status in counts) - ended in (0, 1)


_MIXED: tuple[dict[str, Any], ...] = ({}, {"fail": "INTERNAL"}, {"sleep": 60, "timeout": 0.3}, {"sleep": 0.1})


# The aio face: the task that waits is cancelled.


@ENDS
def test_p18_aio_the_awaiting_task_is_cancelled(aio_face: AioFace, fleet: Fleet, arity: str) -> None:
    (backend,) = fleet.lend()
    client = aio_face.ready([backend.address])

    async def wait() -> None:
        method = getattr(client.channel, arity)(METHODS[arity])
        call = method(*_request(arity), metadata=(("x-sleep", "60"),))
        if arity.endswith("stream"):
            async for _ in call:
                pass
        else:
            await call

    async def begun() -> asyncio.Task[None]:
        return asyncio.create_task(wait())

    task = aio_face.loop.run(begun())
    eventually(lambda: backend.stats().in_flight == 1)
    assert in_flight(client) == 1
    aio_face.loop.loop.call_soon_threadsafe(task.cancel)
    eventually(task.done)

    assert task.cancelled()
    del task
    assert has_ended(client, picks=1, successes=0, failures=0)
    eventually(lambda: backend.stats().in_flight == 0)


def _request(arity: str) -> tuple[Any, ...]:
    async def requests() -> Any:
        yield b"1"

    return (requests(),) if arity.startswith("stream") else (b"",)


@ENDS
def test_p18_aio_the_waiting_task_of_a_call_without_subchannel(aio_face: AioFace, fleet: Fleet, arity: str) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = aio_face.open([backend.address])

    async def wait() -> None:
        method = getattr(client.channel, arity)(METHODS[arity])
        call = method(*_request(arity), wait_for_ready=True)
        await (call.read() if arity.endswith("stream") else call)

    async def begun() -> asyncio.Task[None]:
        return asyncio.create_task(wait())

    task = aio_face.loop.run(begun())
    client.wait_for_states("T")
    aio_face.loop.loop.call_soon_threadsafe(task.cancel)
    eventually(task.done)

    assert task.cancelled()
    assert has_ended(client, picks=0, successes=0, failures=0)
