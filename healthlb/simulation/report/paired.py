"""Numbers of several replications: means with their confidence, and differences between policies, pair by pair.

The one rule: policies are compared on the same calls. Replication i of one is set against replication i of the other,
and the confidence is that of the differences, which is far narrower than that of either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from healthlb.simulation.record import RunRecord

# Student's t at 97.5 %, by degrees of freedom from 1 on; beyond them as of the normal law, which is 1 % less at most.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and what it is worth.

    Attributes:
        mean: of the values.
        half: half the width of its 95 % confidence interval; None for a single value, of which nothing is known.
    """

    mean: float
    half: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How two policies differ in one metric.

    Attributes:
        metric: its name.
        base: of the first policy.
        other: of the second.
        change: second less first, pair by pair.
    """

    metric: str
    base: Estimate
    other: Estimate
    change: Estimate

    @property
    def is_clear(self) -> bool:
        """Whether zero is outside the interval."""
        return self.change.half is not None and abs(self.change.mean) > self.change.half


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of the values with its 95 % interval by Student's t."""
    count = len(values)
    mean = math.fsum(values) / count
    if count < 2:
        return Estimate(mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    t = _T[count - 2] if count - 2 < len(_T) else 1.96
    return Estimate(mean, t * math.sqrt(variance / count))


def by_policy(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the records of each policy in the order of their replications; policies in the order they come in."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(record.policy, []).append(record)
    return {policy: sorted(runs, key=lambda run: run.replication) for policy, runs in found.items()}


def differences(base: Sequence[RunRecord], other: Sequence[RunRecord], metrics: Sequence[str]) -> list[Difference]:
    """Return the difference in each metric that both sides have, over the replications that both sides have."""
    ours, theirs = _metrics(base), _metrics(other)
    both = [replication for replication in ours if replication in theirs]
    found = []
    for metric in metrics:
        first = [ours[one][metric] for one in both if metric in ours[one] and metric in theirs[one]]
        second = [theirs[one][metric] for one in both if metric in ours[one] and metric in theirs[one]]
        if first and all(map(math.isfinite, [*first, *second])):
            change = estimate([b - a for a, b in zip(first, second, strict=True)])
            found.append(Difference(metric, estimate(first), estimate(second), change))
    return found


def _metrics(records: Sequence[RunRecord]) -> dict[int, Mapping[str, float]]:
    return {record.replication: record.metrics for record in records}
