"""A call of one response, whose response had begun before it failed: whether it goes elsewhere.

gRFC A6 commits a call as soon as response headers come. So it is here, but for one case: the caller has said that the
method is idempotent, the response broke off (no status of the server's ended it), and nobody has asked for its headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import Failover
from tests.failover.cut_off_peer import CutOffPeer, headers, message, reset
from tests.failover.local import Local, fail
from tests.failover.storm import comes_to_rest
from tests.failover.support import ANY, InOrder, failure
from tests.parity.aio_face import AioFace
from tests.parity.face import METHODS, Client, Face

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
UNARY, CLIENT_STREAM = METHODS["unary_unary"], METHODS["stream_unary"]
TIMEOUT = 20.0
LATE = 10.0  # A hedging delay that no call lives to see.
CANCEL = 0x8  # of HTTP/2
ANSWERS = {
    "headers": (headers(x_backend="peer"),),
    "message": (headers(x_backend="peer"), message(b"peer")),
    "stream reset": (headers(x_backend="peer"), reset(CANCEL)),
}
ONE_RESPONSE = ("unary_unary", "stream_unary")


# --- forms of calls ----------------------------------------------------------------------------------


class PassOn(grpc.UnaryUnaryClientInterceptor, grpc.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    """An interceptor that does nothing."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Pass on."""
        return continuation(details, request)

    intercept_stream_unary = intercept_unary_unary


class AioPassOn(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.StreamUnaryClientInterceptor):
    """The same for asyncio."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Pass on."""
        return await continuation(details, request)

    intercept_stream_unary = intercept_unary_unary


class AioUnaryPassOn(grpc.aio.UnaryUnaryClientInterceptor):
    """One that is of unary calls alone: grpcio takes one of several kinds for the first of them."""

    intercept_unary_unary = AioPassOn.intercept_unary_unary


class AioStreamPassOn(grpc.aio.StreamUnaryClientInterceptor):
    """One of streams of requests."""

    intercept_stream_unary = AioPassOn.intercept_unary_unary


def requests() -> Iterator[bytes]:
    """Give two."""
    yield from (b"a", b"b")


async def arequests() -> AsyncIterator[bytes]:
    """Give two."""
    for request in (b"a", b"b"):
        yield request


def behind(channel: grpc.Channel) -> grpc.Channel:
    """Put an interceptor before a sync channel."""
    return grpc.intercept_channel(channel, PassOn())


async def written(channel: Any) -> Any:
    """Write requests, and await the response."""
    call = channel.stream_unary(CLIENT_STREAM)(timeout=TIMEOUT)
    for request in (b"a", b"b"):
        await call.write(request)
    await call.done_writing()
    return await call


Form = Callable[[Any], Any]
SYNC: dict[str, Form] = {
    "call": lambda channel: channel.unary_unary(UNARY)(b"", TIMEOUT),
    "with_call": lambda channel: channel.unary_unary(UNARY).with_call(b"", TIMEOUT)[0],
    "future": lambda channel: channel.unary_unary(UNARY).future(b"", TIMEOUT).result(),
    "client stream": lambda channel: channel.stream_unary(CLIENT_STREAM)(requests(), TIMEOUT),
    "client stream with_call": lambda channel: channel.stream_unary(CLIENT_STREAM).with_call(requests(), TIMEOUT)[0],
    "client stream future": lambda channel: channel.stream_unary(CLIENT_STREAM).future(requests(), TIMEOUT).result(),
    "intercepted call": lambda channel: behind(channel).unary_unary(UNARY)(b"", TIMEOUT),
    "intercepted future": lambda channel: behind(channel).unary_unary(UNARY).future(b"", TIMEOUT).result(),
    "intercepted client stream": lambda channel: behind(channel).stream_unary(CLIENT_STREAM)(requests(), TIMEOUT),
}
AIO: dict[str, Form] = {
    "call": lambda channel: channel.unary_unary(UNARY)(b"", timeout=TIMEOUT),
    "client stream": lambda channel: channel.stream_unary(CLIENT_STREAM)(arequests(), timeout=TIMEOUT),
    "client stream from an iterable": lambda channel: channel.stream_unary(CLIENT_STREAM)(
        [b"a", b"b"], timeout=TIMEOUT
    ),
    "written client stream": written,
}
FORMS = [("sync", name) for name in SYNC] + [("aio", name) for name in AIO]


def make(client: Client, face: str, form: str) -> bytes:
    """Make a call in one form; return the response."""
    return bytes(client.run(lambda: (SYNC if face == "sync" else AIO)[form](client.channel)))


@contextlib.contextmanager
def other() -> Iterator[Local]:
    """A server that answers."""
    with Local(
        unary_unary=lambda request, context: b"other",
        stream_unary=lambda requests, context: b"other %d" % sum(1 for _ in requests),
    ) as server:
        yield server


@contextlib.contextmanager
def all_of(count: int, *answer: tuple[int, int, bytes]) -> Iterator[list[CutOffPeer]]:
    """Several peers that break off."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(CutOffPeer(*answer)) for _ in range(count)]


def opened(face: Face, *servers: CutOffPeer | Local, **arguments: Any) -> Client:
    """Return a client that calls the first of these servers first."""
    arguments = {"failover": ANY, "picker": InOrder, **arguments}
    return face.ready([server.address for server in servers], None, **arguments)


# --- it broke off, and nothing of it was given to the caller: another attempt follows ----------------------------------------


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_an_idempotent_call_goes_elsewhere(request: pytest.FixtureRequest, name: str, form: str, answer: str) -> None:
    face: Face = request.getfixturevalue(f"{name}_face")
    with CutOffPeer(*ANSWERS[answer]) as peer, other() as second:
        client = opened(face, peer, second)

        assert make(client, name, form).startswith(b"other")
        assert (peer.calls, second.calls) == (1, 1)
        comes_to_rest(client)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("name", "form"), [("sync", "call"), ("sync", "future"), ("aio", "call")])
def test_a_hedged_call_goes_elsewhere(request: pytest.FixtureRequest, name: str, form: str, answer: str) -> None:
    face: Face = request.getfixturevalue(f"{name}_face")
    with CutOffPeer(*ANSWERS[answer]) as peer, other() as second:
        client = opened(face, peer, second, failover=Failover(idempotent=True, hedging_delay=LATE))

        assert make(client, name, form) == b"other"
        assert (peer.calls, second.calls) == (1, 1)
        comes_to_rest(client)


@pytest.mark.parametrize("arity", ONE_RESPONSE)
def test_an_idempotent_call_behind_interceptors_goes_elsewhere(aio_face: AioFace, arity: str) -> None:
    with CutOffPeer(*ANSWERS["headers"]) as peer, other() as second:
        client = opened(aio_face, peer, second, interceptors=[AioUnaryPassOn(), AioStreamPassOn()])
        form = "call" if arity == "unary_unary" else "client stream"

        assert make(client, "aio", form).startswith(b"other")
        assert (peer.calls, second.calls) == (1, 1)


def headers_first(then: Callable[[grpc.ServicerContext], Any]) -> dict[str, Any]:
    """Return handlers that send headers, and go on in one way."""

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        context.send_initial_metadata((("x-backend", "first"),))
        return then(context)

    return dict.fromkeys(ONE_RESPONSE, handle)


@pytest.mark.parametrize("arity", ONE_RESPONSE)
def test_attempt_timeout_behind_headers(face: Face, arity: str) -> None:
    is_over = threading.Event()
    with Local(**headers_first(lambda context: is_over.wait(TIMEOUT))) as first, other() as second:
        client = opened(face, first, second, failover=Failover(idempotent=True, attempt_timeout=0.5))

        assert client.start(arity).result().startswith(b"other")
        assert (first.calls, second.calls) == (1, 1)
        is_over.set()


@pytest.mark.parametrize("arity", ONE_RESPONSE)
def test_attempts_run_out(face: Face, arity: str) -> None:
    """Where every backend breaks off, the call ends as its last attempt, with all of them in its story."""
    with all_of(4, *ANSWERS["headers"]) as peers:
        client = opened(face, *peers, failover=Failover(idempotent=True, max_attempts=3))
        error = failure(lambda: client.start(arity).result())

        assert error.code() is UNAVAILABLE
        assert [attempt.address for attempt in error.attempts] == [peer.address for peer in peers[:3]]
        assert [peer.calls for peer in peers] == [1, 1, 1, 0]


# --- the caller was given it: the call stays -------------------------------------------------------------


@pytest.mark.parametrize("arity", ONE_RESPONSE)
def test_initial_metadata_that_were_asked_for_commit(face: Face, arity: str) -> None:
    with CutOffPeer(*ANSWERS["headers"], pause=0.3) as peer, other() as second:
        client = opened(face, peer, second)
        ongoing = client.start(arity)
        metadata = client.run(ongoing._call.initial_metadata)  # type: ignore[attr-defined]

        assert dict(tuple(metadata))["x-backend"] == "peer"
        assert failure(ongoing.result).code() is UNAVAILABLE
        assert (peer.calls, second.calls) == (1, 0)
        comes_to_rest(client)


@pytest.mark.parametrize("arity", ONE_RESPONSE)
def test_initial_metadata_that_nobody_asked_for_are_the_last_attempts(face: Face, arity: str) -> None:
    def answer(request: Any, context: grpc.ServicerContext) -> bytes:
        context.send_initial_metadata((("x-backend", "second"),))
        return b"second"

    with CutOffPeer(*ANSWERS["headers"]) as peer, Local(**dict.fromkeys(ONE_RESPONSE, answer)) as second:
        client = opened(face, peer, second)
        ongoing = client.start(arity)

        assert ongoing.result() == b"second"
        assert dict(tuple(client.run(ongoing._call.initial_metadata))) == {"x-backend": "second"}  # type: ignore[attr-defined]
        assert peer.calls == 1


def test_a_response_that_cannot_be_read_is_the_calls(sync_face: Face) -> None:
    """It came to its end; only its reader failed, and would fail again."""

    def unreadable(response: bytes) -> bytes:
        raise ValueError(response)

    with other() as first, other() as second:
        client = opened(sync_face, first, second, failover=Failover(idempotent=True, codes=("INTERNAL",)))
        method = client.channel.unary_unary(UNARY, response_deserializer=unreadable)

        for form in (lambda: method(b"", TIMEOUT), lambda: method.with_call(b"", TIMEOUT)):
            assert failure(form).code() is grpc.StatusCode.INTERNAL
        assert failure(lambda: method.future(b"", TIMEOUT).result()).code() is grpc.StatusCode.INTERNAL
        assert (first.calls, second.calls) == (3, 0)


# --- the server itself has ended it: the call stays (gRFC A6) ------------------------------------------------


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_a_status_of_the_server_behind_headers(request: pytest.FixtureRequest, name: str, form: str) -> None:
    face: Face = request.getfixturevalue(f"{name}_face")
    with Local(**headers_first(fail)) as first, other() as second:
        client = opened(face, first, second)

        assert failure(lambda: make(client, name, form)).code() is UNAVAILABLE
        assert (first.calls, second.calls) == (1, 0)


@pytest.mark.parametrize("trailers", [("grpc-retry-pushback-ms", "0"), ("x-word", "of the server")])
@pytest.mark.parametrize("arity", ONE_RESPONSE)
def test_trailers_behind_headers_are_the_servers(face: Face, arity: str, trailers: tuple[str, str]) -> None:
    """Whatever its words: a gateway passes on that it has lost a connection of its own."""

    def refuse(context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((trailers,))
        return fail(context, details="Socket closed")

    with Local(**headers_first(refuse)) as first, other() as second:
        client = opened(face, first, second)

        assert failure(lambda: client.start(arity).result()).code() is UNAVAILABLE
        assert (first.calls, second.calls) == (1, 0)


# --- not idempotent: never twice -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_any_other_call_is_never_made_twice(request: pytest.FixtureRequest, name: str, form: str, answer: str) -> None:
    face: Face = request.getfixturevalue(f"{name}_face")
    with CutOffPeer(*ANSWERS[answer]) as peer, other() as second:
        client = opened(face, peer, second, failover=Failover(idempotent=False))
        error = failure(lambda: make(client, name, form))

        assert error.code() in (UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert len(error.attempts) == 1
        assert (peer.calls, second.calls) == (1, 0)


# --- gRPC's own policies, beside plain grpcio in the same run -------------------------------------------------


RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.05s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
CONFIG = {"methodConfig": [{"name": [{}], "retryPolicy": RETRY}], "loadBalancingConfig": [{"round_robin": {}}]}


def call_plain(face: Face, peers: list[CutOffPeer], arity: str) -> None:
    """Have a call of a plain channel with the policy fail."""
    target = "ipv4:" + ",".join(peer.address for peer in peers)
    options = (("grpc.service_config", json.dumps(CONFIG)), ("grpc.enable_http_proxy", 0))
    form = "call" if arity == "unary_unary" else "client stream"

    async def call() -> None:
        async with grpc.aio.insecure_channel(target, options) as channel:
            await AIO[form](channel)

    with pytest.raises(grpc.RpcError) as caught:
        if face.name == "aio":
            asyncio.run(call())
        else:
            with grpc.insecure_channel(target, options) as channel:
                SYNC[form](channel)
    assert caught.value.code() is UNAVAILABLE  # type: ignore[attr-defined]


@pytest.mark.parametrize("arity", ONE_RESPONSE)
@pytest.mark.parametrize(("answer", "executions"), [((), 3), (ANSWERS["headers"], 1), (ANSWERS["message"], 1)])
def test_a_retry_policy_of_a_service_config_is_as_plain(face: Face, arity: str, answer: Any, executions: int) -> None:
    with all_of(4, *answer) as of_ours, all_of(4, *answer) as of_plain:
        client = face.ready([peer.address for peer in of_ours], None, service_config=json.dumps(CONFIG))
        form = "call" if arity == "unary_unary" else "client stream"

        assert failure(lambda: make(client, face.name, form)).code() is UNAVAILABLE
        assert sum(peer.calls for peer in of_ours) == executions
        call_plain(face, of_plain, arity)
        assert sum(peer.calls for peer in of_plain) == executions


def test_an_explicit_failover_wins_over_it(face: Face) -> None:
    with CutOffPeer(*ANSWERS["headers"]) as peer, other() as second:
        client = opened(face, peer, second, service_config=json.dumps(CONFIG))

        assert client.call() == "other"
        assert (peer.calls, second.calls) == (1, 1)
