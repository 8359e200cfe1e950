"""The asyncio driver in the simulated world does what the simulator's own host does, to the nanosecond.

Both write a trace: each pick, each end of a call, each fact. The loop's callbacks are events among the world's, so what
the driver adds, a turn too many or a timer that is late, shows as the first line that differs.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from healthlb.config import Backoff, Failover, FlapDamping, HealthCheck, Heartbeat, RetryThrottle, SlowStart
from healthlb.config.outliers import FailurePercentage, Outliers
from healthlb.config.overload import Overload
from healthlb.simulation.fuzzing.worlds import POLICY, random_world
from healthlb.simulation.scenario.laws import Exponential
from healthlb.simulation.scenario.scenario import (
    MILLISECOND,
    SECOND,
    BackendGroup,
    ClientGroup,
    Fault,
    Load,
    Policy,
    Scenario,
)
from healthlb.simulation.world.world import run
from tests.simulation.driver_host import run_on_driver

HEALTH = HealthCheck(
    backoff=Backoff(initial=0.1, maximum=0.5), reconnect=Backoff(initial=0.1, maximum=0.4), heartbeat=None
)
BEATS = replace(HEALTH, heartbeat=Heartbeat(interval=0.5, timeout=0.3))
OUTLIERS = Outliers(
    consecutive_failures=5,
    success_rate=None,
    failure_percentage=FailurePercentage(threshold=50, minimum_hosts=3, request_volume=10),
    interval=0.5,
    base_ejection_time=0.5,
    max_ejection_time=2.0,
)


def world(policy: Policy, *faults: Fault, **backend: object) -> Scenario:
    """Four servers behind one resolver, and three clients. The driver takes addresses that are some."""
    group = BackendGroup(name="unix:b", count=4, slots=4, service=Exponential(8 * MILLISECOND), **backend)  # type: ignore[arg-type]
    clients = ClientGroup(count=3, load=Load(rate=80.0), deadline=200 * MILLISECOND, start=50 * MILLISECOND)
    return Scenario(
        name="two hosts", duration=8 * SECOND, drain=SECOND, backends=(group,), clients=(clients,),
        policies={POLICY: policy}, faults=faults,
    )  # fmt: skip


def fault(kind: str, target: str = "unix:b0", **more: object) -> Fault:
    given: dict[str, object] = {"start": SECOND, "until": 6 * SECOND, **more}
    return Fault(kind=kind, target=target, **given)  # type: ignore[arg-type]


FLAP = {"period": 900 * MILLISECOND, "duty": 0.5}
RETRIES = Failover(max_attempts=3, budget=RetryThrottle(max_tokens=10, token_ratio=0.1))

SCENARIOS = {
    "crash flapping": world(
        Policy(health=HEALTH, failover=Failover()), fault("crash", **FLAP), fault("crash", "unix:b1", phase=None, **FLAP)
    ),
    "health flapping": world(
        Policy(health=replace(HEALTH, rise=2, fall=2, confirm_interval=0.05)),
        fault("health", "*", phase=None, **FLAP),
        watch_lag=20 * MILLISECOND,
    ),
    "a hung backend, with heartbeats": world(
        Policy(health=BEATS, picker="least_request"),
        fault("pause", until=4 * SECOND),
        fault("crash", "unix:b1", mode="half-open", start=2 * SECOND, until=3 * SECOND),
    ),
    "outliers": world(
        Policy(health=HEALTH, outliers=OUTLIERS, picker="peak_ewma"),
        fault("error", rate=0.8, code="INTERNAL"),
        fault("error", "unix:b2", rate=1.0, start=3 * SECOND),
    ),
    "retries within a budget": world(
        Policy(health=HEALTH, failover=RETRIES, outliers=None), fault("error", "unix:b0,unix:b1", rate=0.6)
    ),
    "hedging": world(
        Policy(health=HEALTH, failover=Failover(hedging_delay=0.02, attempt_timeout=0.1), picker="random"),
        fault("slow", factor=0.05),
    ),
    "resolver churn": world(
        Policy(health=HEALTH),
        fault("resolver", addresses=("unix:b0", "unix:b3"), until=3 * SECOND),
        fault("resolver", addresses=("unix:b3", "unix:b2", "unix:b1"), start=2 * SECOND, until=5 * SECOND),
        fault("resolver", addresses=(), start=4 * SECOND),
        fault("resolver", error="SERVFAIL", start=5 * SECOND),
    ),
    "GOAWAY": world(
        Policy(health=HEALTH), fault("goaway", "*", **FLAP), max_age=700 * MILLISECOND, max_streams=3
    ),
    "damping, panic and slow start": world(
        Policy(
            health=replace(HEALTH, damping=FlapDamping(half_life=0.5, max_suppress=1.5)),
            picker="weighted_round_robin",
            panic_threshold=0.6,
            slow_start=SlowStart(window=1.0),
        ),
        fault("health", "unix:b0", period=300 * MILLISECOND),
        fault("health", "unix:b1,unix:b2", start=4 * SECOND),
    ),
    "caps and partitions": world(
        Policy(health=BEATS, overload=Overload(max_waiting=2, max_in_flight=6), picker="ring_hash"),
        fault("partition", "unix:b0,unix:b1", until=3 * SECOND, clients="c0"),
        fault("drain", "unix:b2", drain=100 * MILLISECOND, until=5 * SECOND),
        jitter=2 * MILLISECOND,
    ),
}  # fmt: skip


def first_difference(ours: tuple[str, ...], theirs: tuple[str, ...]) -> str:
    """Say where two traces part, "" where they do not."""
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"line {place}: the simulator has\n    {one}\nand the driver\n    {other}"
    return "" if len(ours) == len(theirs) else f"{len(ours)} lines, and {len(theirs)} with the driver"


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_driver_gives_the_same_trace(name: str) -> None:
    ours = run(SCENARIOS[name], POLICY, trace=3)
    theirs = run_on_driver(SCENARIOS[name], POLICY)

    assert first_difference(ours.trace, theirs.trace) == ""
    assert ours.trace_hash == theirs.trace_hash
    assert {**ours.metrics, "picker_builds": 0} == {**theirs.metrics, "picker_builds": 0}
    assert ours.metrics["requests"] > 1500
    assert ours.metrics["transitions"] >= 4


def renamed(number: int) -> Scenario:
    """A random world whose addresses are some; without stalls, from which the two wake up each in its own order."""
    scenario = random_world(1, number)
    faults = tuple(
        replace(
            one,
            target=one.target if one.target in ("*", "50%") else f"unix:{one.target}",
            addresses=tuple(f"unix:{address}" for address in one.addresses),
        )
        for one in scenario.faults
        if one.kind != "stall"
    )
    groups = tuple(replace(group, name=f"unix:{group.name}") for group in scenario.backends)
    return replace(scenario, backends=groups, faults=faults)


@pytest.mark.parametrize("first", [0, 20, 40])
def test_the_driver_gives_the_same_trace_in_random_worlds(first: int) -> None:
    for number in range(first, first + 20):
        scenario = renamed(number)

        ours, theirs = run(scenario, POLICY, trace=3), run_on_driver(scenario, POLICY)

        assert first_difference(ours.trace, theirs.trace) == "", number


def test_a_trace_that_differs_is_told_by_its_first_line() -> None:
    ours = run(SCENARIOS["GOAWAY"], POLICY, trace=3).trace
    theirs = run(replace(SCENARIOS["GOAWAY"], seed=2), POLICY, trace=3).trace

    assert first_difference(ours, theirs).startswith("line ")
    assert first_difference(ours, ours[:-1]) == f"{len(ours)} lines, and {len(ours) - 1} with the driver"


def test_a_driver_that_is_a_moment_late_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison could fail: here each timer of the driver comes a nanosecond late."""
    from healthlb.control.driver import Driver

    tick = Driver._tick
    monkeypatch.setattr(Driver, "_tick", lambda self: self._loop.call_later(1e-9, tick, self))
    scenario = SCENARIOS["damping, panic and slow start"]

    assert first_difference(run(scenario, POLICY, trace=3).trace, run_on_driver(scenario, POLICY).trace) != ""
