"""Decides whether a hedge can help. It cannot if most backends are slow.

Theory: a hedge helps when one backend is slow. When all are slow, it adds work to backends that have too much already,
makes them slower, and so causes more hedges: an outage that feeds itself. A channel can tell the two apart: it counts
on which subchannels calls take longer than the hedging delay.

The one rule: a hedge is sent only while most other backends answer in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from healthlb.core.exclusion.outlier_rules import is_in_time
from healthlb.core.load import Load, Lock, Subchannel
from healthlb.core.messages import SECOND

_WINDOW = SECOND
# For a while after they were late: what was let go at once would bring it back.
_CLOSED = 10 * SECOND

Marks = Mapping[int, tuple[Load, int]]
_NO_MARK = (None, 0)


class HedgeGate:
    """Says whether a late call may be sent to another subchannel as well. Any thread.

    Args:
        most: the share of a subchannel's calls, above 0, that may be late where it counts as one that is in time.
        lock: guards what is counted.
    """

    def __init__(self, most: float, lock: Lock) -> None:
        self._most = most
        self._lock = lock
        self._began_at: int | None = None
        self._closed_until = 0
        self._late: Counter[int] = Counter()
        self._late_before: Counter[int] = Counter()
        self._marks: Marks = {}
        self._marks_before: Marks = {}

    def allows(self, late: int, ready: Collection[Subchannel], now: int) -> bool:
        """Take in that a call is late, and say whether it may go elsewhere as well.

        Args:
            late: the number of the subchannel that it went to last.
            ready: those that can be picked.
            now: nanoseconds.
        """
        with self._lock:
            self._turn(ready, now)
            self._late[late] += 1
            if now >= self._closed_until and self._are_most_late(ready):
                self._closed_until = now + _CLOSED
            return now >= self._closed_until

    def _are_most_late(self, ready: Collection[Subchannel]) -> bool:
        # With thousands of subchannels most have no late call, and need no look.
        if 2 * (len(self._late) + len(self._late_before)) <= len(ready):
            return False
        # Those that are least late, together: each alone would show it later, after more hedges.
        least = sorted(self._tallies(ready))[: len(ready) // 2 + 1]
        late, calls = sum(late for _, late, _, _ in least), sum(calls for _, _, _, calls in least)
        return not is_in_time(calls, late, self._most)

    def _turn(self, ready: Collection[Subchannel], now: int) -> None:
        if self._began_at is not None and now < self._began_at + _WINDOW:
            return
        is_next = self._began_at is not None and now < self._began_at + 2 * _WINDOW
        marks = {sub.id: (sub.load, sub.load.judged) for sub in ready}
        self._late_before, self._marks_before = (self._late, self._marks) if is_next else (Counter(), marks)
        self._late, self._marks = Counter(), marks
        self._began_at = now

    def _tallies(self, ready: Collection[Subchannel]) -> list[tuple[float, int, int, int]]:
        """Return for each subchannel the share of late calls in the last windows, their number, place, all calls."""
        late_now, late_before, marks = self._late, self._late_before, self._marks_before
        tallies = []
        for place, sub in enumerate(ready):
            late = late_now.get(sub.id, 0) + late_before.get(sub.id, 0)
            load, judged = marks.get(sub.id, _NO_MARK)
            calls = max(late, sub.load.judged - (judged if load is sub.load else 0))
            tallies.append((late / calls if late else 0.0, late, place, calls))
        return tallies
