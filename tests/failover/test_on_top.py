"""What people put on top of a channel: tracing, and the retries of google.api_core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import Failover
from tests.backends.clients import eventually
from tests.failover.storm import comes_to_rest, view
from tests.failover.support import ANY, Call, InOrder, ready
from tests.parity.aio_face import AioClient, AioFace
from tests.parity.face import METHODS, Face
from tests.parity.fleet import Fleet, addresses

UNARY = METHODS["unary_unary"]
_WHY_NOT = "is not installed; it is an extra of the development environment"


class Spans:
    """What a tracer was told."""

    def __init__(self) -> None:
        """Make a provider that exports to memory."""
        exporters = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=_WHY_NOT)
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        self._exporter = exporters.InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def told(self) -> list[tuple[str, int]]:
        """Return the name and the status number of each span that has ended."""
        spans = self._exporter.get_finished_spans()
        return [(span.name, span.attributes["rpc.grpc.status_code"]) for span in spans]


@pytest.fixture
def tracing() -> Any:
    """The instrumentation."""
    return pytest.importorskip("opentelemetry.instrumentation.grpc", reason=_WHY_NOT)


def test_opentelemetry_sees_a_call_as_one(sync_face: Face, fleet: Fleet, tracing: Any) -> None:
    from opentelemetry.instrumentation.grpc.grpcext import intercept_channel

    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(sync_face, backends)
    spans = Spans()
    interceptor = tracing.client_interceptor(tracer_provider=spans.provider)
    channel = intercept_channel(client.channel, interceptor)
    unary = channel.unary_unary(UNARY)

    assert unary(b"", timeout=10) == b"b1"
    assert unary.with_call(b"", timeout=10)[0] == b"b1"
    assert unary.future(b"", timeout=10).result() == b"b1"
    assert list(channel.unary_stream(METHODS["unary_stream"])(b"", timeout=10)) == [b"b1:0", b"b1:1", b"b1:2"]
    assert channel.stream_unary(METHODS["stream_unary"])(iter([b"a"]), timeout=10) == b"b1:1"
    assert list(channel.stream_stream(METHODS["stream_stream"])(iter([b"a"]), timeout=10)) == [b"b1:a"]
    eventually(lambda: len(spans.told()) == 6)
    assert spans.told() == [(UNARY, 0)] * 3 + [(METHODS[arity], 0) for arity in list(METHODS)[1:]]
    # Each attempt carries the trace.
    for backend in backends:
        assert "traceparent" in dict(backend.stats().last_metadata["Unary"])
    comes_to_rest(client)


def test_opentelemetry_sees_how_a_call_failed(sync_face: Face, fleet: Fleet, tracing: Any) -> None:
    from opentelemetry.instrumentation.grpc.grpcext import intercept_channel

    (backend,) = fleet.lend()
    backend.behave(fail="UNAVAILABLE")
    client = ready(sync_face, [backend])
    spans = Spans()
    channel = intercept_channel(client.channel, tracing.client_interceptor(tracer_provider=spans.provider))
    with pytest.raises(grpc.RpcError):
        channel.unary_unary(UNARY)(b"", timeout=10)

    assert spans.told() == [(UNARY, grpc.StatusCode.UNAVAILABLE.value[0])]


def test_opentelemetry_in_aio(aio_face: AioFace, fleet: Fleet, tracing: Any) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    spans = Spans()
    interceptors = tracing.aio_client_interceptors(tracer_provider=spans.provider)
    client = aio_face.ready(addresses(backends), failover=ANY, picker=InOrder, interceptors=interceptors)
    assert isinstance(client, AioClient)
    channel = client.channel

    async def calls() -> list[Any]:
        return [
            await channel.unary_unary(UNARY)(b"", timeout=10),
            [each async for each in channel.unary_stream(METHODS["unary_stream"])(b"", timeout=10)],
            await channel.stream_unary(METHODS["stream_unary"])(iter([b"a"]), timeout=10),
            [each async for each in channel.stream_stream(METHODS["stream_stream"])(iter([b"a"]), timeout=10)],
        ]

    assert client.loop.run(calls()) == [b"b1", [b"b1:0", b"b1:1", b"b1:2"], b"b1:1", [b"b1:a"]]
    eventually(lambda: len(spans.told()) == 4)
    assert spans.told() == [(method, 0) for method in METHODS.values()]
    for backend in backends:
        assert "traceparent" in dict(backend.stats().last_metadata["Unary"])


@pytest.fixture
def instrumented(tracing: Any) -> Iterator[Spans]:
    """Everything that grpcio opens is traced, as `opentelemetry-instrument` has it."""
    spans = Spans()
    instrumentors = [tracing.GrpcInstrumentorClient(), tracing.GrpcAioInstrumentorClient()]
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=spans.provider)
    yield spans
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


def test_the_instrumentation_of_all_of_grpcio_leaves_watches_and_attempts_alone(
    face: Face, fleet: Fleet, instrumented: Spans
) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends)

    assert client.call() == "b1"
    assert instrumented.told() == []


@pytest.fixture
def api_core() -> Any:
    """Retries as the clients of Google's APIs make them."""
    return pytest.importorskip("google.api_core.retry", reason=_WHY_NOT)


def test_google_api_core_retries_on_top(sync_face: Face, fleet: Fleet, api_core: Any) -> None:
    from google.api_core import exceptions, grpc_helpers

    backends = fleet.lend(2)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE", details="not yet")
    client = ready(sync_face, backends, Failover(), outliers=None)
    retry = api_core.Retry(
        predicate=api_core.if_exception_type(exceptions.ServiceUnavailable), initial=0.01, maximum=0.01, timeout=0.5
    )
    call = Call(client)

    def unary(channel: grpc.Channel) -> bytes:
        method = grpc_helpers.wrap_errors(channel.unary_unary(UNARY))
        return bytes(retry(method)(b"", timeout=5, metadata=(("x-id", call.id),)))

    with pytest.raises(exceptions.RetryError) as caught:
        unary(client.channel)
    assert isinstance(caught.value.cause, exceptions.ServiceUnavailable)
    assert caught.value.cause.message == "not yet"
    # What it retries is its own affair: each of its calls is one attempt of ours.
    first, second = call.executions(*backends)
    assert first > 1
    assert second == 0
    backends[1].behave()
    assert unary(view(client, ANY).channel) == b"b1"


def test_google_api_core_maps_the_error_of_a_call_that_no_subchannel_took(
    sync_face: Face, fleet: Fleet, api_core: Any
) -> None:
    from google.api_core import exceptions, grpc_helpers

    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = sync_face.open([backend.address])
    method = grpc_helpers.wrap_errors(client.channel.unary_unary(UNARY))

    with pytest.raises(exceptions.ServiceUnavailable, match="NOT_SERVING"):
        method(b"", timeout=5)


def test_google_api_core_in_aio(aio_face: AioFace, fleet: Fleet, api_core: Any) -> None:
    from google.api_core import exceptions, grpc_helpers_async, retry_async

    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(aio_face, backends, Failover(), outliers=None)
    assert isinstance(client, AioClient)
    predicate = api_core.if_exception_type(exceptions.ServiceUnavailable)
    retry = retry_async.AsyncRetry(predicate=predicate, initial=0.01, maximum=0.01, timeout=0.5)

    async def unary(channel: Any) -> bytes:
        method = grpc_helpers_async.wrap_errors(channel.unary_unary(UNARY))

        async def call() -> bytes:
            return bytes(await method(b"", timeout=5))

        return bytes(await retry(call)())

    with pytest.raises(exceptions.RetryError):
        client.loop.run(unary(client.channel))
    assert client.loop.run(unary(view(client, ANY).channel)) == b"b1"


def test_a_gapic_method(sync_face: Face, fleet: Fleet, api_core: Any) -> None:
    from google.api_core import exceptions, gapic_v1

    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(sync_face, backends)
    retry = api_core.Retry(predicate=api_core.if_exception_type(exceptions.ServiceUnavailable), timeout=1.0)
    method = gapic_v1.method.wrap_method(client.channel.unary_unary(UNARY), default_retry=retry, default_timeout=10.0)

    assert method(b"") == b"b1"
