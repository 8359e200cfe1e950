"""gRFC A17 against servers that keep to it: what a status does to a channel and to its calls."""

from __future__ import annotations

import uuid
from collections import Counter

import grpc
import pytest

from healthlb import HealthCheck, Heartbeat
from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.parity.face import Client, Face, becomes
from tests.parity.fleet import Fleet, addresses, executed

KINDS = pytest.mark.parametrize("kind", ["sync", "aio"])


def watches(backend: Backend, service: str = "svc") -> int:
    """How many Watches for the service a backend has seen."""
    return backend.stats().watches.get(service, 0)


def spread(client: Client, count: int) -> Counter[str]:
    """Who answers so many calls."""
    return Counter(client.call() for _ in range(count))


@KINDS
def test_h08_every_status_moves_the_state(face: Face, fleet: Fleet, kind: str) -> None:
    (backend,) = fleet.lend(kind=kind)
    client = face.ready([backend.address])
    for status in ("NOT_SERVING", "SERVING", "SERVICE_UNKNOWN", "SERVING", "UNKNOWN"):
        backend.set(status, "svc")
        state = "READY" if status == "SERVING" else "TRANSIENT_FAILURE"
        client.wait_for_reason(backend.address, status)
        assert client.state() == state

    # TRANSIENT_FAILURE to READY is one step, with no CONNECTING between (H10).
    wanted = [
        ("READY", "SERVING"),
        ("TRANSIENT_FAILURE", "NOT_SERVING"),
        ("READY", "SERVING"),
        ("TRANSIENT_FAILURE", "SERVICE_UNKNOWN"),
        ("READY", "SERVING"),
        ("TRANSIENT_FAILURE", "UNKNOWN"),
    ]
    becomes(lambda: client.facts.states(backend.address), wanted)


def test_h08_a_number_the_protocol_lacks_is_not_serving(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="scripted_watch", options={"statuses": [42]})
    client = face.open([backend.address])

    error = failure(client.call)
    status = client.subchannel(backend.address)
    backend.set("SERVING")
    client.wait_until_ready()

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "serving status 42" in error.details()
    assert (status.state.name, status.serving, status.reason) == ("TRANSIENT_FAILURE", 42, "serving status 42")
    assert client.call() == "b0"


@KINDS
def test_h09_an_unknown_service_keeps_its_watch_until_it_is_known(face: Face, fleet: Fleet, kind: str) -> None:
    (backend,) = fleet.lend(kind=kind)
    service = f"late-{uuid.uuid4()}"
    client = face.open([backend.address], service)

    error = failure(client.call)
    backend.set("SERVING", service)
    client.wait_until_ready()

    assert "SERVICE_UNKNOWN" in error.details()
    assert client.call() == "b0"
    assert watches(backend, service) == 1


def test_h11_the_same_status_again_is_no_news(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    for status in ["SERVING"] * 5 + ["NOT_SERVING"] * 5:
        backend.set(status, "svc")
    client.wait_for_states("T")
    for status in ["NOT_SERVING"] * 5 + ["SERVING"]:
        backend.set(status, "svc")
    client.wait_for_states("R")

    wanted = [("READY", "SERVING"), ("TRANSIENT_FAILURE", "NOT_SERVING"), ("READY", "SERVING")]
    becomes(lambda: client.facts.states(backend.address), wanted)


def test_h13_the_connection_stays_while_unhealthy(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    client.call()
    before = set(backend.stats().peers["Unary"]), watches(backend)
    for status in ("NOT_SERVING", "SERVING"):
        backend.set(status, "svc")
        client.wait_for_reason(backend.address, status)
    client.call()

    assert (set(backend.stats().peers["Unary"]), watches(backend)) == before


def test_h31_the_empty_name_is_the_whole_server(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    whole, one = face.ready([backend.address], ""), face.ready([backend.address], "svc")
    backend.set("NOT_SERVING", "")
    whole.wait_for_states("T")

    assert one.call() == "b0"
    assert watches(backend, "") >= 1


def test_h30_without_health_checking_no_watch_is_opened(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    before = backend.stats()
    for status in ("NOT_SERVING", "SERVING"):
        backend.set(status, "svc")
        client = face.ready([backend.address], None, health=HealthCheck(heartbeat=Heartbeat(interval=0.1)))
        assert [client.call() for _ in range(3)] == ["b0"] * 3
        assert client.subchannel(backend.address).serving is None
    after = backend.stats()

    assert (after.watches_started, after.checks) == (before.watches_started, before.checks)


def test_h30_one_channel_may_go_without(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    inhibited = face.ready([backend.address], None)
    checked = face.open([backend.address])

    error = failure(checked.call)
    answered = inhibited.call()
    waiting = checked.start(wait_for_ready=True)
    backend.set("SERVING", "svc")

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert answered == "b0"
    assert waiting.result() == b"b0"


def test_h32_each_channel_follows_its_own_service(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    clients = {service: face.ready([backend.address], service) for service in ("svc", "other")}
    for down, up in (("svc", "other"), ("other", "svc")):
        backend.set("NOT_SERVING", down)
        backend.set("SERVING", up)
        clients[down].wait_for_states("T")
        clients[up].wait_until_ready()

        assert clients[up].call() == "b0"
        assert "NOT_SERVING" in failure(clients[down].call).details()


def test_h33_pick_first_follows_health_too(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), picker="pick_first")
    ((first, calls),) = spread(client, 10).items()
    chosen = next(backend for backend in backends if backend.name == first)
    chosen.set("NOT_SERVING", "svc")
    client.wait_for_reason(chosen.address, "NOT_SERVING")
    second = spread(client, 10)

    # gRPC's own ignores health checking; who asks for it by name gets it here.
    assert calls == 10
    assert second == Counter({"b0": 10} if first == "b1" else {"b1": 10})


def test_cpp_health_checking_calls_go_to_the_healthy_ones(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends:
        backend.set("NOT_SERVING", "svc")
    client = face.open(addresses(backends))
    error = failure(client.call)
    spreads = []
    for count, backend in enumerate(backends, 1):
        backend.set("SERVING", "svc")
        client.wait_until_ready(count)
        spreads.append(spread(client, 6))
    backends[1].set("NOT_SERVING", "svc")
    client.wait_for_states("R", "T", "R")
    before = executed(backends[1])
    spreads.append(spread(client, 6))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details().count("NOT_SERVING") == 3
    assert spreads == [Counter(b0=6), Counter(b0=3, b1=3), Counter(b0=2, b1=2, b2=2), Counter(b0=3, b2=3)]
    assert executed(backends[1]) == before


def test_cpp_all_unhealthy_again_fails_at_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends))
    for backend in backends:
        backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T", "T", "T")

    error = failure(lambda: client.call(timeout=None))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details().startswith("3 subchannels for service 'svc': 3 TRANSIENT_FAILURE; ")
    assert all(f"{backend.address}: NOT_SERVING" in error.details() for backend in backends)


def test_h16_h24_a_new_connection_is_watched_anew(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    backends[0].restart(status="NOT_SERVING")
    client.wait_for_reason(backends[0].address, "NOT_SERVING")

    # SERVING, as the old process said last, must not stand for the new one.
    assert spread(client, 6) == Counter(b1=6)
    assert executed(backends[0]) == 0


@KINDS
def test_channel_close_ends_every_watch(face: Face, fleet: Fleet, kind: str) -> None:
    backends = fleet.lend(3, kind=kind)
    client = face.ready(addresses(backends))
    assert [backend.stats().watches_open for backend in backends] == [1, 1, 1]

    client.close()

    eventually(lambda: not any(backend.stats().watches_open for backend in backends))
    assert client.state() == "SHUTDOWN"
