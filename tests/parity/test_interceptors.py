"""Interceptors see calls as their caller made them, in each face's own way, and never a Watch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from healthlb import HealthCheck, Heartbeat
from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.parity.aio_face import AioClient, AioFace
from tests.parity.face import ARITIES, Client, Face, Facts
from tests.parity.fleet import Fleet, addresses
from tests.parity.sync_face import SyncClient

MARK = ("x-trailer", "marked")


class Details(NamedTuple):
    """What a client interceptor passes on."""

    method: Any
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any = None


def marked(details: Any) -> Details:
    """Return the same details with one more metadatum, which the server sends back."""
    metadata = (*(details.metadata or ()), MARK)
    return Details(details.method, details.timeout, metadata, details.credentials, details.wait_for_ready)


class SyncMarker(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Marks calls of every arity and keeps their methods."""

    def __init__(self) -> None:
        """See none yet."""
        self.seen: list[str] = []

    def _pass(self, continuation: Any, details: Any, request: Any) -> Any:
        self.seen.append(details.method)
        return continuation(marked(details), request)

    intercept_unary_unary = intercept_unary_stream = _pass
    intercept_stream_unary = intercept_stream_stream = _pass


class AioMarkers:
    """The same for grpc.aio, which wants one interceptor per arity."""

    def __init__(self) -> None:
        """See none yet."""
        self.seen: list[str] = []
        self.all = [self._make(arity) for arity in ARITIES]

    def _make(self, arity: str) -> grpc.aio.ClientInterceptor:
        kind = getattr(grpc.aio, "".join(part.title() for part in arity.split("_")) + "ClientInterceptor")

        async def passed(_: Any, continuation: Any, details: Any, request: Any) -> Any:
            self.seen.append(details.method.decode() if isinstance(details.method, bytes) else details.method)
            return await continuation(grpc.aio.ClientCallDetails(*marked(details)[:5]), request)

        interceptor: grpc.aio.ClientInterceptor = type("Marker", (kind,), {f"intercept_{arity}": passed})()
        return interceptor


def intercepted(face: Face, backends: list[Backend]) -> tuple[Client, list[str]]:
    """Return a client whose calls are marked, and the methods its interceptors see."""
    health = HealthCheck(heartbeat=Heartbeat(interval=0.1))
    if face.name == "aio":
        markers = AioMarkers()
        return face.ready(addresses(backends), health=health, interceptors=markers.all), markers.seen
    marker = SyncMarker()
    plain = face.ready(addresses(backends), health=health)
    return SyncClient(grpc.intercept_channel(plain.channel, marker), Facts()), marker.seen


@pytest.mark.parametrize("arity", ARITIES)
def test_interceptors_of_every_arity(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    client, seen = intercepted(face, backends)
    checks = sum(backend.stats().checks for backend in backends)
    calls = [client.start(arity) for _ in range(4)]
    answers = [call.take() for call in calls]
    eventually(lambda: sum(backend.stats().checks for backend in backends) > checks + 2)

    assert [call.code() for call in calls] == [grpc.StatusCode.OK] * 4
    assert [call.trailing().get("x-trailer") for call in calls] == ["marked"] * 4
    assert len({answer[0][:2] for answer in answers}) == 2
    # Neither the Watches nor the Checks of the heartbeat.
    assert {name.rpartition("/")[0] for name in seen} == {"/test.Echo"}
    assert len(seen) == 4


def test_interceptors_and_calls_that_fail(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client, seen = intercepted(face, backends)

    error = failure(lambda: client.call(fail="NOT_FOUND", details="no such thing"))

    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such thing")
    assert len(seen) == 1


def test_interceptors_see_a_call_once_that_finds_nothing(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client, seen = intercepted(face, backends)
    for backend in backends:
        backend.set("NOT_SERVING", "svc")

    def is_down() -> bool:
        try:
            client.call()
        except grpc.RpcError:
            return True
        return False

    eventually(is_down)
    seen.clear()
    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details().count("NOT_SERVING") == 2
    assert len(seen) == 1


def test_sync_the_wrapped_channel_is_the_channel(sync_face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client, _ = intercepted(sync_face, backends)
    states: list[grpc.ChannelConnectivity] = []
    client.channel.subscribe(states.append)
    eventually(lambda: states == [grpc.ChannelConnectivity.READY])
    client.channel.close()

    with pytest.raises((ValueError, grpc.RpcError)):
        client.call()


def test_aio_interceptors_are_checked_at_construction(aio_face: AioFace) -> None:
    with pytest.raises(ValueError, match="SyncMarker"):
        aio_face.open(["127.0.0.1:1"], interceptors=[SyncMarker()])


def test_aio_an_interceptor_may_answer_itself(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    before = backend.stats().executions.get("Unary", 0)

    class Cache(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> bytes:
            return b"cached"

    client = aio_face.ready([backend.address], interceptors=[Cache()])

    assert isinstance(client, AioClient)
    assert client.call() == "cached"
    assert backend.stats().executions.get("Unary", 0) == before


def test_aio_interceptors_run_in_order(aio_face: AioFace, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    order: list[str] = []

    def make(name: str) -> grpc.aio.ClientInterceptor:
        class Named(grpc.aio.UnaryUnaryClientInterceptor):
            async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
                order.append(name)
                return await continuation(details, request)

        return Named()

    client = aio_face.ready([backend.address], interceptors=[make("first"), make("second")])
    client.call()

    assert order == ["first", "second"]
