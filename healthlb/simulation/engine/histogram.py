"""Latencies counted in logarithmic buckets: any percentile to within 1 %, in a few hundred numbers.

Percentiles are never averaged. Histograms of runs, workers and machines are added, and asked afterwards.

A bucket's bounds are in the ratio (1 + 1 %) / (1 - 1 %), and what falls into it is told as the value that is 1 % off
either bound (as DDSketch does, Masson, Rim and Lee, VLDB 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

ERROR = 0.01
_RATIO = (1 + ERROR) / (1 - ERROR)
_PER_E = 1 / math.log(_RATIO)


class Histogram:
    """Counts durations in nanoseconds.

    Attributes:
        buckets: how many fell into each; bucket i ends at 1.0202...**i ns, and 0 holds what took no time.
        count: how many there were.
        total: their sum, exactly.
        least: the shortest, exactly; 0 while there is none.
        most: the longest, exactly.
    """

    __slots__ = ("buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0

    def add(self, duration: int) -> None:
        """Count one."""
        bucket = math.ceil(math.log(duration) * _PER_E) if duration > 1 else 0
        buckets = self.buckets
        buckets[bucket] = buckets.get(bucket, 0) + 1
        if duration > self.most:
            self.most = duration
        if duration < self.least or not self.count:
            self.least = duration
        self.count += 1
        self.total += duration

    def extend(self, durations: Sequence[int]) -> None:
        """Count many at once, in less time than one by one."""
        if not durations:
            return
        log, ceil, buckets = math.log, math.ceil, self.buckets
        for duration in durations:
            bucket = ceil(log(duration) * _PER_E) if duration > 1 else 0
            buckets[bucket] = buckets.get(bucket, 0) + 1
        least = min(durations)
        self.least = min(self.least, least) if self.count else least
        self.most = max(self.most, max(durations))
        self.count += len(durations)
        self.total += sum(durations)

    def merge(self, other: Histogram) -> None:
        """Add what the other has counted."""
        if not other.count:
            return
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.least = min(self.least, other.least) if self.count else other.least
        self.most = max(self.most, other.most)
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float:
        """In nanoseconds, exactly; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def quantile(self, share: float) -> float:
        """Return what `share` (0 to 1) of all do not exceed, in nanoseconds, to within 1 %; 0 of nothing."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(share * self.count))
        if rank >= self.count:
            return float(self.most)
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return min(max(_value(bucket), float(self.least)), float(self.most))
        return float(self.most)

    def share_above(self, duration: int) -> float:
        """Return how much of all took longer, to within the width of a bucket; 0 of nothing."""
        if not self.count:
            return 0.0
        above = sum(count for bucket, count in self.buckets.items() if _value(bucket) > duration)
        return above / self.count

    def to_json(self) -> dict[str, object]:
        """Return it as plain values; equal histograms give equal ones."""
        return {
            "least": self.least,
            "most": self.most,
            "total": self.total,
            "buckets": [[bucket, self.buckets[bucket]] for bucket in sorted(self.buckets)],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Histogram:
        """Return the one that `to_json` wrote."""
        made = cls()
        made.buckets = {int(bucket): int(count) for bucket, count in data["buckets"]}  # type: ignore[attr-defined]
        made.count = sum(made.buckets.values())
        made.least, made.most, made.total = (int(data[name]) for name in ("least", "most", "total"))  # type: ignore[call-overload]
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self.count:
            return "<Histogram of nothing>"
        half, most = self.quantile(0.5) / 1e6, self.quantile(0.99) / 1e6
        return f"<Histogram of {self.count}, p50 {half:.3f} ms, p99 {most:.3f} ms>"


def _value(bucket: int) -> float:
    return 2 * _RATIO**bucket / (_RATIO + 1) if bucket else 0.0
