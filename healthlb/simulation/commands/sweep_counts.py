"""How a sweep goes: counts, rate, and what has been found so far.

The one rule: it only counts; the views ask it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.commands.values import written
from healthlb.simulation.sweep.results import Result


class SweepCounts:
    """Counts cells and adds up metrics.

    Args:
        metrics: whose running means are told.
        clock: seconds, monotonic.

    Attributes:
        asked: cells of all rounds so far.
        known: those of them that had a result before.
        ran: those that were run.
        failed: those of them that failed.
        rounds: how many began.
    """

    def __init__(self, metrics: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.asked = self.known = self.ran = self.failed = self.rounds = 0
        self._metrics = metrics
        self._clock = clock
        self._began_at = clock()
        self._sums = dict.fromkeys(metrics, 0.0)
        self._counts = dict.fromkeys(metrics, 0)

    def plan(self, asked: int, known: int) -> None:
        """A round begins."""
        self.rounds += 1
        self.asked += asked
        self.known += known

    def add(self, results: Sequence[Result]) -> None:
        """Count results."""
        self.ran += len(results)
        for result in results:
            self.failed += bool(result.failure)
            for name in self._metrics:
                if name in result.metrics:
                    self._sums[name] += result.metrics[name]
                    self._counts[name] += 1

    @property
    def done(self) -> int:
        """Cells that have a result."""
        return self.known + self.ran

    @property
    def rate(self) -> float:
        """Cells per second since the beginning."""
        return self.ran / max(1e-9, self._clock() - self._began_at)

    @property
    def eta(self) -> float | None:
        """Seconds until the cells that were asked for are done, at this rate; None before the first."""
        return (self.asked - self.done) / self.rate if self.ran else None

    @property
    def found(self) -> str:
        """The running means, as words."""
        return "  ".join(
            f"{name} {written(name, Estimate(self._sums[name] / count, 0.0, 1))}"
            for name, count in self._counts.items()
            if count
        )
