"""Streams fail over as long as nobody has seen anything of them, and requests are sent again from the first on."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import Failover
from tests.backends.clients import eventually
from tests.failover.local import Local, fail
from tests.failover.storm import comes_to_rest
from tests.failover.support import ANY, Call, InOrder, failure, ready
from tests.parity.aio_face import AioClient, AioFace
from tests.parity.face import METHODS, Client, Face
from tests.parity.fleet import Fleet

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
SERVER_STREAM, CLIENT_STREAM, BIDI = (METHODS[arity] for arity in ("unary_stream", "stream_unary", "stream_stream"))


def opened(face: Face, *servers: Local, failover: Failover | None = ANY) -> Client:
    """Return a client of servers of this process."""
    return face.ready([server.address for server in servers], None, failover=failover, picker=InOrder)


# --- responses ---------------------------------------------------------------------------------------


def test_r22_a_stream_that_has_begun_is_not_tried_again(face: Face) -> None:
    def one_and_out(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"0"
        fail(context)

    with Local(unary_stream=one_and_out) as first, Local(unary_stream=one_and_out) as second:
        client = opened(face, first, second)
        # The message and the end come together: whatever of it is seen first, it is not shown twice.
        for _ in range(100):
            call = client.start("unary_stream")
            responses = []
            with pytest.raises(grpc.RpcError) as caught:
                while (response := call.read()) is not None:
                    responses.append(response)
            assert caught.value.code() is UNAVAILABLE
            assert responses == [b"0"]
        comes_to_rest(client)


def test_r22_initial_metadata_that_was_asked_for_commits(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.5, fail="UNAVAILABLE")
    client = ready(face, backends)
    call = Call(client, headers=1)
    ongoing = call.begin("unary_stream")
    metadata = client.run(ongoing._call.initial_metadata)  # type: ignore[attr-defined]

    assert dict(tuple(metadata))["x-backend"] == "b0"
    assert failure(ongoing.read).code() is UNAVAILABLE
    assert call.executions(*backends) == [1, 0]


def test_r22_initial_metadata_that_nobody_asked_for_does_not(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.2, fail="UNAVAILABLE")
    client = ready(face, backends)
    call = Call(client, headers=1)

    assert call.begin("unary_stream").drain() == [b"b1:0", b"b1:1", b"b1:2"]
    assert call.executions(*backends) == [1, 1]


def test_initial_metadata_that_is_asked_for_late_is_the_last_attempts(face: Face, fleet: Fleet) -> None:
    """Headers of the first attempt came, and were nobody's; those that are read are of the one that answered."""
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.2, fail="UNAVAILABLE")
    client = ready(face, backends)
    ongoing = Call(client, headers=1).begin("unary_stream")

    assert ongoing.read() == b"b1:0"
    assert dict(tuple(client.run(ongoing._call.initial_metadata)))["x-backend"] == "b1"  # type: ignore[attr-defined]
    assert ongoing.drain() == [b"b1:1", b"b1:2"]


def test_the_initial_metadata_is_the_last_attempts(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.2, fail="UNAVAILABLE")
    client = ready(face, backends)
    ongoing = Call(client).begin("unary_stream")
    metadata = client.run(ongoing._call.initial_metadata)  # type: ignore[attr-defined]

    assert dict(tuple(metadata))["x-backend"] == "b1"
    assert ongoing.drain() == [b"b1:0", b"b1:1", b"b1:2"]


def test_an_async_for_fails_over(aio_face: AioFace, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(aio_face, backends)
    assert isinstance(client, AioClient)

    async def iterate() -> list[bytes]:
        return [response async for response in client.channel.unary_stream(SERVER_STREAM)(b"")]

    assert client.loop.run(iterate()) == [b"b1:0", b"b1:1", b"b1:2"]


# --- requests ----------------------------------------------------------------------------------------


def counted(requests: Iterator[bytes], read: list[bytes]) -> Iterator[bytes]:
    """Pass requests on, and keep those that were asked for."""
    for request in requests:
        read.append(request)
        yield request


def first_then_fail(count: int) -> Any:
    """Return a handler that reads so many requests and fails."""

    def handler(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        list(itertools.islice(requests, count))
        fail(context)
        yield b""

    return handler


def echo(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    """Send every request back."""
    yield from requests


def total(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    """Return all requests in one."""
    return b"".join(requests)


def after(count: int) -> Any:
    """Return a handler that reads so many requests and fails; a unary one."""

    def handler(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        list(itertools.islice(requests, count))
        fail(context)
        return b""

    return handler


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_r21_requests_are_sent_again_from_the_first(face: Face, count: int) -> None:
    wanted = [b"%d" % number for number in range(5)]
    with (
        Local(stream_unary=after(count), stream_stream=first_then_fail(count)) as first,
        Local(stream_unary=total, stream_stream=echo) as second,
    ):
        client = opened(face, first, second)

        assert client.start("stream_unary", requests=wanted).result() == b"01234"
        assert client.start("stream_stream", requests=wanted).drain() == wanted
        assert first.calls == second.calls == 2
        comes_to_rest(client)


def test_r21_the_form_that_blocks_sends_them_again(sync_face: Face) -> None:
    read: list[bytes] = []
    with Local(stream_unary=after(2)) as first, Local(stream_unary=total) as second:
        client = opened(sync_face, first, second)
        method = client.channel.stream_unary(CLIENT_STREAM)

        assert method(counted(iter([b"a", b"b", b"c"]), read)) == b"abc"
        assert method.with_call(iter([b"d", b"e", b"f"]))[0] == b"def"
        assert read == [b"a", b"b", b"c"]


@pytest.mark.parametrize("limit", [0, 9])
def test_r20_past_the_limit_a_call_is_committed(face: Face, limit: int) -> None:
    wanted = [b"12345"] * 4
    with Local(stream_unary=after(4)) as first, Local(stream_unary=total) as second:
        client = opened(face, first, second, failover=Failover(idempotent=True, buffer_limit=limit))

        assert failure(client.start("stream_unary", requests=wanted).result).code() is UNAVAILABLE
        assert second.calls == 0
        comes_to_rest(client)


def test_r20_past_the_limit_a_call_goes_on(face: Face) -> None:
    wanted = [b"%05d" % number for number in range(200)]
    with Local(stream_unary=total, stream_stream=echo) as server:
        client = opened(face, server, failover=Failover(idempotent=True, buffer_limit=64))

        assert client.start("stream_unary", requests=wanted).result() == b"".join(wanted)
        assert client.start("stream_stream", requests=wanted).drain() == wanted


def test_one_request_for_one_response(face: Face) -> None:
    """The caller has no more requests until it has had a response: the second attempt must not wait for one."""
    with Local(stream_stream=first_then_fail(1)) as first, Local(stream_stream=echo) as second:
        client = opened(face, first, second)
        call = client.start("stream_stream", requests=None)
        for request in (b"a", b"b", b"c"):
            call.write(request)
            assert call.read() == request
        call.finish()

        assert call.read() is None
        assert (first.calls, second.calls) == (1, 1)


def test_one_request_for_one_response_from_a_generator(aio_face: AioFace) -> None:
    with Local(stream_stream=first_then_fail(1)) as first, Local(stream_stream=echo) as second:
        client = opened(aio_face, first, second)
        assert isinstance(client, AioClient)

        async def talk() -> list[bytes]:
            wanted: asyncio.Queue[bytes | None] = asyncio.Queue()

            async def requests() -> Any:
                while (request := await wanted.get()) is not None:
                    yield request

            call = client.channel.stream_stream(BIDI)(requests())
            responses = []
            for request in (b"a", b"b", b"c"):
                wanted.put_nowait(request)
                responses.append(await call.read())
            wanted.put_nowait(None)
            assert await call.read() is grpc.aio.EOF
            return responses

        assert client.loop.run(talk()) == [b"a", b"b", b"c"]


def test_responses_come_while_requests_are_sent_again(face: Face) -> None:
    """The first response commits the call; what is still to be sent again is not lost."""
    wanted = [b"%04d" % number for number in range(300)]
    with Local(stream_stream=first_then_fail(300)) as first, Local(stream_stream=echo) as second:
        client = opened(face, first, second)
        for _ in range(5):
            assert client.start("stream_stream", requests=wanted).drain() == wanted


def test_written_requests_are_sent_again_while_responses_are_read(aio_face: AioFace) -> None:
    wanted = [b"%04d" % number for number in range(100)]
    heard = threading.Event()

    def hear_all(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        list(itertools.islice(requests, len(wanted)))
        heard.set()
        fail(context)
        yield b""

    with Local(stream_stream=hear_all) as first, Local(stream_stream=echo) as second:
        client = opened(aio_face, first, second)
        call = client.start("stream_stream", requests=None)
        for request in wanted:
            call.write(request)
        assert heard.wait(10)
        responses = [call.read() for _ in wanted]
        call.finish()

        assert responses == wanted
        assert call.read() is None


def test_an_empty_stream_of_written_requests_is_ended_again(aio_face: AioFace, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", sleep=0.3)
    client = ready(aio_face, backends)
    call = Call(client).begin("stream_unary", requests=None)
    call.finish()

    assert call.result() == b"b1:0"


def test_a_limit_that_is_passed_by_an_attempt_that_is_over(sync_face: Face) -> None:
    """The dead attempt waits for the iterator, and what it gets is the next one's, however much it is."""
    wanted: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with Local(stream_stream=first_then_fail(2)) as first, Local(stream_stream=echo) as second:
        client = opened(sync_face, first, second, failover=Failover(idempotent=True, buffer_limit=10))
        call = client.channel.stream_stream(BIDI)(iter(wanted.get, None))
        for request in (b"a", b"b"):
            wanted.put(request)
        eventually(lambda: second.calls == 1)
        for request in (b"c" * 100, b"d" * 100, None):
            wanted.put(request)

        assert list(call) == [b"a", b"b", b"c" * 100, b"d" * 100]


class Broken(Exception):
    """The caller's iterator broke."""


def test_an_iterator_that_breaks_ends_the_call(sync_face: Face) -> None:
    """As in grpcio; it would break again."""

    def requests() -> Iterator[bytes]:
        yield b"a"
        raise Broken

    with Local(stream_unary=total) as first, Local(stream_unary=total) as second:
        codes = [grpc.StatusCode.UNKNOWN, UNAVAILABLE]
        client = opened(sync_face, first, second, failover=Failover(idempotent=True, codes=codes))
        method = client.channel.stream_unary(CLIENT_STREAM)

        assert failure(lambda: method(requests())).details() == "Exception iterating requests!"
        assert failure(method.future(requests()).result).details() == "Exception iterating requests!"
        assert second.calls == 0
        comes_to_rest(client)


def test_a_generator_that_breaks_ends_the_call(aio_face: AioFace) -> None:
    """As in grpcio, which cancels the call."""
    with Local(stream_unary=total) as first, Local(stream_unary=total) as second:
        client = opened(aio_face, first, second)
        assert isinstance(client, AioClient)

        async def requests() -> Any:
            yield b"a"
            raise Broken

        async def call() -> grpc.StatusCode:
            made = client.channel.stream_unary(CLIENT_STREAM)(requests())
            with pytest.raises(asyncio.CancelledError):
                await made
            code: grpc.StatusCode = await made.code()
            return code

        assert client.loop.run(call()) is grpc.StatusCode.CANCELLED
        assert second.calls == 0
        comes_to_rest(client)


def test_an_async_generator_survives_its_attempt(aio_face: AioFace) -> None:
    """The attempt that reads it is cancelled while it waits; the generator is not."""
    with Local(stream_stream=first_then_fail(1)) as first, Local(stream_stream=echo) as second:
        client = opened(aio_face, first, second)
        assert isinstance(client, AioClient)

        async def talk() -> list[bytes]:
            is_begun = asyncio.Event()

            async def requests() -> Any:
                yield b"a"
                await is_begun.wait()
                yield b"b"

            call = client.channel.stream_stream(BIDI)(requests())
            responses = [await call.read()]
            is_begun.set()
            return [*responses, await call.read(), await call.read()]

        assert client.loop.run(talk()) == [b"a", b"b", grpc.aio.EOF]


def test_the_two_styles_are_not_mixed(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = ready(aio_face, [backend])
    call = client.start("stream_unary", requests=[b"a"])

    with pytest.raises(grpc.aio.UsageError):
        call.write(b"b")
    assert call.result() == b"b0:1"
