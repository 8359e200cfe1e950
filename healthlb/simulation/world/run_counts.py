"""What is counted while a world runs: by bins of time, and in histograms.

Nothing is kept of a call that is over but what it adds to a sum.
"""

from __future__ import annotations

from healthlb.core.call.budget import Budget
from healthlb.core.states import Code
from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.scenario.scenario import SECOND
from healthlb.simulation.world.record import BIN


class RunCounts:
    """The counts of one run, over all clients.

    Args:
        warmup: calls that began before do not count but in the bins, in nanoseconds.
        end: when the run is over at the latest.

    Attributes:
        bin: the present one.
        arrivals, ok, connects, watch_starts: by bins of time.
        errors: by the status's name, by bins of time.
        tokens: the least that was left of any client's budget, by bins of time.
        counted: latencies of calls that began after the warm-up, by the second of their end.
        early: the same of those that began before.
        failures: calls that failed and that began after the warm-up, by the status's name.
        again: attempts after the first; hedges: those beside others; unsent: those that never left.
        users: how long user requests took that made several calls and lost none, of those that began after the warm-up.
        user_errors: how many of these lost one.
        published, facts: how many snapshots and facts there were, by name.
    """

    def __init__(self, warmup: int, end: int) -> None:
        bins = end // BIN + 2
        self.warmup = warmup
        self.bins = bins
        self.bin = 0
        self.arrivals = [0] * bins
        self.ok = [0] * bins
        self.connects = [0] * bins
        self.watch_starts = [0] * bins
        self.tokens = [1.0] * bins
        self.errors: dict[str, list[int]] = {}
        seconds = end // SECOND + 2
        self.counted = [Histogram() for _ in range(seconds)]
        self.early = [Histogram() for _ in range(seconds)]
        self.failures: dict[str, int] = {}
        self._charged: dict[Budget, None] = {}
        self._latencies: list[int] = []
        self._early_latencies: list[int] = []
        self.users = Histogram()
        self.user_errors = 0
        self.again = self.hedges = self.unsent = 0
        self.facts: dict[str, int] = {}

    def next_bin(self, now: int) -> None:
        """Begin the next bin, at `now`."""
        second = self.bin * BIN // SECOND
        self.counted[second].extend(self._latencies)
        self.early[second].extend(self._early_latencies)
        self._latencies.clear()
        self._early_latencies.clear()
        self.bin = now // BIN
        for budget in tuple(self._charged):
            if self._see(budget, now) >= 1.0:
                del self._charged[budget]

    def succeeded(self, arrived_at: int, now: int) -> None:
        """A call has ended well."""
        self.ok[self.bin] += 1
        (self._latencies if arrived_at >= self.warmup else self._early_latencies).append(now - arrived_at)

    def failed(self, arrived_at: int, code: Code) -> None:
        """A call has failed."""
        name = code.name
        bins = self.errors.get(name)
        if bins is None:
            bins = self.errors[name] = [0] * self.bins
        bins[self.bin] += 1
        if arrived_at >= self.warmup:
            self.failures[name] = self.failures.get(name, 0) + 1

    def user_over(self, arrived_at: int, now: int, *, has_failed: bool) -> None:
        """A user request of several calls is over."""
        if arrived_at < self.warmup:
            return
        if has_failed:
            self.user_errors += 1
        else:
            self.users.extend([now - arrived_at])

    def attempt_failed(self, budget: Budget, now: int) -> None:
        """An attempt has failed; follow what is left of what pays for others, until that is whole again."""
        if self._see(budget, now) < 1.0:
            self._charged[budget] = None

    def _see(self, budget: Budget, now: int) -> float:
        left = budget.left(now)
        if left < self.tokens[self.bin]:
            self.tokens[self.bin] = left
        return left

    def latency(self) -> Histogram:
        """Return the latencies of all calls that ended well and began after the warm-up."""
        whole = Histogram()
        for one in self.counted:
            whole.merge(one)
        return whole

    def latencies(self) -> tuple[Histogram, ...]:
        """Return the latencies of all calls that ended well, by the second."""
        for whole, early in zip(self.early, self.counted, strict=True):
            whole.merge(early)
        return tuple(self.early)
