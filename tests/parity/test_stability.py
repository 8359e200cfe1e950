"""Panic, slow start, flap damping, and how many statuses it takes, on real backends."""

from __future__ import annotations

from collections import Counter

import grpc
import pytest

from healthlb import Failover, FlapDamping, HealthCheck, RetryBudget, SlowStart
from healthlb.core.messages import Panic, Release, Suppression
from tests.backends import Backend
from tests.backends.clients import eventually
from tests.parity.face import Client, Face, becomes
from tests.parity.fleet import Fleet, addresses, executed

# Long enough that a slow machine does nothing else meanwhile.
LONG = 1_000.0


def spread(client: Client, count: int) -> Counter[str]:
    """The backends that answer so many calls, one after the other."""
    return Counter(client.call() for _ in range(count))


def says(client: Client, backend: Backend, status: str) -> None:
    """Have a backend say this of itself, and wait until the client has heard it."""
    backend.set(status, "svc")
    becomes(lambda: client.subchannel(backend.address).serving, {"SERVING": 1, "NOT_SERVING": 2}[status])


# --- panic -------------------------------------------------------------------------------------------


def test_o3_most_say_that_they_are_ill_and_serve_all_the_same(face: Face, fleet: Fleet) -> None:
    """O3: without a panic the one that is left takes the calls of all."""
    backends = fleet.lend(4)
    panicking = face.ready(addresses(backends), panic_threshold=0.5)
    calm = face.ready(addresses(backends))
    for client in (panicking, calm):
        for backend in backends[1:3]:
            says(client, backend, "NOT_SERVING")
    assert not panicking.run(panicking.channel.is_panicking)
    assert spread(panicking, 20) == {"b0": 10, "b3": 10}

    for client in (panicking, calm):
        says(client, backends[3], "NOT_SERVING")
    becomes(lambda: panicking.run(panicking.channel.is_panicking), True)

    assert spread(panicking, 40) == {"b0": 10, "b1": 10, "b2": 10, "b3": 10}
    assert spread(calm, 40) == {"b0": 40}
    assert (panicking.states(), panicking.state()) == (["READY", *["TRANSIENT_FAILURE"] * 3], "READY")
    with pytest.raises(TimeoutError, match="1 of 2 subchannels READY"):
        panicking.wait_until_ready(2, timeout=0.01)

    says(panicking, backends[1], "SERVING")
    becomes(lambda: panicking.run(panicking.channel.is_panicking), False)
    assert spread(panicking, 20) == {"b0": 10, "b1": 10}
    becomes(
        lambda: [(fact.is_over, fact.healthy, fact.total, fact.picks) for fact in panicking.facts.of(Panic)],
        [(False, 1, 4, 0), (True, 2, 4, 40)],
    )


def test_o4_in_a_panic_a_dead_fleet_fails_fast_and_is_not_stormed(face: Face, fleet: Fleet) -> None:
    """O4: each call fails, with as many attempts as the budget allows; and at once where nobody is connected."""
    backends = fleet.lend(2)
    failover = Failover(idempotent=True, budget=RetryBudget(ratio=0.2, min_per_second=0.0))
    client = face.ready(addresses(backends), panic_threshold=1.0, failover=failover)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE")
        says(client, backend, "NOT_SERVING")
    becomes(lambda: client.run(client.channel.is_panicking), True)
    before = sum(executed(backend) for backend in backends)
    for _ in range(50):
        with pytest.raises(grpc.RpcError) as caught:
            client.call()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    attempts = sum(executed(backend) for backend in backends) - before

    assert 50 <= attempts <= 60

    for backend in backends:
        backend.kill()
    becomes(client.state, "TRANSIENT_FAILURE")
    with pytest.raises(grpc.RpcError, match="2 TRANSIENT_FAILURE"):
        client.call()


# --- slow start ----------------------------------------------------------------------------------------


def test_r4_who_comes_back_gets_its_share_little_by_little(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    weighted = face.ready(
        addresses(backends), picker="weighted_round_robin", slow_start=SlowStart(window=LONG, min_weight=0.25)
    )
    least = face.ready(addresses(backends), picker="least_request", slow_start=SlowStart(window=LONG, min_weight=0.25))
    assert spread(weighted, 20) == {"b0": 10, "b1": 10}
    for client in (weighted, least):
        assert [status.weight for status in client.subchannels()] == [1.0, 1.0]

    backends[0].kill()
    for client in (weighted, least):
        client.wait_for_states("T", "R")
    backends[0].restart()
    for client in (weighted, least):
        client.wait_for_states("R", "R")

    for client in (weighted, least):
        assert client.subchannel(backends[0].address).weight == pytest.approx(0.25, abs=0.01)
    assert spread(weighted, 100)["b0"] == pytest.approx(20, abs=2)
    assert spread(least, 200)["b0"] == pytest.approx(40, abs=25)


def test_slow_start_comes_to_an_end(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(
        addresses(backends), picker="weighted_round_robin", slow_start=SlowStart(window=1.0, min_weight=0.01)
    )
    says(client, backends[0], "NOT_SERVING")
    says(client, backends[0], "SERVING")
    weights: list[float] = []

    def is_warm() -> bool:
        weights.append(client.subchannel(backends[0].address).weight)
        client.call()
        return weights[-1] == 1.0

    eventually(is_warm)

    assert weights == sorted(weights)
    assert spread(client, 20) == {"b0": 10, "b1": 10}


# --- flap damping --------------------------------------------------------------------------------------


def test_f5_who_comes_and_goes_is_held_out_until_it_has_been_quiet(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    damping = FlapDamping(half_life=10.0, suppress=1500.0, reuse=1400.0, max_suppress=20.0)
    client = face.ready(addresses(backends), health=HealthCheck(damping=damping))
    address = backends[0].address
    for status in ("NOT_SERVING", "SERVING"):
        says(client, backends[0], status)
    assert client.states() == ["READY"] * 3

    for status in ("NOT_SERVING", "SERVING"):
        says(client, backends[0], status)
    status = client.subchannel(address)
    assert (status.damped, status.ejected, status.serving) == (True, False, 1)
    assert status.state.name == "TRANSIENT_FAILURE"
    assert status.reason.startswith("damped for ")
    assert status.reason.endswith(" s: 2 flaps")
    assert spread(client, 20) == {"b1": 10, "b2": 10}

    client.wait_for_states("R", "R", "R")
    assert not client.subchannel(address).damped
    assert set(spread(client, 30)) == {"b0", "b1", "b2"}
    becomes(
        lambda: [(type(fact), fact.address) for fact in client.facts.of(Suppression, Release)],
        [(Suppression, address), (Release, address)],
    )


def test_restarts_are_flaps_and_the_last_healthy_one_is_not_held_out(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    damping = FlapDamping(half_life=LONG, suppress=1500.0, max_suppress=10 * LONG)
    client = face.ready(addresses(backends), health=HealthCheck(damping=damping))
    for _ in range(2):
        backends[0].kill()
        client.wait_for_states("T", "R")
        backends[0].restart()
        becomes(lambda: client.subchannel(backends[0].address).serving, 1)
    becomes(lambda: client.subchannel(backends[0].address).damped, True)
    client.wait_for_states("T", "R")
    assert spread(client, 10) == {"b1": 10}

    says(client, backends[1], "NOT_SERVING")
    client.wait_for_states("R", "T")
    assert spread(client, 10) == {"b0": 10}
    becomes(lambda: [fact.cause for fact in client.facts.of(Release)], ["too few are left"])


# --- rise and fall ---------------------------------------------------------------------------------------


def test_a_status_that_is_taken_back_soon_changes_nothing(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), health=HealthCheck(fall=2, confirm_interval=LONG))
    says(client, backends[0], "NOT_SERVING")
    assert client.subchannel(backends[0].address).reason == "NOT_SERVING, 1 of 2 in a row"
    assert spread(client, 20) == {"b0": 10, "b1": 10}

    says(client, backends[0], "SERVING")
    assert client.subchannel(backends[0].address).reason == "SERVING"
    assert client.states() == ["READY", "READY"]
    assert [state for state, _ in client.facts.states(backends[0].address)] == ["READY"]


def test_a_status_that_stands_is_as_good_as_said_again(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), health=HealthCheck(rise=2, fall=3, confirm_interval=0.3))
    backends[0].set("NOT_SERVING", "svc")
    client.wait_for_reason(backends[0].address, "NOT_SERVING")
    assert client.states() == ["TRANSIENT_FAILURE", "READY"]

    backends[0].set("SERVING", "svc")
    client.wait_for_reason(backends[0].address, "SERVING")
    assert client.states() == ["READY", "READY"]
