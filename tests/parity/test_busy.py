"""Backends that are too busy to answer a Check are not taken for hung ones: they answer a ping."""

from __future__ import annotations

import threading
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from healthlb import HealthCheck, Heartbeat
from healthlb.control.health_messages import CHECK, PING
from healthlb.core.messages import BusyBackend, HeartbeatLoss
from tests.backends.clients import eventually
from tests.parity.face import Client, Face
from tests.parity.fleet import Fleet, addresses
from tests.simulation.world.test_busy_servers import loop

# A ping has 1.5 s for its answer.
PACE = HealthCheck(heartbeat=Heartbeat(interval=0.3, timeout=3.0))
BLIND = HealthCheck(heartbeat=Heartbeat(interval=0.3, timeout=1.0, ping=False))


def busy(client: Client, address: str) -> list[bool]:
    """Return what was told of a backend: False, it is busy, or True, no longer."""
    return [fact.is_over for fact in client.facts.of(BusyBackend) if fact.address == address]


def test_a_server_whose_only_thread_is_at_work_stays_in(faces: tuple[Face, Face], fleet: Fleet) -> None:
    backend, other = fleet.lend(2, options={"workers": 1})
    clients = [face.ready(addresses([backend, other]), health=PACE) for face in faces]
    blind = faces[1].ready(addresses([backend, other]), health=BLIND)
    backend.behave(sleep=4)  # Two calls, one after the other.
    other.behave(sleep=0)
    calls = [client.start(timeout=60) for client in clients for _ in range(2)]
    eventually(lambda: blind.subchannel(backend.address).reason == "no heartbeat")
    for client in clients:
        eventually(lambda: client.subchannel(backend.address).reason == "SERVING, busy")  # noqa: B023
        assert client.states() == ["READY", "READY"]
    codes = {call.end().name for call in calls}
    for client in clients:
        eventually(lambda: client.subchannel(backend.address).reason == "SERVING")  # noqa: B023

    # The other one would have been taken out all the same, had nobody asked twice.
    assert codes == {"OK"}
    for client in clients:
        told = busy(client, backend.address)
        assert (told[0], told[-1]) == (False, True)
        assert client.facts.of(HeartbeatLoss) == []


def test_checks_that_hang_alone_take_nobody_out(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2, kind="hung_check")
    client = face.ready(addresses(backends), health=PACE)
    eventually(lambda: all(busy(client, address) for address in addresses(backends)))

    assert client.states() == ["READY", "READY"]
    assert client.facts.of(HeartbeatLoss) == []


def test_an_asyncio_server_whose_loop_is_blocked_looks_hung_and_loses_no_call(face: Face, fleet: Fleet) -> None:
    """Nothing on such a server answers: it cannot be told from one that has stopped."""
    (other,) = fleet.lend(1)
    is_over = threading.Event()

    async def work(request: bytes, context: Any) -> bytes:
        if request:
            is_over.wait(60)
        return b""

    with loop(work) as address:
        client = face.ready([address, other.address], None, health=PACE)
        asked = face.ready([address, other.address], "", health=PACE)
        call = grpc.insecure_channel(address).unary_unary("/test.Work/Do").future(b"block", timeout=60)
        eventually(lambda: asked.subchannel(address).reason == "no heartbeat")
        is_over.set()
        call.result(60)
        eventually(lambda: asked.states() == ["READY", "READY"])

    assert client.facts.of(HeartbeatLoss, BusyBackend) == []
    assert busy(asked, address) == []


class Methods(grpc.ServerInterceptor):  # type: ignore[misc]
    """Keeps the methods that were called, registered or not."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.seen.append(details.method)
        return continuation(details)


class Health(health.HealthServicer):  # type: ignore[misc]
    """A health service whose Checks may be held up."""

    is_held = False

    def Check(self, request: Any, context: Any) -> Any:
        eventually(lambda: not self.is_held)
        return super().Check(request, context)


def test_a_healthy_fleet_is_sent_no_ping(face: Face) -> None:
    """Servers count UNIMPLEMENTED in their metrics."""
    methods, servicer = Methods(), Health()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[methods])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        client = face.ready([address], "", health=PACE)
        eventually(lambda: methods.seen.count(CHECK) >= 5)
        before = set(methods.seen)
        servicer.is_held = True
        eventually(lambda: PING in methods.seen)
        servicer.is_held = False
        eventually(lambda: client.subchannel(address).reason == "SERVING")
    finally:
        servicer.is_held = False
        server.stop(None).wait()

    assert before == {CHECK, "/grpc.health.v1.Health/Watch"}
    assert client.facts.of(HeartbeatLoss) == []


def test_a_hang_is_found_before_any_deadline(faces: tuple[Face, Face], fleet: Fleet) -> None:
    """The calls' silence is enough: neither a deadline nor a heartbeat is due for a minute."""
    backends = fleet.lend(3)
    health = HealthCheck(heartbeat=Heartbeat(interval=600.0))
    clients = [face.ready(addresses(backends), health=health) for face in faces]
    for client in clients:
        client.call()
    backends[0].pause()
    stuck: dict[Client, list[Any]] = {client: [] for client in clients}

    def is_out(client: Client) -> bool:
        if client.facts.of(HeartbeatLoss):
            return True
        stuck[client].append(client.start(timeout=60))  # Every third one is stuck; the others are answered.
        return False

    for client in clients:
        eventually(lambda: is_out(client))  # noqa: B023
        assert [fact.address for fact in client.facts.of(HeartbeatLoss)] == [backends[0].address]
        assert client.states().count("READY") == 2
    backends[0].resume()

    # Nobody's call was given up, and who was hung is back.
    assert {call.end().name for calls in stuck.values() for call in calls} == {"OK"}
    for client in clients:
        client.wait_until_ready(3)


class _TakesHandlersForGranted(grpc.ServerInterceptor):
    """Fails where a method has none, as some instrumentation does (sentry-python 3108)."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        assert handler.request_streaming in (True, False)
        return handler


def test_a_ping_that_an_interceptor_fails_at_is_an_answer(face: Face, fleet: Fleet) -> None:
    (other,) = fleet.lend(1)
    is_over = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(1), interceptors=[_TakesHandlersForGranted()])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    work = {"Do": grpc.unary_unary_rpc_method_handler(lambda request, context: b"" if is_over.wait(60) else b"late")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Work", work),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    client = face.ready([address, other.address], "", health=PACE)
    call = grpc.insecure_channel(address).unary_unary("/test.Work/Do").future(b"", timeout=60)
    eventually(lambda: client.subchannel(address).reason == "SERVING, busy")
    is_over.set()
    call.result(60)
    eventually(lambda: client.subchannel(address).reason == "SERVING")
    states = client.states()
    server.stop(None).wait()

    assert states == ["READY", "READY"]
    assert client.facts.of(HeartbeatLoss) == []
