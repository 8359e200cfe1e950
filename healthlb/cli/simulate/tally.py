"""How a sweep goes: counts, rate, and what has been found so far.

The one rule: it only counts; the views ask it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from healthlb.simulation.sweep.results import Result

# Of the metrics' names; all others are plain numbers.
_SECONDS = frozenset({"mean", "p50", "p90", "p95", "p99", "p999", "max"})


class Tally:
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
            f"{name} {spelled(name, self._sums[name] / count)}" for name, count in self._counts.items() if count
        )


def spelled(metric: str, value: float) -> str:
    """A metric's value as people read it: times with a unit, others with four digits."""
    if metric not in _SECONDS:
        return f"{value:.4g}"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def counted(seconds: float | None) -> str:
    """A time that is left, as people read it."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
