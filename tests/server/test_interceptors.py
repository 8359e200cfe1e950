"""The health service behind interceptors: those that programs have, and each way in which one can drive a handler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest
import sentry_sdk
from grpc_health.v1 import health_pb2_grpc
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.sdk.trace import TracerProvider
from sentry_sdk.integrations.grpc.aio.server import ServerInterceptor as SentryAio
from sentry_sdk.integrations.grpc.server import ServerInterceptor as Sentry

from tests.backends.clients import Watching, eventually, failure
from tests.server.served import PATIENCE, Served, connected, request
from tests.server.test_kinds import MAKE, REGISTER, Hiding

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)


class Awaiting(grpc.aio.ServerInterceptor):
    """Awaits whatever it wraps."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)

        async def call(request: Any, context: Any) -> Any:
            return await (handler.unary_stream or handler.unary_unary)(request, context)

        return _like(handler, call)


class Iterating(grpc.aio.ServerInterceptor):
    """Iterates over streams."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if not handler.response_streaming:
            return handler

        async def call(request: Any, context: Any) -> Any:
            async for message in handler.unary_stream(request, context):
                yield message

        return _like(handler, call)


class Calling(grpc.ServerInterceptor):
    """Iterates over streams of a `grpc.server`."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if not handler.response_streaming:
            return handler

        def call(request: Any, context: Any) -> Any:
            yield from handler.unary_stream(request, context)

        return _like(handler, call)


def _like(handler: Any, behavior: Any) -> Any:
    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return make(behavior, handler.request_deserializer, handler.response_serializer)


AIO: dict[str, Any] = {
    "awaiting": lambda: [Awaiting()],
    "iterating": lambda: [Iterating()],
    "opentelemetry": lambda: [aio_server_interceptor(TracerProvider())],
    "sentry": lambda: [SentryAio()],
    "all": lambda: [SentryAio(), Iterating(), aio_server_interceptor(TracerProvider())],
}
SYNC: dict[str, Any] = {
    "calling": lambda: [Calling()],
    "opentelemetry": lambda: [server_interceptor(TracerProvider())],
    "sentry": lambda: [Sentry()],
    "all": lambda: [Sentry(), Calling(), server_interceptor(TracerProvider())],
}
CASES = [
    *(("sync", kind, name) for name in SYNC for kind in ("sync", "blocking", "wrapped", "generating")),
    *(("aio", kind, name) for name in AIO for kind in ("aio", "awaiting", "iterating", "returning", "sync")),
    *(("hybrid", kind, name) for name in AIO for kind in ("sync", "wrapped", "generating")),
]


@pytest.fixture(params=REGISTER)
def register(request: pytest.FixtureRequest) -> Any:
    return REGISTER[request.param]


@pytest.fixture(autouse=True)
def sentry() -> Iterator[None]:
    sentry_sdk.init()  # Without a key: nothing is sent anywhere.
    yield
    sentry_sdk.get_client().close()


@pytest.mark.parametrize(("server", "kind", "interceptors"), CASES, ids=str)
def test_it_works_in_full(server: str, kind: str, interceptors: str, register: Any) -> None:
    made = (SYNC if server == "sync" else AIO)[interceptors]()
    served = Served(server, workers=6, servicer=MAKE[kind](), register=register, interceptors=made)
    with closing(served), connected(served) as stub:
        known, unknown, leaving = (Watching(stub.channel, name) for name in ("", "late", ""))

        assert [known.next(), unknown.next(), leaving.next()] == [SERVING, SERVICE_UNKNOWN, SERVING]
        for status in (NOT_SERVING, SERVING):
            served.set("", status)
            served.set("late", status)
            assert [known.next(), unknown.next()] == [status, status]
        assert stub.Check(request("late"), timeout=PATIENCE).status == SERVING
        assert failure(lambda: stub.Check(request("never"), timeout=PATIENCE)).code() == grpc.StatusCode.NOT_FOUND
        leaving.cancel()
        eventually(lambda: served.registry.watcher_count() == 2)
        served.close_servicer()
        assert [known.next(), known.next()] == [NOT_SERVING, grpc.StatusCode.UNAVAILABLE]
        assert Watching(stub.channel, "x").next() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.filterwarnings("ignore")  # Of the coroutine that nobody awaits.
def test_the_reference_fails_behind_those_that_iterate() -> None:
    from grpc_health.v1 import health

    servicer, register = health.aio.HealthServicer(), health_pb2_grpc.add_HealthServicer_to_server
    served = Served("aio", servicer=servicer, register=register, interceptors=[Iterating()])
    with closing(served), connected(served) as stub:
        assert "__aiter__" in failure(lambda: next(stub.Watch(request()))).details()


def test_what_hides_a_watch_from_an_aio_server_is_told_so() -> None:
    served = Served("aio", servicer=MAKE["aio"](), interceptors=[Hiding()])
    with closing(served), connected(served) as stub:
        error = failure(lambda: next(stub.Watch(request())))

        assert error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
