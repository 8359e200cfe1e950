"""Whether a hedge can help: it cannot where most backends are late.

Theory: a hedge helps against what is slow on one backend. Where all are slow, it is more work for those who have too
much of it already, makes them slower, and so asks for more hedges: an outage that feeds itself. A channel knows the
difference by itself: it counts on which subchannels calls outlast the hedging delay.

The one rule: a call goes to another backend as well only while most others answer in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from healthlb.core.load import Load, Lock, Subchannel
from healthlb.core.messages import SECOND
from healthlb.core.outlier_rules import is_in_time

_WINDOW = SECOND
# For a while after they were late: what was let go at once would bring it back.
_CLOSED = 10 * SECOND

Marks = Mapping[int, tuple[Load, int]]


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
        return 2 * sum(map(self._is_late, ready)) > len(ready)

    def _turn(self, ready: Collection[Subchannel], now: int) -> None:
        if self._began_at is not None and now < self._began_at + _WINDOW:
            return
        is_next = self._began_at is not None and now < self._began_at + 2 * _WINDOW
        marks = {sub.id: (sub.load, sub.load.judged) for sub in ready}
        self._late_before, self._marks_before = (self._late, self._marks) if is_next else (Counter(), marks)
        self._late, self._marks = Counter(), marks
        self._began_at = now

    def _is_late(self, sub: Subchannel) -> bool:
        late = self._late[sub.id] + self._late_before[sub.id]
        load, judged = self._marks_before.get(sub.id, (None, 0))
        calls = sub.load.judged - (judged if load is sub.load else 0)
        return not is_in_time(max(calls, late), late, self._most)
