"""What a server sees of healthlb beside the calls: one Watch, a heartbeat now and then, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

import healthlb
import healthlb.aio
from healthlb import Backoff, HealthCheck
from healthlb.control.options import subchannel_options
from tests.backends.clients import PATIENCE, eventually
from tests.parity.face import Face
from tests.parity.fleet import Fleet, addresses

WATCH = "/grpc.health.v1.Health/Watch"


class Recorder(grpc.GenericRpcHandler):
    """A server of its own that notes each Watch, whole, and answers as it is told."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.watches: list[tuple[list[bytes], dict[str, Any]]] = []
        self.fails = False
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Take every Watch; the rest is UNIMPLEMENTED."""
        return grpc.stream_stream_rpc_method_handler(self._watch) if handler_call_details.method == WATCH else None

    def _watch(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        # The list is whole at the client's half-close, not before.
        self.watches.append((list(requests), dict(context.invocation_metadata())))
        if self.fails:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
        while context.is_active():
            time.sleep(0.02)

    def close(self) -> None:
        """Stop at once."""
        self._server.stop(0).wait()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """One that says SERVING."""
    made = Recorder()
    yield made
    made.close()


@pytest.fixture(params=["sync", "aio"])
def make_channel(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return what makes a connected channel of either face, by its constructor alone; it is closed."""
    opened: list[Any] = []
    loop = asyncio.new_event_loop()

    def make_sync(*arguments: Any, **options: Any) -> None:
        opened.append(healthlb.HealthAwareChannel(*arguments, **options))
        opened[-1].wait_until_ready(PATIENCE)

    def make_aio(*arguments: Any, **options: Any) -> None:
        opened.append(healthlb.aio.HealthAwareChannel(*arguments, **options))
        loop.run_until_complete(opened[-1].wait_until_ready(PATIENCE))

    yield make_sync if request.param == "sync" else make_aio
    for channel in opened:
        closed = channel.close()
        if closed is not None:
            loop.run_until_complete(closed)
    loop.close()


def test_h3_one_request_and_a_half_close(face: Face, recorder: Recorder) -> None:
    face.ready([recorder.address])
    ((requests, _),) = recorder.watches

    assert requests == [health_pb2.HealthCheckRequest(service="svc").SerializeToString()]


@pytest.mark.parametrize(
    ("given", "asked"),
    [({}, "config"), ({"service": ""}, ""), ({"service": "svc"}, "svc")],
    ids=["by default", "the whole server", "a name"],
)
def test_an_explicit_service_wins_over_the_service_config(
    make_channel: Any, given: dict[str, str], asked: str, recorder: Recorder
) -> None:
    config = {"healthCheckConfig": {"serviceName": "config"}}
    make_channel([recorder.address], service_config=config, **given)
    eventually(lambda: bool(recorder.watches))
    ((requests, _),) = recorder.watches

    assert requests == [health_pb2.HealthCheckRequest(service=asked).SerializeToString()]


def test_h5_no_retry_policy_stands_beneath_the_watch(face: Face, recorder: Recorder) -> None:
    recorder.fails = True
    policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.001s",
        "maxBackoff": "0.001s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    health = HealthCheck(backoff=Backoff(initial=0.3, maximum=0.3, jitter=0.0))
    client = face.open(
        [recorder.address], service_config={"methodConfig": [{"name": [{}], "retryPolicy": policy}]}, health=health
    )
    begun_at = time.monotonic()
    client.start(wait_for_ready=True, timeout=None)
    eventually(lambda: len(recorder.watches) >= 3)

    # With retries beneath, five would come within milliseconds of each other.
    assert time.monotonic() - begun_at >= 2 * 0.3
    assert not any("grpc-previous-rpc-attempts" in metadata for _, metadata in recorder.watches)


def test_h45_a_host_with_two_addresses_in_a_list_is_one_endpoint(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([f"localhost:{backend.port}"])

    assert len(client.subchannels()) == 1
    assert backend.stats().watches_open == 1
    assert client.call() == "b0"


def test_h46_a_channel_that_is_watched_does_not_go_idle(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address], options=[("grpc.client_idle_timeout_ms", 1000)])
    watched = backend.stats().watches_started
    end_at = time.monotonic() + 2.5
    while time.monotonic() < end_at:
        assert client.state() == "READY"
        time.sleep(0.1)

    assert backend.stats().watches_started == watched
    assert client.call() == "b0"


def test_p1_no_check_goes_before_a_call(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), health=HealthCheck(heartbeat=None))
    before = [backend.stats() for backend in backends]
    for _ in range(20):
        client.call()
    after = [backend.stats() for backend in backends]

    assert [one.checks for one in after] == [one.checks for one in before]
    assert [one.watches_started for one in after] == [one.watches_started for one in before]


def test_p24_no_ping_is_sent_that_nobody_asked_for() -> None:
    names = {name for name, _ in subchannel_options((), Backoff(), None)}

    assert not [name for name in names if "keepalive" in name or "ping" in name]


def test_p25_many_calls_may_wait_without_a_deadline(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.kill()
    client = face.open([backend.address])
    client.start(timeout=None).end()
    waiting = [client.start(wait_for_ready=True, timeout=None) for _ in range(200)]
    backend.restart()

    assert {call.result() for call in waiting} == {b"b0"}


def test_p27_a_proxy_of_the_environment_is_ignored(face: Face, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (backend,) = fleet.lend()
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)

    assert face.ready([backend.address]).call() == "b0"


def test_p27_channels_share_no_connection(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    before = len(backend.stats().peers.get("Watch", ()))
    for _ in range(2):
        face.ready([backend.address])

    assert len(backend.stats().peers["Watch"]) == before + 2
