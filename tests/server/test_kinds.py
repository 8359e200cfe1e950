"""Every kind of servicer on every kind of server, registered in both ways; grpcio's own servicers are the reference."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

import healthlb
from healthlb.aio import HealthServicer as AioHealthServicer
from healthlb.errors import ConfigError
from healthlb.server import Check, HealthManager, HealthServicer
from tests.backends.clients import Watching, eventually, failure
from tests.server.served import PATIENCE, Served, connected, request

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)
SERVERS = ("sync", "aio", "hybrid")


class Wrapped(HealthServicer):
    """Adds to each method, as grpcio's own signature is."""

    def Check(self, request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("x-seen", request.service),))
        return super().Check(request, context)

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:
        assert context.add_callback(lambda: None)
        return super().Watch(request, context, send_response_callback)


class Generating(HealthServicer):
    """Overrides Watch as a generator, without grpcio's callback."""

    def Watch(self, request: Any, context: Any) -> Any:
        assert context.is_active()
        yield from super().Watch(request, context)


class AsyncWatch(HealthServicer):
    """A sync servicer whose Watch was moved to asyncio already."""

    async def Watch(self, request: Any, context: Any) -> Any:
        async for message in super().Watch(request, context):
            yield message


class AioWrapped(AioHealthServicer):
    """Awaits what it overrides."""

    async def Check(self, request: Any, context: Any) -> Any:
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> Any:
        await super().Watch(request, context)


class AioGenerating(AioHealthServicer):
    """Iterates over what it overrides."""

    async def Watch(self, request: Any, context: Any) -> Any:
        async for message in super().Watch(request, context):
            yield message


class AioReturning(AioHealthServicer):
    """Returns what it overrides."""

    def Watch(self, request: Any, context: Any) -> Any:
        return super().Watch(request, context)


SYNC = {
    "sync": HealthServicer,
    "blocking": lambda: HealthServicer(False),
    "wrapped": Wrapped,
    "generating": Generating,
}
AIO = {"aio": AioHealthServicer, "awaiting": AioWrapped, "iterating": AioGenerating, "returning": AioReturning}
WORKS = [
    *((server, kind) for server in SERVERS for kind in SYNC),
    *((server, kind) for server in SERVERS[1:] for kind in (*AIO, "async watch")),
]
MAKE: dict[str, Any] = {**SYNC, **AIO, "async watch": AsyncWatch}
REGISTER = {"add_to_server": None, "generated": health_pb2_grpc.add_HealthServicer_to_server}


@pytest.fixture(params=WORKS, ids="-".join)
def combination(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=REGISTER)
def served(request: pytest.FixtureRequest, combination: tuple[str, str]) -> Iterator[Served]:
    server, kind = combination
    with closing(Served(server, workers=4, servicer=MAKE[kind](), register=REGISTER[request.param])) as served:
        yield served


@pytest.fixture
def stub(served: Served) -> Iterator[Any]:
    with connected(served) as stub:
        yield stub


def test_it_works_in_full(served: Served, stub: Any) -> None:
    served.set("svc", NOT_SERVING)
    known, unknown = Watching(stub.channel, "svc"), Watching(stub.channel, "late")

    assert [known.next(), unknown.next()] == [NOT_SERVING, SERVICE_UNKNOWN]
    for status in (SERVING, UNKNOWN, SERVING):
        served.set("svc", status)
        served.set("late", status)
        assert [known.next(), unknown.next()] == [status, status]
    assert stub.Check(request("svc"), timeout=PATIENCE).status == SERVING
    error = failure(lambda: stub.Check(request("never"), timeout=PATIENCE))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "unknown service")
    unknown.cancel()
    eventually(lambda: served.registry.watcher_count() == 1)
    served.close_servicer()
    assert [known.next(), known.next()] == [NOT_SERVING, grpc.StatusCode.UNAVAILABLE]
    assert Watching(stub.channel).next() == grpc.StatusCode.UNAVAILABLE
    stopping = threading.Thread(target=served.stop, args=(60.0,))
    stopping.start()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def test_watchers_that_leave_hold_no_thread(served: Served, stub: Any) -> None:
    before = threading.active_count()
    for _ in range(5):
        watchings = [Watching(stub.channel) for _ in range(3)]
        assert {watching.next() for watching in watchings} == {SERVING}
        for watching in watchings:
            watching.cancel()
        eventually(lambda: served.registry.watcher_count() == 0)

    # Those of the pool, and of the servicer itself, stay for a while. A fourth of each round would be too much.
    eventually(lambda: threading.active_count() - before < 12)
    assert stub.Check(request(), timeout=PATIENCE).status == SERVING


@pytest.mark.parametrize("combination", [pair for pair in WORKS if pair[1] in ("sync", "aio")], indirect=True)
def test_more_watchers_than_threads(served: Served, stub: Any) -> None:
    before = threading.active_count()
    calls = [stub.Watch(request()) for _ in range(40)]

    assert {next(call).status for call in calls} == {SERVING}
    assert threading.active_count() - before < 12
    assert stub.Check(request(), timeout=PATIENCE).status == SERVING


@pytest.mark.parametrize("server", SERVERS)
def test_the_reference_works(server: str) -> None:
    servicer = health.HealthServicer() if server == "sync" else health.aio.HealthServicer()
    register = REGISTER["generated"]
    with closing(Served(server, servicer=servicer, register=register)) as served, connected(served) as stub:
        watching = Watching(stub.channel, "svc")

        assert watching.next() == SERVICE_UNKNOWN
        served.set("svc", NOT_SERVING)
        assert watching.next() == NOT_SERVING


@pytest.mark.parametrize("kind", [*AIO, "async watch"])
def test_asynchronous_methods_are_refused_by_a_sync_server(kind: str) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    with pytest.raises(ConfigError, match=r"register a healthlb\.server\.HealthServicer, not <"):
        MAKE[kind]().add_to_server(server)


@pytest.mark.parametrize("kind", [*AIO, "async watch"])
def test_a_generated_function_that_cannot_refuse_leaves_it_to_the_first_call(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    servicer, register = MAKE[kind](), REGISTER["generated"]
    with closing(Served("sync", workers=2, servicer=servicer, register=register)) as served, connected(served) as stub:
        calls = [lambda: next(stub.Watch(request()))] * 3
        if kind in AIO:
            calls += [lambda: stub.Check(request(), timeout=PATIENCE)] * 3
        errors = [failure(call) for call in calls]

    assert {error.code() for error in errors} == {grpc.StatusCode.INTERNAL}
    assert all("healthlb.server.HealthServicer" in error.details() for error in errors)
    messages = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert sorted(message.split(":")[0] for message in messages) == (["Check", "Watch"] if kind in AIO else ["Watch"])


@pytest.mark.parametrize(("server", "kind"), [pair for pair in WORKS if pair[1] in ("sync", "blocking", "aio")])
def test_a_manager_sets_the_statuses_of_every_kind(server: str, kind: str) -> None:
    is_well = threading.Event()

    def probe() -> None:
        if not is_well.is_set():
            raise RuntimeError("not yet")

    servicer = MAKE[kind]()
    with closing(Served(server, servicer=servicer)) as served, connected(served) as stub:
        watching = Watching(stub.channel, "svc")
        assert watching.next() == SERVICE_UNKNOWN
        with HealthManager(servicer, {"it": Check(probe=probe, interval=0.05)}, {"svc": ["it"]}) as manager:
            manager.wait_until_known(PATIENCE)
            while (status := watching.next()) != NOT_SERVING:
                assert status == UNKNOWN
            is_well.set()
            assert watching.next() == SERVING


class Hiding(grpc.aio.ServerInterceptor):
    """Wraps handlers in plain functions: grpc.aio no longer sees that Watch is a coroutine function."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if not handler.response_streaming:
            return handler
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: handler.unary_stream(request, context),
            handler.request_deserializer,
            handler.response_serializer,
        )


def test_what_would_hold_threads_for_ever_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    served = Served("hybrid", workers=2, servicer=HealthServicer(), interceptors=[Hiding()])
    with closing(served), connected(served) as stub:
        errors = [failure(lambda: next(stub.Watch(request()))) for _ in range(5)]

        assert {error.code() for error in errors} == {grpc.StatusCode.INTERNAL}
        assert "an interceptor hides" in errors[0].details()
        assert stub.Check(request(), timeout=PATIENCE).status == SERVING
    assert caplog.text.count("an interceptor hides") == 1


@pytest.mark.parametrize(("server", "kind"), [pair for pair in WORKS if pair[1] in ("sync", "blocking", "aio")])
def test_a_health_aware_channel_follows_every_kind(server: str, kind: str) -> None:
    register = REGISTER["generated"]
    with (
        closing(Served(server, servicer=MAKE[kind](), register=register)) as served,
        healthlb.HealthAwareChannel([served.address], service="svc") as channel,
    ):
        served.set("svc", SERVING)
        channel.wait_until_ready(PATIENCE)
        served.set("svc", NOT_SERVING)
        eventually(lambda: channel.subchannels()[0].state is not grpc.ChannelConnectivity.READY)
        served.set("svc", SERVING)
        channel.wait_until_ready(PATIENCE)
