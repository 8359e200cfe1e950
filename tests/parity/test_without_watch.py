"""Servers without Watch, without room for one, or that want a token: in both faces, against real grpcio servers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb import Backoff, HealthCheck, Heartbeat
from healthlb.core.messages import Advice, HealthCheckingUnavailable, HeartbeatLoss, WatchUnavailable
from tests.backends.clients import eventually, failure
from tests.parity.face import METHODS, Face

PACE = Heartbeat(interval=0.2, timeout=5.0)
SOON = Backoff(initial=0.1, maximum=0.2)
UNARY = METHODS["unary_unary"]


class CheckOnly(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Has Check, as many servers do, and no Watch."""

    def __init__(self) -> None:
        self.statuses = {"": 1, "svc": 1}
        self.refusal: grpc.StatusCode | None = None
        self.checks: list[str] = []
        self.tokens: list[Any] = []

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.checks.append(request.service)
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refusal is not None:
            context.abort(self.refusal, "not now")
        if request.service not in self.statuses:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=self.statuses[request.service])


class WithWatch(CheckOnly):
    """Has both; a Watch without a good token is refused."""

    wanted = ""

    def __init__(self) -> None:
        super().__init__()
        self.watches: list[Any] = []
        self.ended = threading.Event()

    def Watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        token = dict(context.invocation_metadata()).get("authorization")
        self.watches.append(token)
        if self.wanted and token != self.wanted:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is missing")
        gone = threading.Event()
        context.add_callback(gone.set)
        yield health_pb2.HealthCheckResponse(status=1)
        while not (gone.is_set() or self.ended.wait(0.02)):
            pass


class Site:
    """Servers in this process that all have the same kind of health service, each with its own."""

    def __init__(self) -> None:
        self._servers: list[grpc.Server] = []

    def serve(self, servicer: Any, **arguments: Any) -> str:
        """Start a server; return its address."""
        server = grpc.server(futures.ThreadPoolExecutor(8), **arguments)
        name = str(len(self._servers)).encode()
        _, service, method = UNARY.split("/")
        echo = {method: grpc.unary_unary_rpc_method_handler(lambda request, context: name)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, echo),))
        if servicer is not None:
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    def close(self) -> None:
        """Stop all."""
        for server in self._servers:
            server.stop(0).wait()


@pytest.fixture
def site() -> Iterator[Site]:
    """Where servers are started; stopped after the channels are closed."""
    site = Site()
    yield site
    site.close()


@pytest.fixture
def face(request: pytest.FixtureRequest, site: Site, face: Face) -> Face:
    """After the servers, so that it is closed before them."""
    return face


def test_i_the_checks_of_a_server_without_watch_are_followed(face: Face, site: Site) -> None:
    servicers = [CheckOnly(), CheckOnly(), CheckOnly()]
    servicers[0].statuses["svc"] = servicers[1].statuses["svc"] = 2
    addresses = [site.serve(servicer) for servicer in servicers]
    client = face.open(addresses, health=HealthCheck(heartbeat=PACE))
    client.wait_until_ready()

    assert {client.call() for _ in range(12)} == {"2"}
    client.wait_for_states("T", "T", "R")
    assert client.subchannel(addresses[0]).reason == "NOT_SERVING"

    servicers[0].statuses["svc"], servicers[2].statuses["svc"] = 1, 2
    client.wait_for_states("R", "T", "T")
    assert {client.call() for _ in range(12)} == {"0"}

    del servicers[0].statuses["svc"]
    client.wait_for_reason(addresses[0], "SERVICE_UNKNOWN")
    assert {fact.address for fact in client.facts.of(WatchUnavailable)} == set(addresses)
    assert client.facts.of(HealthCheckingUnavailable) == []
    assert {name for servicer in servicers for name in servicer.checks} == {"svc"}


def test_h15_the_checks_are_not_followed_where_they_are_not_to_be(face: Face, site: Site) -> None:
    servicer = CheckOnly()
    servicer.statuses[""] = 2
    address = site.serve(servicer)
    lenient = face.ready([address], "", health=HealthCheck(heartbeat=PACE, on_unimplemented="healthy"))
    strict = face.open([address], "", health=HealthCheck(heartbeat=PACE, on_unimplemented="unhealthy"))
    seen = len(servicer.checks)
    eventually(lambda: len(servicer.checks) >= seen + 2)

    assert lenient.call() == "0"
    assert "no health service" in failure(strict.call).details()


def test_without_watch_no_stream_is_held_and_one_is_room_enough(face: Face, site: Site) -> None:
    servicer = WithWatch()
    address = site.serve(servicer, options=[("grpc.max_concurrent_streams", 1)])
    client = face.ready([address], health=HealthCheck(watch=False, heartbeat=PACE))
    assert [client.call() for _ in range(5)] == ["0"] * 5

    servicer.statuses["svc"] = 2
    client.wait_for_states("T")
    assert failure(client.call).code() is grpc.StatusCode.UNAVAILABLE

    servicer.statuses["svc"] = 1
    client.wait_for_states("R")
    assert (client.call(), servicer.watches) == ("0", [])


def test_a_full_server_that_was_serving_stays_in(face: Face, site: Site) -> None:
    servicer = CheckOnly()
    client = face.ready([site.serve(servicer)], health=HealthCheck(watch=False, heartbeat=PACE, backoff=SOON))
    servicer.refusal = grpc.StatusCode.RESOURCE_EXHAUSTED
    seen = len(servicer.checks)
    eventually(lambda: len(servicer.checks) >= seen + 3)
    assert (client.call(), client.states()) == ("0", ["READY"])

    servicer.refusal = grpc.StatusCode.INTERNAL
    client.wait_for_states("T")
    assert client.subchannels()[0].reason == "health check ended with INTERNAL: not now"


def test_checks_without_a_heartbeat_are_asked_too(face: Face, site: Site) -> None:
    servicer = CheckOnly()
    client = face.ready([site.serve(servicer)], health=HealthCheck(heartbeat=None))

    assert (client.call(), servicer.checks) == ("0", ["svc"])


# --- tokens ------------------------------------------------------------------------------------------------


class Vault:
    """A source of tokens; each is another."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: BaseException | None = None
        self.answer: Any = None
        self.threads: set[str] = set()
        self.gate: threading.Event | None = None

    def __call__(self) -> Any:
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        if self.gate is not None:
            self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.answer or [("authorization", f"token {self.asked}")]


def test_metadata_is_asked_for_each_watch_and_each_check(face: Face, site: Site) -> None:
    servicer, vault = WithWatch(), Vault()
    client = face.ready([site.serve(servicer)], health=HealthCheck(metadata=vault, heartbeat=PACE))
    eventually(lambda: len(servicer.tokens) >= 3)

    assert servicer.watches == ["token 1"]
    assert servicer.tokens[:3] == ["token 2", "token 3", "token 4"]
    assert threading.main_thread().name not in vault.threads
    assert client.call() == "0"


def test_metadata_may_be_a_coroutine_function(face: Face, site: Site) -> None:
    servicer = WithWatch()

    async def token() -> list[tuple[str, str]]:
        return [("authorization", "token of a coroutine")]

    face.ready([site.serve(servicer)], health=HealthCheck(metadata=token))

    assert servicer.watches == ["token of a coroutine"]


def test_a_token_that_was_renewed_is_taken_at_the_next_watch(face: Face, site: Site) -> None:
    servicer, vault = WithWatch(), Vault()
    servicer.wanted = "token 3"
    client = face.open([site.serve(servicer)], health=HealthCheck(metadata=vault, heartbeat=None, backoff=SOON))
    client.wait_until_ready()

    assert servicer.watches == ["token 1", "token 2", "token 3"]
    assert ["metadata=..." in fact.remedy for fact in client.facts.of(Advice)] == [True]


def test_a_refused_token_is_told_once_and_does_not_hammer(
    face: Face, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    servicer = WithWatch()
    servicer.wanted = "none that is"
    addresses = [site.serve(servicer), site.serve(servicer)]
    health = HealthCheck(metadata=[("authorization", "s3cret")], backoff=SOON, heartbeat=None)
    client = face.open(addresses, health=health)
    error = failure(client.call)
    eventually(lambda: len(servicer.watches) >= 6)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "UNAUTHENTICATED: a token is missing. What to do: the server wants to know who asks" in error.details()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(". What to do: ")[2][:31] for text in warnings] == ["the server wants to know who as"]
    assert "s3cret" not in f"{health} {error} {caplog.text} {client.subchannels()}"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda vault: setattr(vault, "error", RuntimeError("the vault is sealed")),
            "raised RuntimeError: the vault is",
        ),
        (lambda vault: setattr(vault, "error", SystemExit(3)), "raised SystemExit: 3"),
        (
            lambda vault: setattr(vault, "answer", "Bearer x"),
            "returned what it must not: it must be pairs of a name and",
        ),
        (
            lambda vault: setattr(vault, "answer", [("Key", "t0ken")]),
            "returned what it must not: it must be pairs of a l",
        ),
        (lambda vault: setattr(vault, "gate", threading.Event()), "has not returned within 0.15 s"),
    ],
    ids=["raises", "exits", "a string", "upper case", "hangs"],
)
def test_metadata_that_cannot_be_had_is_the_reason(
    face: Face, site: Site, caplog: pytest.LogCaptureFixture, spoil: Callable[[Vault], None], said: str
) -> None:
    servicer, vault = WithWatch(), Vault()
    address = site.serve(servicer)
    client = face.open(
        [address], health=HealthCheck(metadata=vault, backoff=SOON, heartbeat=PACE, first_response_timeout=0.3)
    )
    spoil(vault)
    error = failure(client.call)

    assert f"health watch ended with INTERNAL: HealthCheck.metadata (Vault) {said}" in error.details()
    warnings = [
        record.getMessage() for record in caplog.records if "HealthCheck.metadata (Vault)" in record.getMessage()
    ]
    assert [text for text in warnings if "no health can be asked for" in text] == warnings[:1]
    assert (servicer.watches, "t0ken" in caplog.text) == ([], False)

    if vault.gate is not None:
        vault.gate.set()
    vault.error = vault.answer = vault.gate = None
    client.wait_until_ready()
    assert client.call() == "0"


def test_a_source_that_hangs_takes_nothing_out_and_holds_few_threads(face: Face, site: Site) -> None:
    servicer, vault = WithWatch(), Vault()
    pace = Heartbeat(interval=0.1, timeout=0.2)
    client = face.ready([site.serve(servicer)], health=HealthCheck(metadata=vault, heartbeat=pace))
    gate = vault.gate = threading.Event()
    try:
        before = vault.asked
        eventually(lambda: vault.asked >= before + 4)

        assert (client.call(), client.states()) == ("0", ["READY"])
        assert vault.asked <= before + 5
        assert client.facts.of(HeartbeatLoss) == []
    finally:
        gate.set()


def test_polled_health_stands_while_there_is_no_token(face: Face, site: Site) -> None:
    servicer, vault = CheckOnly(), Vault()
    client = face.ready(
        [site.serve(servicer)], health=HealthCheck(metadata=vault, watch=False, heartbeat=PACE, backoff=SOON)
    )
    vault.error = RuntimeError("sealed")
    before = vault.asked
    eventually(lambda: vault.asked >= before + 3)

    assert (client.call(), client.states()) == ("0", ["READY"])
