"""Means of replications, and how sure they are.

Confidence comes from independent replications, never from the calls of one run, which depend on each
other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of replications.

    Attributes:
        mean: of them.
        error: the standard error of the mean; 0 of a single one, which says nothing about itself.
        count: how many.
    """

    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Return that of these replications; at least one."""
        count = len(values)
        return cls(fmean(values), stdev(values) / math.sqrt(count) if count > 1 else 0.0, count)

    @classmethod
    def of_differences(cls, first: Sequence[float], second: Sequence[float]) -> Estimate:
        """Return that of `second` minus `first`, pair by pair: of runs with the same random streams."""
        return cls.of([after - before for before, after in zip(first, second, strict=True)])

    def half_width(self, confidence: float = 0.95) -> float:
        """Return half of the confidence interval (Student); infinite for a single replication."""
        if self.count < 2:
            return math.inf
        return self.error * student(self.count - 1, (1 + confidence) / 2)

    def z(self, expected: float) -> float:
        """Return how many standard errors the mean is away from what was expected."""
        if self.mean == expected:
            return 0.0
        return (self.mean - expected) / self.error if self.error else math.copysign(math.inf, self.mean - expected)


def student(freedom: int, share: float) -> float:
    """Return the quantile of Student's t, to four digits, for `freedom` of at least 1 and a share of 0.5 to 0.9995."""
    if freedom == 1:
        return math.tan(math.pi * (share - 0.5))
    if freedom == 2:
        spread = 2 * share - 1
        return spread * math.sqrt(2 / (1 - spread * spread))
    return _hill(freedom, 2 * (1 - share))


def _hill(freedom: int, both_tails: float) -> float:
    """Hill's expansion (Algorithm 396, CACM 1970) of the two-sided quantile."""
    n = freedom
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20_700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = (d * both_tails) ** (2 / n)
    if y > 0.05 + a:
        x = _NORMAL.inv_cdf(both_tails / 2)
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (
            n + 2
        ) + 1 / y
    return math.sqrt(n * y)
