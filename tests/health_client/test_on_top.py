"""The health clients over channels that other packages make: with real interceptors, and grpcio-testing's fake one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import grpc
import grpc_testing
import pytest
from grpc_health.v1 import health_pb2
from opentelemetry.instrumentation.grpc import aio_client_interceptors, client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.sdk.trace import TracerProvider
from sentry_sdk.integrations.grpc.aio.client import (
    SentryUnaryStreamClientInterceptor,
    SentryUnaryUnaryClientInterceptor,
)
from sentry_sdk.integrations.grpc.client import ClientInterceptor

import healthlb
import healthlb.aio
from healthlb import InvalidResponse, ServingStatus
from tests.backends.backend import Backend
from tests.backends.clients import PATIENCE

SERVING, NOT_SERVING = ServingStatus.SERVING, ServingStatus.NOT_SERVING
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
SYNC: dict[str, Any] = {
    "opentelemetry": lambda channel: intercept_channel(channel, client_interceptor(TracerProvider())),
    "sentry": lambda channel: grpc.intercept_channel(channel, ClientInterceptor()),
    "both": lambda channel: intercept_channel(
        grpc.intercept_channel(channel, ClientInterceptor()), client_interceptor(TracerProvider())
    ),
}
AIO: dict[str, Any] = {
    "opentelemetry": lambda: aio_client_interceptors(TracerProvider()),
    "sentry": lambda: [SentryUnaryUnaryClientInterceptor(), SentryUnaryStreamClientInterceptor()],
}


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """One backend; each test leaves it SERVING."""
    with Backend(name="b0", services=("svc",)) as running:
        yield running


@pytest.mark.parametrize("wrap", SYNC.values(), ids=SYNC)
@pytest.mark.parametrize("make", [grpc.insecure_channel, lambda address: healthlb.HealthAwareChannel([address], None)])
def test_sync_with_real_interceptors(make: Any, wrap: Any, backend: Backend) -> None:
    with make(backend.address) as channel, healthlb.HealthClient(wrap(channel)) as client:
        assert client.check("svc", timeout=PATIENCE) == SERVING
        with closing(client.watch("svc")) as watch:
            assert next(watch) == SERVING
            backend.set("NOT_SERVING", "svc")
            assert next(watch) == NOT_SERVING
        backend.set("SERVING", "svc")


@pytest.mark.parametrize("interceptors", AIO.values(), ids=AIO)
@pytest.mark.parametrize("is_ours", [False, True], ids=["plain", "ours"])
async def test_aio_with_real_interceptors(is_ours: bool, interceptors: Any, backend: Backend) -> None:
    def make() -> Any:
        if is_ours:
            return healthlb.aio.HealthAwareChannel([backend.address], None, interceptors=interceptors())
        return grpc.aio.insecure_channel(backend.address, interceptors=interceptors())

    async with make() as channel, healthlb.aio.HealthClient(channel) as client:
        assert await client.check("svc", timeout=PATIENCE) == SERVING
        async with client.watch("svc") as watch:
            assert await anext(watch) == SERVING
            backend.set("NOT_SERVING", "svc")
            assert await anext(watch) == NOT_SERVING
        backend.set("SERVING", "svc")


@pytest.mark.parametrize("as_message", [lambda message: message, lambda message: message.SerializeToString()])
def test_grpcio_testings_channel(as_message: Any) -> None:
    fake = grpc_testing.channel([HEALTH], grpc_testing.strict_real_time())
    with healthlb.HealthClient(fake) as client, ThreadPoolExecutor(1) as thread:
        asked = thread.submit(client.check, "svc")
        _, request, call = fake.take_unary_unary(HEALTH.methods_by_name["Check"])
        answer = as_message(health_pb2.HealthCheckResponse(status=2))
        call.terminate(answer, (), grpc.StatusCode.OK, "")
        assert health_pb2.HealthCheckRequest.FromString(request).service == "svc"
        assert asked.result(PATIENCE) == NOT_SERVING

        watch = client.watch("svc")
        first = thread.submit(next, watch)
        _, _, stream = fake.take_unary_stream(HEALTH.methods_by_name["Watch"])
        stream.send_response(answer)
        assert first.result(PATIENCE) == NOT_SERVING
        stream.terminate((), grpc.StatusCode.OK, "")
        watch.close()


def test_a_fake_that_answers_with_something_else() -> None:
    fake = grpc_testing.channel([HEALTH], grpc_testing.strict_real_time())
    with healthlb.HealthClient(fake) as client, ThreadPoolExecutor(1) as thread:
        asked = thread.submit(client.check, "svc")
        _, _, call = fake.take_unary_unary(HEALTH.methods_by_name["Check"])
        call.terminate("SERVING", (), grpc.StatusCode.OK, "")
        with pytest.raises(InvalidResponse, match="bytes expected, not str"):
            asked.result(PATIENCE)
