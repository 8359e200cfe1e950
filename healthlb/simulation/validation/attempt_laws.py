"""Laws of a call's attempts: timeouts, retries and hedges, in whole worlds with the real core.

Nobody waits for a slot in these worlds, so an attempt takes what it has drawn and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from healthlb.config import Failover
from healthlb.simulation.checks import theory
from healthlb.simulation.scenario.laws import Deterministic, Exponential, Law
from healthlb.simulation.scenario.scenario import MILLISECOND, SECOND, BackendGroup, ClientGroup, Load, Policy, Scenario
from healthlb.simulation.validation.claim import Claim
from healthlb.simulation.world import world
from healthlb.simulation.world.record import RunRecord

_WIRE = MILLISECOND // 100
_TIMEOUT = 0.06
_MEAN = 0.04
_SLOW = 0.12
_HEDGE_AT = 0.03
_HEDGED = 0.02


def claims(quick: bool = False) -> tuple[Claim, ...]:
    """Return the laws of attempts."""
    return (*_timeouts(quick), *_hedges(quick))


def _backends(service: Law, count: int = 10, name: str = "b") -> BackendGroup:
    return BackendGroup(name=name, count=count, discipline="inf", service=service, wire=_WIRE)


def _run(failover: Failover, seconds: int, seed: int, *backends: BackendGroup, work: Law | None = None) -> RunRecord:
    scenario = Scenario(
        name="attempts",
        seed=seed,
        duration=seconds * SECOND,
        warmup=SECOND // 2,
        backends=backends,
        clients=(ClientGroup(load=Load(rate=500.0), work=work),),
        policies={"plain": Policy(name="plain", picker="random", failover=failover, outliers=None)},
    )
    return world.run(scenario, "plain")


# --- attempts that time out ----------------------------------------------------------------------------


def _late(mean: float) -> float:
    """Return the share of attempts that take longer than their timeout."""
    return math.exp(-(_TIMEOUT - 2 * _WIRE / SECOND) / mean)


def _timeouts(quick: bool) -> list[Claim]:
    seconds, precision = (10, 0.4) if quick else (40, 0.1)
    late, slow = _late(_MEAN), _late(_SLOW)
    claim = partial(Claim, law="attempts that time out", tolerance=0.05, precision=precision)
    return [
        claim(case="three on equal backends: share of calls that fail", expected=late**3,
              measure=partial(_failed, seconds, 3, False), source="q^3"),
        claim(case="two, half of ten backends three times as slow: share of calls that fail",
              expected=theory.both_late([late] * 5 + [slow] * 5), measure=partial(_failed_unequal, seconds),
              source="mean of q_i q_j over all pairs"),
        claim(case="three, with work that belongs to the call: share of calls that fail", expected=late,
              measure=partial(_failed, seconds, 3, True), source="q"),
    ]  # fmt: skip


def _failed(seconds: int, attempts: int, belongs_to_call: bool, seed: int) -> float:
    service = Exponential(_MEAN * SECOND)
    failover = Failover(max_attempts=attempts, attempt_timeout=_TIMEOUT, budget=None)
    record = _run(failover, seconds, seed, _backends(service), work=service if belongs_to_call else None)
    return record.metrics["error_ratio"]


def _failed_unequal(seconds: int, seed: int) -> float:
    failover = Failover(max_attempts=2, attempt_timeout=_TIMEOUT, budget=None)
    fast = _backends(Exponential(_MEAN * SECOND), 5, "fast")
    slow = _backends(Exponential(_SLOW * SECOND), 5, "slow")
    return _run(failover, seconds, seed, fast, slow).metrics["error_ratio"]


# --- hedges --------------------------------------------------------------------------------------------


def _hedges(quick: bool) -> list[Claim]:
    seconds, precision = (10, 0.1) if quick else (40, 0.03)
    tail = theory.hedged_tail(lambda time: 5 / 10 if time > _HEDGE_AT else 4 / 9, _HEDGE_AT, 0.05)
    # The wires take up to a tenth of a millisecond, which the formulas leave out.
    claim = partial(Claim, law="hedging", precision=precision, tolerance=0.03, bias=0.01)
    return [
        claim(case="exponential service, hedge after 1.5 means: extra attempts per call",
              expected=math.exp(-_HEDGE_AT / _HEDGED), measure=partial(_extra_attempts, seconds), source="P(X > d)"),
        claim(case="the same: mean, in means", expected=theory.hedged_mean(1.0, _HEDGE_AT / _HEDGED),
              measure=partial(_hedged_mean, seconds), source="integral of P(X > t) P(X > t - d)"),
        claim(case="the same: p99, in means", measure=partial(_hedged_p99, seconds),
              expected=theory.hedged_quantile(1.0, _HEDGE_AT / _HEDGED, 0.99), source="P(X > t) P(X > t - d)",
              bias=0.02),
        claim(case="five of ten backends slow, random: share of slow calls", expected=tail,
              measure=partial(_slow_calls, seconds), source="P(X > t) P(X > t - d)"),
    ]  # fmt: skip


def _hedged(seconds: int, seed: int, *backends: BackendGroup) -> RunRecord:
    return _run(Failover(max_attempts=2, hedging_delay=_HEDGE_AT, budget=None), seconds, seed, *backends)


def _extra_attempts(seconds: int, seed: int) -> float:
    metrics = _hedged(seconds, seed, _backends(Exponential(_HEDGED * SECOND))).metrics
    return metrics["hedges"] / metrics["requests"]


def _hedged_mean(seconds: int, seed: int) -> float:
    return _hedged(seconds, seed, _backends(Exponential(_HEDGED * SECOND))).metrics["mean"] / _HEDGED


def _hedged_p99(seconds: int, seed: int) -> float:
    return _hedged(seconds, seed, _backends(Exponential(_HEDGED * SECOND))).metrics["p99"] / _HEDGED


def _slow_calls(seconds: int, seed: int) -> float:
    """All work is the same, and half of the backends take ten times as long for it."""
    fast = _backends(Deterministic(10 * MILLISECOND), 5, "fast")
    slow = replace(fast, name="slow", speed=0.1)
    return _hedged(seconds, seed, fast, slow).latency.share_above(60 * MILLISECOND)
