"""Laws of faults: crashes, drains, retry storms and flaps, in whole worlds with the real core.

The world is what users simulate, with nothing replaced; only the fault is as simple as the law.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from healthlb.config import Failover, FlapDamping, HealthCheck
from healthlb.core.facts import Release, Suppression
from healthlb.simulation.checks import theory
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
from healthlb.simulation.validation.claim import Claim
from healthlb.simulation.world import world
from healthlb.simulation.world.record import RunRecord

_PLAIN = Policy(name="plain", failover=None, outliers=None)


def claims(quick: bool = False) -> tuple[Claim, ...]:
    """Return the laws of faults."""
    return (*_crashes(quick), *_drains(quick), *_storms(), *_flaps())


def _run(scenario: Scenario) -> RunRecord:
    return world.run(scenario, "plain")


# --- crashes and drains ------------------------------------------------------------------------------


def _crashes(quick: bool) -> list[Claim]:
    rows = []
    for wire in (1, 10):
        loss = theory.crash_loss(200, 0.02, wire / 1000)
        rows.append(
            Claim(law="crash loss", case=f"200 calls/s, 20 ms of service, {wire} ms of wire: calls per crash",
                  expected=loss, measure=partial(_lost_by_crashes, wire, 10 if quick else 30), tolerance=0.03,
                  precision=0.12 if quick else 0.05, source="lambda (E[T] + 2 w)")
        )  # fmt: skip
    return rows


def _lost_by_crashes(wire: int, crashes: int, seed: int) -> float:
    """One of two backends is gone for 0.4 s in each second; nobody waits, nothing is tried again."""
    scenario = Scenario(
        name="crashes",
        seed=seed,
        duration=(crashes + 1) * SECOND,
        backends=(_backends(2, 20, wire),),
        clients=(ClientGroup(load=Load(rate=400.0)),),
        policies={"plain": _PLAIN},
        faults=(Fault(kind="crash", target="b0", start=0, until=crashes * SECOND, period=SECOND, duty=0.6),),
    )
    return _errors(scenario) / crashes


def _backends(count: int, service: float, wire: float) -> BackendGroup:
    law = Exponential(service * MILLISECOND)
    return BackendGroup(count=count, discipline="inf", service=law, wire=int(wire * MILLISECOND))


def _errors(scenario: Scenario) -> float:
    """Count the calls that were lost, but those at the start, while nothing is connected."""
    record = _run(scenario)
    return sum(sum(errors[1:]) for errors in record.bins.errors.values())


def _drains(quick: bool) -> list[Claim]:
    rows = []
    for drain in (0, 2, 10):
        loss = theory.drain_loss(200, 0.01, 0.001, drain / 1000)
        rows.append(
            Claim(law="drain loss", case=f"200 calls/s, 10 ms of service, 1 ms of wire, {drain} ms of drain: calls",
                  expected=loss, measure=partial(_lost_by_drains, drain, 30 if quick else 60), tolerance=0.04,
                  precision=0.15 if quick else 0.06, source="lambda ((2 w - D)+ + S exp(-(D - 2 w)+ / S))")
        )  # fmt: skip
    return rows


def _lost_by_drains(drain: int, stops: int, seed: int) -> float:
    """One of two backends says NOT_SERVING, and stops a little later; again and again."""
    faults = tuple(
        Fault(kind="drain", target="b0", start=start, until=start + 3 * SECOND // 10, drain=drain * MILLISECOND)
        for start in range(SECOND // 2, stops * SECOND + SECOND // 2, SECOND)
    )
    scenario = Scenario(
        name="drains",
        seed=seed,
        duration=(stops + 1) * SECOND,
        backends=(_backends(2, 10, 1),),
        clients=(ClientGroup(load=Load(rate=400.0)),),
        policies={"plain": _PLAIN},
        faults=faults,
    )
    return _errors(scenario) / stops


# --- retry storms --------------------------------------------------------------------------------------

_DIP, _LEFT, _TIMEOUT = 3.0, 0.1, 0.5
_DIP_AT = 2


def _storms() -> list[Claim]:
    rows = []
    for rho, retries in ((0.3, 1), (0.25, 2), (0.5, 0)):
        expected = theory.recovery_time(rho, retries, _DIP, _LEFT, _TIMEOUT)
        expected -= theory.sooner_by(rho, retries, _TIMEOUT)
        rows.append(
            Claim(law="recovery from a dip", case=f"rho {rho:g}, {retries} retries: seconds", expected=expected,
                  measure=partial(_recovery, rho, retries), tolerance=0.2, bias=0.1, precision=0.2,
                  replications=4, most=16, source="fluid limit")
        )  # fmt: skip
    for rho, retries, recovers in ((0.45, 1, True), (0.55, 1, False), (0.37, 2, False)):
        what = "calls lost" if recovers else "goodput"
        rows.append(
            Claim(law="metastability's edge", case=f"rho (1 + r) = {rho * (1 + retries):.2f}: {what} in the end",
                  expected=0.03, relation="<=", measure=partial(_in_the_end, rho, retries, recovers), replications=1,
                  source="never recovers iff rho (1 + r) > 1")
        )  # fmt: skip
    return rows


def _storm(rho: float, retries: int, seconds: int, seed: int) -> RunRecord:
    failover = Failover(max_attempts=retries + 1, attempt_timeout=_TIMEOUT, budget=None)
    slow = Fault(kind="slow", start=_DIP_AT * SECOND, until=int((_DIP_AT + _DIP) * SECOND), factor=_LEFT)
    return _run(
        Scenario(
            name="storm",
            seed=seed,
            duration=seconds * SECOND,
            backends=(BackendGroup(count=2, slots=8, service=Exponential(40 * MILLISECOND)),),
            clients=(ClientGroup(load=Load(rho=rho), deadline=5 * SECOND),),
            # A heartbeat would find the lines too long, and cut the storm short.
            policies={"plain": replace(_PLAIN, failover=failover, health=HealthCheck(heartbeat=None))},
            faults=(slow,),
        )
    )


def _recovery(rho: float, retries: int, seed: int) -> float:
    """Return the seconds from the end of the dip until as many calls end well as arrive."""
    expected = theory.recovery_time(rho, retries, _DIP, _LEFT, _TIMEOUT)
    bins = _storm(rho, retries, math.ceil(_DIP_AT + _DIP + 2 * expected + 3), seed).bins
    per_second = SECOND // bins.width
    end = int((_DIP_AT + _DIP) * per_second)
    for first in range(end, len(bins.ok) - per_second // 2):
        window = slice(first, first + per_second // 2)
        if sum(bins.ok[window]) >= 0.75 * sum(bins.arrivals[window]):
            return (first - end) / per_second
    return math.inf


def _in_the_end(rho: float, retries: int, recovers: bool, seed: int) -> float:
    """Return the share of the last calls that ended otherwise than theory says."""
    wait = theory.recovery_time(rho, retries, _DIP, _LEFT, _TIMEOUT) if recovers else 10
    seconds = math.ceil(_DIP_AT + _DIP + 1.5 * wait + 5)
    bins = _storm(rho, retries, seconds, seed).bins
    window = slice((seconds - 4) * SECOND // bins.width, seconds * SECOND // bins.width)
    goodput = sum(bins.ok[window]) / sum(bins.arrivals[window])
    return max(0.0, 1 - goodput) if recovers else goodput


# --- flap damping --------------------------------------------------------------------------------------

_DAMPING = FlapDamping(penalty=1000, half_life=2, suppress=2000, reuse=750, max_suppress=8)
_FLAPS = 24


def _flaps() -> list[Claim]:
    peak = theory.damping_peak(_DAMPING.penalty, _DAMPING.half_life / 2, _DAMPING.half_life)
    return [
        Claim(law="flap damping's edge", case="periods around H: suppressed, or not, against the formula", expected=0,
              relation="<=", measure=_wrongly_suppressed, replications=2, source="T < -H log2(1 - P/S); RFC 2439"),
        Claim(law="flap damping", case="a flap each H/2: seconds from the last to the release", bias=0.001,
              expected=theory.damping_release(peak, _DAMPING.reuse, _DAMPING.half_life), measure=_released_after,
              replications=2, source="H log2(peak/R); RFC 2439"),
    ]  # fmt: skip


def _flapping(period: float, seed: int) -> RunRecord:
    """One of four backends says NOT_SERVING for half of each period; nobody calls much."""
    length = int(period * SECOND)
    return _run(
        Scenario(
            name="flaps",
            seed=seed,
            duration=_FLAPS * length + 20 * SECOND,
            backends=(_backends(4, 1, 1),),
            clients=(ClientGroup(load=Load(rate=1.0)),),
            policies={"plain": replace(_PLAIN, health=HealthCheck(heartbeat=None, damping=_DAMPING))},
            faults=(Fault(kind="health", target="b0", start=SECOND, until=SECOND + _FLAPS * length, period=length),),
        )
    )


def _wrongly_suppressed(seed: int) -> float:
    wrong = 0
    for share in (0.25, 0.8, 0.95, 1.05, 1.3, 2.0):
        period = share * _DAMPING.half_life
        expected = theory.damping_suppresses(_DAMPING.penalty, period, _DAMPING.half_life, _DAMPING.suppress)
        wrong += any(isinstance(fact, Suppression) for fact in _flapping(period, seed).facts) != expected
    return wrong


def _released_after(seed: int) -> float:
    period = _DAMPING.half_life / 2
    facts = _flapping(period, seed).facts
    released = max(fact.at for fact in facts if isinstance(fact, Release))
    # A period begins with its good half, and the news is a wire's length late.
    last = SECOND + MILLISECOND + int((_FLAPS - 0.5) * period * SECOND)
    return (released - last) / SECOND
