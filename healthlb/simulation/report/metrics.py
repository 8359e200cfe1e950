"""The metrics in words: what they are called, how they are written, and which way is better.

A metric nobody described here is shown all the same, under its own name and as a plain number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.report.scale import SPACE, decimal, plain, seconds, share, unit_of
from healthlb.simulation.world.record import RunRecord


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is shown.

    Attributes:
        says: its name in words.
        write: how a value is written.
        better: 1 where more is better, -1 where less is, 0 where neither is.
    """

    says: str
    write: Callable[[float], str] = plain
    better: int = 0


METRICS: Mapping[str, Metric] = {
    "requests": Metric("calls"),
    "ok": Metric("ended well", better=1),
    "errors": Metric("errors", better=-1),
    "in_flight": Metric("still in flight"),
    "goodput": Metric("goodput", share, 1),
    "error_ratio": Metric("error ratio", share, -1),
    "ok_rate": Metric("ended well per second", better=1),
    "mean": Metric("mean latency", seconds, -1),
    "p50": Metric("p50 latency", seconds, -1),
    "p90": Metric("p90 latency", seconds, -1),
    "p95": Metric("p95 latency", seconds, -1),
    "p99": Metric("p99 latency", seconds, -1),
    "p999": Metric("p99.9 latency", seconds, -1),
    "max": Metric("slowest call", seconds, -1),
    "attempts": Metric("attempts"),
    "attempts_per_request": Metric("attempts per call", better=-1),
    "retries": Metric("retries"),
    "hedges": Metric("hedges"),
    "unsent": Metric("never sent"),
    "imbalance": Metric("imbalance"),
    "transitions": Metric("transitions"),
    "ejections": Metric("ejections"),
    "returns": Metric("returns from ejection"),
    "connects": Metric("connections begun", better=-1),
    "connects_peak": Metric("connections, peak", better=-1),
    "watch_starts": Metric("Watches begun", better=-1),
    "picker_builds": Metric("pickers built"),
    "wasted": Metric("wasted server time", seconds, -1),
    "clients": Metric("clients"),
    "backends": Metric("backends"),
    "duration": Metric("duration", seconds),
    "lam": Metric("offered calls per second"),
    "rho": Metric("offered load", share),
    "tokens_min": Metric("least retry tokens", share, 1),
}
TILES = ("goodput", "error_ratio", "p50", "p99", "attempts_per_request", "imbalance")
COMPARED = (
    "goodput", "error_ratio", "mean", "p50", "p99", "p999", "attempts_per_request", "imbalance", "connects",
    "ejections", "wasted",
)  # fmt: skip

# Latencies are those of calls that ended well. Where a policy loses so much more of them, the slowest that are left are
# not those of the other: a tenth of what lies beyond the percentile.
_SURVIVORS: Mapping[str, float] = {
    "mean": 0.01, "p50": 0.05, "p90": 0.01, "p95": 0.005, "p99": 0.001, "p999": 0.0001, "max": 0.0001,
}  # fmt: skip
DAGGER = "†"


def lost(runs: Sequence[RunRecord]) -> float:
    """Return the share of calls that these runs of one policy lost."""
    return Estimate.of([run.metrics.get("error_ratio", 0.0) for run in runs]).mean


def is_of_survivors(name: str, more_lost: float) -> bool:
    """Whether a latency is no match for one of a policy that loses this share of the calls less."""
    return name in _SURVIVORS and more_lost > _SURVIVORS[name]


def metric(name: str) -> Metric:
    """Return how the metric of this name is shown."""
    return METRICS.get(name) or Metric(name)


def written(name: str, value: Estimate) -> str:
    """Write a mean with its interval, if it has one, in one unit and to the digits that the interval leaves certain."""
    shown = metric(name)
    half_width = value.half_width()
    if not half_width or math.isinf(half_width):
        return shown.write(value.mean)
    unit, length = "", 1.0
    if shown.write is share:
        unit, length = f"{SPACE}%", 0.01
    elif shown.write is seconds:
        word, length = unit_of(max(abs(value.mean), half_width))
        unit = SPACE + word
    decimals = min(6, max(0, 1 - math.floor(math.log10(half_width / length))))
    mean, half = (decimal(part / length, decimals) for part in (value.mean, half_width))
    return f"{mean} ± {half}{unit}"
