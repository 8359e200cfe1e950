"""What pairs of samples say: the median of their ratios, and how sure one may be of it."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_RESAMPLES = 2_000
_TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median of pairwise ratios.

    Attributes:
        median: the figure.
        low: where its bootstrap 95 % interval begins.
        high: where it ends.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def pairwise_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Return the median of `ours[i] / theirs[i]`, the rounds of one alternating measurement.

    Raises:
        ValueError: there are none, or they are no pairs.
    """
    ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
    if not ratios:
        raise ValueError("no pairs to compare")
    rng = random.Random(0)  # The interval of the same samples is always the same.
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    cut = round(_TAIL * _RESAMPLES)
    return Ratio(statistics.median(ratios), medians[cut], medians[-1 - cut])
