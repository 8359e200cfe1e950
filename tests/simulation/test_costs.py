"""What else costs time in a world: new connections, the client's own processor, cached answers, user requests."""

from __future__ import annotations

import pytest

from healthlb.config import HealthCheck
from healthlb.simulation.scenario.laws import Bimodal, Deterministic
from healthlb.simulation.scenario.scenario import SECOND, Fault, Load
from healthlb.simulation.world.world import World
from tests.simulation.build import MS, TEN, errors, play, scenario

STEADY = Load(kind="steady", rate=100)
BARE = {"health": HealthCheck(heartbeat=None), "outliers": None, "failover": None}
ONE = {"count": 1, "slots": 1, "service": Deterministic(MS), "wire": 100_000, "checks": "beside"}
QUIET = Load(kind="steady", rate=2)


# --- new connections ---------------------------------------------------------------------------------------


def herd(tls: int, *faults: Fault, count: int = 100) -> World:
    """Many clients, which come at the same time, and a server that is one processor."""
    clients = {"count": count, "load": QUIET, "deadline": None}
    world = World(
        scenario(*faults, backends={**ONE, "accept": MS, "tls": tls}, clients=clients, policy=BARE, warmup=0), "p"
    )
    world.run()
    return world


def test_a_herd_of_clients_waits_for_its_handshakes_one_by_one() -> None:
    """A hundred handshakes of 10 ms of a processor's work are a second, and the last client's first call waits for it."""
    world = herd(9 * MS)

    calls = sum(client.called for client in world.clients)
    # The kernel has accepted, so nobody knocks again after a second; a few race a second connection against the first.
    connects = sum(world.tally.connects)
    assert 100 <= connects <= 110
    assert world.servers[0].backend.busy_ns == connects * 10 * MS + calls * MS
    assert world.tally.latency().most > SECOND // 2


def test_handshakes_wait_with_the_calls() -> None:
    """A client that is there already feels a herd that comes later."""
    slowest = []
    for tls in (0, 10 * MS):
        backends = {**ONE, "tls": tls}
        clients = {"count": 100, "load": Load(kind="steady", rate=1), "deadline": None, "start": SECOND}
        slowest.append(play(backends=backends, clients=clients, policy=BARE, warmup=0).latency.most)

    assert slowest[0] < 50 * MS
    assert slowest[1] > 50 * MS


def test_a_handshake_ends_with_its_server() -> None:
    """A crash refuses those whose handshakes are under way, and they come again."""
    crash = Fault(kind="crash", target="b0", start=500 * MS, until=2 * SECOND, mode="rst")
    world = herd(9 * MS, crash)

    assert sum(world.tally.connects) > 100
    assert len(world.servers[0].links) == 100


def test_a_handshake_waits_for_a_server_that_stands_still() -> None:
    pause = Fault(kind="pause", target="b0", start=500 * MS, until=1500 * MS)
    world = herd(9 * MS, pause)

    assert world.tally.latency().most > 1.5 * SECOND
    assert len(world.servers[0].links) == 100


# --- the client's own processor --------------------------------------------------------------------------------


def test_a_call_costs_its_client_time_on_one_thread() -> None:
    """Ten milliseconds of its thread: as much longer at a low rate, and at most a hundred calls a second."""
    few, many = (
        play(
            backends={"service": TEN},
            clients={"cpu": cpu, "load": Load(kind="steady", rate=rate), "deadline": None},
            policy=BARE,
            seconds=10,
        )
        for cpu, rate in ((10 * MS, 10), (10 * MS, 300))
    )

    assert few.metrics["p50"] == pytest.approx(0.022, rel=0.02)
    assert 80 < many.metrics["ok_rate"] < 160  # half as many again are worked off after the ten seconds
    assert many.metrics["max"] > 5


def test_a_deadline_does_not_wait_for_the_thread() -> None:
    clients = {"cpu": 10 * MS, "load": Load(kind="steady", rate=300), "deadline": 200 * MS}
    record = play(backends={"service": TEN}, clients=clients, policy=BARE)

    metrics = record.metrics
    assert metrics["requests"] == metrics["ok"] + metrics["errors"] + metrics["in_flight"] > 2900
    assert set(errors(record)) == {"DEADLINE_EXCEEDED"}


# --- cached answers ----------------------------------------------------------------------------------------------


def test_each_client_hears_of_a_new_list_at_its_own_time() -> None:
    """Of a hundred clients with a cache of 4 s about half know a new address after two seconds, all after four."""
    change = Fault(kind="resolver", addresses=("b0", "b1", "b2", "b3"), start=3 * SECOND)
    clients = {"count": 100, "load": Load(kind="steady", rate=20), "dns_cache": 4 * SECOND}
    world = World(scenario(change, clients=clients, policy=BARE, addresses=("b0", "b1", "b2")), "p")
    world.run()
    picks = world.servers[3].picks
    full = sum(picks[80:90])

    assert sum(picks[:30]) == 0
    assert 0.35 < sum(picks[45:55]) / full < 0.65
    assert sum(picks[70:80]) == pytest.approx(full, rel=0.05)


# --- user requests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [Load(rate=50, fanout=20), Load(kind="closed", users=20, fanout=20)])
def test_a_user_request_is_as_slow_as_its_slowest_call(load: Load) -> None:
    """One call of a hundred takes a second: so do 1 - 0.99^20 = 18 % of the requests that wait for twenty."""
    law = Bimodal(10 * MS, SECOND, 0.01)
    clients = {"load": load, "deadline": 500 * MS}
    record = play(backends={"service": law, "discipline": "inf", "count": 20}, clients=clients, policy=BARE, seconds=60)
    requests, failed = record.metrics["user_requests"], record.metrics["user_errors"]

    assert record.metrics["requests"] == pytest.approx(20 * requests, rel=0.02)
    assert failed / requests == pytest.approx(1 - 0.99**20, abs=0.03)
    assert record.metrics["user_p99"] < 0.5


def test_calls_by_themselves_are_no_user_requests() -> None:
    metrics = play(clients={"load": STEADY}, policy=BARE).metrics

    assert (metrics["user_requests"], metrics["user_errors"], metrics["user_p99"]) == (0, 0, 0)
