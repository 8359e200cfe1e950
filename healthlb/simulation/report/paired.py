"""Runs by policy, and how policies differ in their numbers, replication by replication.

The one rule: policies are compared on the same calls. Replication i of one is set against replication i of the other,
and the confidence is that of the differences, which is far narrower than that of either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.world.record import RunRecord


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
        return abs(self.change.mean) > self.change.half_width()


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
            change = Estimate.of_differences(first, second)
            found.append(Difference(metric, Estimate.of(first), Estimate.of(second), change))
    return found


def _metrics(records: Sequence[RunRecord]) -> dict[int, Mapping[str, float]]:
    return {record.replication: record.metrics for record in records}
