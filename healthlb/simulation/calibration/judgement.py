"""Simulated against real, number by number, each with the error that is allowed.

An allowed error is never widened. A machine that is too busy to tell makes no judgement at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from healthlb.core.facts import StateChange
from healthlb.simulation.calibration.plan import BACKENDS, Plan, make_scenario
from healthlb.simulation.calibration.real import Called, Observed
from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.scenario.scenario import SECOND
from healthlb.simulation.world import world
from healthlb.simulation.world.record import RunRecord

POINT = 0.01
LATENCY_ERROR = 0.1
TAIL_ERROR = 0.15
MOST_LAG = 10_000_000
# What one takes a loopback for before it is measured: 0.25 ms each way.
_GUESS = 500_000
# What is left to luck in the simulation, which call fails above all, is to have no part in the error.
REPLICATIONS = 8
_SIMULATED_PARTS, _MEASURED_PARTS = 1000, 100


@dataclass(frozen=True, slots=True)
class Row:
    """One number in both worlds.

    Attributes:
        name: what it is.
        simulated: by the simulator.
        real: as it was measured.
        error: relative for latencies, else the difference.
        allowed: how large the error may be; None where it is only told.
    """

    name: str
    simulated: float
    real: float
    error: float
    allowed: float | None

    @property
    def holds(self) -> bool:
        """Whether the error is allowed."""
        return self.allowed is None or abs(self.error) <= self.allowed


@dataclass(frozen=True, slots=True)
class Judgement:
    """The whole comparison.

    Attributes:
        decisions: shares, retries and transitions.
        latencies: of the second half, as calibrated with the first.
        guessed: of the second half, uncalibrated; only told.
        lag: the 99th percentile of how late calls were made, in nanoseconds.
        load: of the machine, before and after.
        calls: how many were made.
    """

    decisions: tuple[Row, ...]
    latencies: tuple[Row, ...]
    guessed: tuple[Row, ...]
    lag: float
    load: tuple[float, float]
    calls: int

    @property
    def skipped(self) -> str:
        """Why nothing can be said, or ""."""
        if self.lag <= MOST_LAG:
            return ""
        return (
            f"the machine is too busy: 1 % of the calls were made {self.lag / 1e6:.1f} ms late or later, more than "
            f"{MOST_LAG / 1e6:.0f} ms"
        )

    @property
    def holds(self) -> bool:
        """Whether all errors are allowed."""
        return all(row.holds for row in (*self.decisions, *self.latencies))


def judge(plan: Plan, observed: Observed) -> Judgement:
    """Simulate the plan, calibrated and not, and compare."""
    measured = [call for call in observed.calls if call.is_ok and call.ended_at < plan.half]
    judged = [call.latency for call in observed.calls if call.is_ok and call.ended_at >= plan.half]
    plain = [world.run(make_scenario(plan, plan.works), "real", number) for number in range(REPLICATIONS)]
    draw = Random("overslept")
    slept = [call.overslept for call in measured]
    works = [max(1, work + slept[int(draw.random() * len(slept))]) for work in plan.works]
    calibrated = world.run(make_scenario(plan, works), "real")
    return Judgement(
        decisions=_decisions(plan, plain, observed),
        latencies=_latencies(_second_half(plan, calibrated), [call.on_the_way for call in measured], judged, True),
        guessed=_latencies(_second_half(plan, *plain), [_GUESS], judged, False),
        lag=quantile([call.lag for call in observed.calls], 0.99),
        load=observed.load,
        calls=len(observed.calls),
    )


def _decisions(plan: Plan, records: Sequence[RunRecord], observed: Observed) -> tuple[Row, ...]:
    picks = [fmean(sum(record.bins.picks.get(f"b{number}", ())) for record in records) for number in range(BACKENDS)]
    ours, theirs = sum(picks), sum(observed.picks)
    rows = [
        _difference(f"share of b{number}", picks[number] / ours, observed.picks[number] / theirs, POINT)
        for number in range(BACKENDS)
    ]
    made = len(observed.calls)
    rows.append(_difference("retries per call", ours / made - 1, theirs / made - 1, POINT))
    errors = sum(not call.is_ok for call in observed.calls)
    failed = fmean(record.metrics["errors"] for record in records)
    rows.append(_difference("errors per call", failed / made, errors / made, POINT))
    transitions = fmean(transitions_of(plan, record) for record in records)
    rows.append(_difference("transitions", transitions, observed.transitions, 0.0))
    return tuple(rows)


def transitions_of(plan: Plan, record: RunRecord) -> int:
    """Return how often a backend came to be READY or ceased to, between the first connections and the plan's end."""
    changes = [fact for fact in record.facts if isinstance(fact, StateChange)]
    begins = plan.flips[0].at // 2
    return sum(
        "READY" in (change.old.name, change.new.name) for change in changes if begins < change.at < plan.duration
    )


def _difference(name: str, simulated: float, real: float, allowed: float) -> Row:
    return Row(name, simulated, real, simulated - real, allowed)


def _second_half(plan: Plan, *records: RunRecord) -> Histogram:
    merged = Histogram()
    for record in records:
        for one in record.bins.latency[plan.half // SECOND :]:
            merged.merge(one)
    return merged


def _latencies(simulated: Histogram, on_the_way: Sequence[int], real: Sequence[int], counts: bool) -> tuple[Row, ...]:
    together = sums(simulated, on_the_way)
    numbers = {
        "mean": (simulated.mean + fmean(on_the_way), fmean(real), LATENCY_ERROR),
        "p50": (quantile(together, 0.5), quantile(real, 0.5), LATENCY_ERROR),
        "p99": (quantile(together, 0.99), quantile(real, 0.99), TAIL_ERROR),
    }
    return tuple(
        Row(name, mine / SECOND, theirs / SECOND, mine / theirs - 1, allowed if counts else None)
        for name, (mine, theirs, allowed) in numbers.items()
    )


def sums(simulated: Histogram, on_the_way: Sequence[int]) -> list[float]:
    """Return latencies of which each is one of the simulator's and one of the measured ways, all pairs alike often."""
    ordered = sorted(on_the_way)
    ways = [ordered[int((part + 0.5) / _MEASURED_PARTS * len(ordered))] for part in range(_MEASURED_PARTS)]
    ours = [simulated.quantile((part + 0.5) / _SIMULATED_PARTS) for part in range(_SIMULATED_PARTS)]
    return [one + way for one in ours for way in ways]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def delays(calls: Sequence[Called]) -> dict[str, float]:
    """Return what the machine adds, in seconds: on the way, and in a slot."""
    good = [call for call in calls if call.is_ok]
    parts = {"on the way": [call.on_the_way for call in good], "overslept": [call.overslept for call in good]}
    return {
        f"{name} p{round(share * 100)}": quantile(values, share) / SECOND
        for name, values in parts.items()
        for share in (0.5, 0.99)
    }
