"""A world as a whole: the laws it must obey, whatever the policy."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest

from healthlb.config import Failover, RetryThrottle, Subset
from healthlb.config.overload import Overload
from healthlb.errors import ConfigError
from healthlb.presets import resilient
from healthlb.simulation.scenario.laws import Deterministic
from healthlb.simulation.scenario.scenario import SECOND, BackendGroup, ClientGroup, Fault, Load, Policy, Scenario
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.protocols import Host
from healthlb.simulation.world.record import RunRecord
from healthlb.simulation.world.world import World, core_host, run
from tests.simulation.build import ABOUT_TEN, MS, TEN, beliefs, errors, play, scenario

PLAIN = {"failover": None, "outliers": None}
# Long enough for a connection to be back before the next crash, whatever its backoff.
PERIOD = 4 * SECOND


def within(found: float, expected: float, *, spread: float = 4.0) -> bool:
    """Whether a count could be that of a Poisson law with this mean, spread by at most so many deviations."""
    return abs(found - expected) <= spread * math.sqrt(max(1.0, expected))


# --- addresses that leave --------------------------------------------------------------------------------


def _left(*, idempotent: bool, limit: float | None) -> RunRecord:
    """Return a run in which b0, whose calls take 3 s, leaves the list after 5 s, with two calls of each second on it."""
    slow = BackendGroup(name="s", count=1, slots=50, service=Deterministic(3 * SECOND))
    quick = BackendGroup(name="q", count=1, slots=50, service=TEN)
    gone = Fault(kind="resolver", start=5 * SECOND + 100 * MS, until=20 * SECOND, addresses=("q0",))
    policy = {"failover": Failover(), "outliers": None, "drain": limit}
    clients = {"load": Load(kind="steady", rate=4.0), "deadline": None, "idempotent": idempotent}
    world = replace(scenario(gone, clients=clients, policy=policy, warmup=0, seconds=15), backends=(slow, quick))
    return World(world, "p").run()


def test_calls_on_an_address_that_left_run_to_their_ends() -> None:
    record = _left(idempotent=False, limit=None)

    assert errors(record) == {}
    assert record.latency.quantile(1.0) == pytest.approx(3 * SECOND, rel=0.05)


def test_a_limit_ends_calls_on_an_address_that_left() -> None:
    # Of those that began in the last 3 s, two a second, the younger half has not ended 1.5 s later.
    record = _left(idempotent=False, limit=1.5)

    assert errors(record) == {"UNAVAILABLE": 3}
    assert record.metrics["retries"] == 0


def test_calls_that_may_be_made_again_are_made_elsewhere_when_the_limit_ends_them() -> None:
    record = _left(idempotent=True, limit=1.5)

    assert errors(record) == {}
    assert record.metrics["retries"] == 3


# --- laws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [1 * MS, 10 * MS])
def test_a_crash_costs_what_is_in_service_and_on_the_way(wire: int) -> None:
    # F1: the rate at one backend times (time at the backend + twice the wire), for each crash.
    crash = Fault(kind="crash", target="b0", period=PERIOD, duty=0.75)
    record = play(crash, backends={"wire": wire, "slots": 100}, policy=PLAIN, rate=1000, seconds=160)
    expected = 40 * (1000 / 4) * (0.010 + 2 * wire / SECOND)

    assert within(record.metrics["errors"], expected)
    assert set(errors(record)) == {"UNAVAILABLE"}


def test_a_crash_costs_nothing_with_one_retry_elsewhere() -> None:
    crash = Fault(kind="crash", target="b0", period=PERIOD, duty=0.75)
    once = {"failover": Failover(max_attempts=2), "outliers": None}
    record = play(crash, backends={"slots": 100}, policy=once, rate=1000, seconds=60)

    assert record.metrics["errors"] == 0
    assert record.metrics["retries"] > 20


@pytest.mark.parametrize("drain", [0, 2, 10, 20])
def test_a_drain_costs_what_is_left_when_the_process_ends(drain: int) -> None:
    # R1: what is sent after the last word, and what is still in service; exponential, no queue, wire 1 ms.
    stop = Fault(kind="drain", target="b0", period=PERIOD, duty=0.75, drain=drain * MS)
    record = play(stop, backends={"slots": 100}, policy=PLAIN, rate=1000, seconds=160)
    late = max(0, 2 - drain) / 1000
    left = 0.010 * math.exp(-max(0, drain - 2) / 10)

    assert within(record.metrics["errors"], 40 * 250 * (late + left))


def test_a_drain_longer_than_any_call_costs_nothing() -> None:
    stop = Fault(kind="drain", target="b0", period=PERIOD, duty=0.75, drain=13 * MS)
    record = play(stop, backends={"slots": 100, "service": TEN}, policy=PLAIN, rate=1000, seconds=40)

    assert record.metrics["errors"] == 0


def test_what_is_inside_is_the_rate_times_the_time_inside() -> None:
    # Little's law, over all backends, whose clock of used slots is their own.
    world = World(scenario(policy=PLAIN, rate=1000, seconds=60, warmup=0), "p")
    record = world.run()
    busy = sum(server.backend.busy_ns for server in world.servers)
    wires = sum(2 * server.wire for server in world.servers) / len(world.servers)
    inside = record.latency.total - record.metrics["requests"] * wires

    assert inside == pytest.approx(busy, rel=0.005)


def test_health_alone_that_flaps_costs_no_call() -> None:
    flap = Fault(kind="health", target="b0", period=SECOND, duty=0.7)
    record = play(flap, policy=PLAIN, seconds=20)
    share = record.confusion_of["b0"]

    assert record.metrics["errors"] == 0
    # F3: READY for the duty, each time later by the wire, on both ends.
    ready = sum(span for (_, belief), span in share.items() if belief == "READY")
    assert ready / (sum(share.values())) == pytest.approx((0.7 * 25 - 0.1) / 24.9, abs=0.01)
    assert record.metrics["picker_builds"] <= record.metrics["transitions"]


def test_one_server_is_a_queue_with_one_line() -> None:
    # M/M/1 at half load: twice the service time, and the wire.
    group = {"count": 1, "slots": 1}
    record = play(backends=group, clients={"deadline": None}, policy=PLAIN, rate=50, seconds=2000, drain=20 * SECOND)

    assert record.metrics["mean"] == pytest.approx(0.020 + 0.002, rel=0.05)
    assert record.metrics["rho"] == 0.5


# --- the books ---------------------------------------------------------------------------------------

HARD = (
    Fault(kind="crash", target="b0", period=PERIOD, duty=0.6, mode="blackhole"),
    Fault(kind="error", target="b1", rate=0.3, code="INTERNAL"),
    Fault(kind="slow", target="b2", start=2 * SECOND, until=5 * SECOND, factor=0.05),
    Fault(kind="goaway", target="b3", period=SECOND),
    Fault(kind="partition", target="b*", clients="c0", start=6 * SECOND, until=7 * SECOND),
    Fault(kind="stall", clients="c0", start=3 * SECOND, until=4 * SECOND),
)


def conserved(record: RunRecord) -> bool:
    metrics = record.metrics
    return metrics["requests"] == metrics["ok"] + metrics["errors"] + metrics["in_flight"]


@pytest.mark.parametrize("name", ["round_robin", "least_request", "peak_ewma", "weighted_round_robin", "ring_hash"])
def test_every_call_is_accounted_for(name: str) -> None:
    record = play(*HARD, clients={"count": 2}, policy={"picker": name})

    assert conserved(record)
    assert sum(record.bins.arrivals) == sum(record.bins.ok) + sum(errors(record).values()) + record.metrics["in_flight"]
    assert sum(record.bins.attempts) == sum(sum(picks) for picks in record.bins.picks.values())
    assert sum(one.count for one in record.bins.latency) == sum(record.bins.ok)


@pytest.mark.parametrize("seconds", [2.5, 7.0])
def test_calls_that_are_not_over_at_the_end_are_in_flight(seconds: float) -> None:
    world = World(scenario(*HARD, clients={"count": 2, "deadline": None}), "p", until=round(seconds * SECOND))
    record = world.run()

    assert conserved(record)
    assert record.metrics["in_flight"] > 0
    assert world.engine.now == seconds * SECOND


def test_hedges_are_counted_and_no_call_ends_twice() -> None:
    record = play(*HARD, policy=resilient(idempotent=True, hedging_delay=0.06))

    assert conserved(record)
    assert record.metrics["hedges"] > 10


def test_loads_end_at_nothing() -> None:
    world = World(scenario(*HARD, clients={"count": 2}, policy=resilient(True)), "p")
    world.run()
    loads = [
        load for client in world.clients for view in client.subchannels.holder.snapshot.views for load in view.loads
    ]

    assert loads
    assert all(load.in_flight == 0 for load in loads)


def test_a_budget_bounds_retries() -> None:
    throttled = Failover(budget=RetryThrottle(max_tokens=10, token_ratio=0.1), max_attempts=5)
    broken = Fault(kind="error", target="*", rate=0.3)
    record = play(broken, policy={"failover": throttled, "outliers": None}, warmup=0)

    assert 0 < record.metrics["retries"] <= 5 + 0.1 * record.metrics["ok"]
    assert record.metrics["tokens_min"] <= 0.5


# --- policies and clients ----------------------------------------------------------------------------


def test_two_policies_see_the_same_calls_and_work() -> None:
    seen: list[list[tuple[int, tuple[int, ...]]]] = []
    for picker in ("round_robin", "least_request"):
        calls: list[tuple[int, tuple[int, ...]]] = []
        seen.append(calls)
        World(scenario(*HARD, policy={"picker": picker}), "p", make_host=partial(noting_host, calls)).run()

    assert len(seen[0]) > 3000
    assert seen[0] == seen[1]


def noting_host(calls: list[tuple[int, tuple[int, ...]]], world: World, client: Client, seed: int) -> Host:
    begin = client.call

    def call(works: tuple[int, ...], user: int | None = None) -> None:
        calls.append((world.engine.now, works))
        begin(works, user)

    client.call = call  # type: ignore[method-assign]
    return core_host(world, client, seed)


def test_a_subset_connects_to_no_more() -> None:
    record = play(backends={"count": 10}, policy={"subset": Subset(size=3, seed=1)})

    assert sum(sum(picks) > 0 for picks in record.bins.picks.values()) == 3


def test_an_unsafe_method_is_not_made_again() -> None:
    broken = Fault(kind="error", target="b0", rate=1.0, until=SECOND)
    record = play(broken, clients={"idempotent": False}, policy={"outliers": None})

    assert record.metrics["retries"] == 0
    assert errors(record)["UNAVAILABLE"] > 50


def test_calls_wait_while_the_channel_connects_and_fail_fast_when_it_cannot() -> None:
    down = Fault(kind="crash", target="*", until=SECOND)
    failing = play(down, policy=PLAIN, warmup=0)
    waiting = play(down, clients={"wait_for_ready": True, "deadline": None}, policy=PLAIN, warmup=0)

    assert 300 < errors(failing)["UNAVAILABLE"] < 600
    assert failing.latency.most < 500 * MS
    assert errors(waiting) == {}
    assert waiting.latency.most > 900 * MS


def test_caps_keep_calls_out() -> None:
    record = play(rate=1000, policy={"overload": Overload(max_in_flight=5)})

    assert set(errors(record)) == {"RESOURCE_EXHAUSTED"}


def test_a_wait_may_end_before_the_deadline() -> None:
    down = Fault(kind="crash", target="*")
    waits = {"wait_for_ready": True, "deadline": 5 * SECOND}
    record = play(down, clients=waits, policy={"overload": Overload(max_wait=0.1)}, seconds=1.0)

    assert set(errors(record)) == {"RESOURCE_EXHAUSTED"}


def test_clients_and_backends_of_several_groups() -> None:
    mixed = Scenario(
        name="mixed",
        backends=(
            BackendGroup(name="fast", count=2, service=TEN, slots=8),
            BackendGroup(name="slow", count=1, service=ABOUT_TEN, slots=8),
        ),
        clients=(
            ClientGroup(name="open", load=Load(rho=0.2)),
            ClientGroup(name="closed", load=Load(kind="closed", users=2)),
        ),
        policies={"p": Policy(picker="random")},
    )
    record = run(mixed, "p")

    assert list(record.bins.picks) == ["fast0", "fast1", "slow0"]
    assert record.metrics["clients"] == 2
    assert record.metrics["goodput"] == 1.0
    assert beliefs(record)[-1][1] == "READY"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="policy must be one of p, not 'q'"):
        World(scenario(), "q")
    twice = Scenario(
        name="twice",
        backends=(BackendGroup(service=TEN), BackendGroup(service=TEN)),
        clients=(ClientGroup(load=Load(rate=1)),),
    )
    with pytest.raises(ConfigError, match="two backends"):
        World(twice, "default")
