"""Whether those that are left can do the work: an ejection gives the others more to do, and so do retries and hedges.

Theory: an ejection spares callers the failures of one backend, and gives its calls to the others. Where these have no
room for them, their lines grow until all answers come too late: a partial fault becomes an outage. A client cannot know
how much its backends can do, but it sees what comes of it. Strained is a fleet of which most are late, or slower by far
than they were a while ago; how long calls take follows from how many are in flight (Little's law), so none is timed.

        well ──most are late, or slow──▶ strained ──no more, and for a while longer each time──▶ well

While it is strained, protection gives way: who is ejected comes back, nobody is ejected, and no call is sent twice.

The one rule: looked at only where calls have failed of late; a channel that is well, or idle, is not woken.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from dataclasses import dataclass

from healthlb.core.exclusion.outlier_rules import is_in_time
from healthlb.core.load import Crowd, Load, Subchannel
from healthlb.core.messages import SECOND

_LOOK = SECOND // 10
_IDLE_LOOK = 2 * SECOND
# To look at all costs time in proportion to their number; so it is done the less often the more there are.
_PER_SUBCHANNEL = SECOND // 5_000
# A window is over when it is this long and this many calls have ended in it, and in any case after the longest.
_WINDOW = SECOND
_ENOUGH = 50
_LONGEST = 5 * SECOND
# A backend is late where more than this share of its calls is.
_LATE = 0.1
# Calls are slow that take so many times what they took at best. The best is forgotten by a share in each window, since
# what is usual changes in the course of a day.
_SLOWER = 4
_FORGET = 0.02
# What was let go at once would bring the strain back: so it is kept for a while, and for twice as long each time.
_KEPT = 5 * SECOND
# The calls of who hangs are refused, where more are lost otherwise, for so long at most; then it is tried whether the
# others can do them.
_REFUSED = 10 * SECOND
_MOST_DOUBLED = 5


@dataclass(slots=True)
class _Part:
    """One connection for calls in the present window.

    Attributes:
        load: its counters.
        judged: calls that had ended when the window began.
        lates: those of them whose deadline had ended them.
        busy: nanoseconds that calls have spent on it in the window, all together.
    """

    load: Load
    judged: int
    lates: int
    busy: int = 0


class Strain:
    """Looks at the counters of those that can be picked.

    Args:
        floor: nanoseconds that are fast enough in any case.
        crowd: shared with the calls, which are told.
    """

    def __init__(self, floor: int, crowd: Crowd) -> None:
        self._floor = floor
        self._crowd = crowd
        self._parts: dict[int, _Part] = {}
        self._began_at = self._looked_at = self._due_at = 0
        self._every = _LOOK
        self._best = 0.0
        self._until = self._kept_for = self._times = 0
        self._refused = 0.0
        self._refused_until = 0

    @property
    def is_on(self) -> bool:
        """Whether protection is to give way."""
        return self._crowd.is_strained

    @property
    def refused(self) -> float:
        """The part of the calls that is refused: what those had that hang, so that it is not the others'."""
        return self._refused

    def refuse_at_most(self, share: float) -> None:
        """Those that hang have had this part of the calls. Who hangs only later was not in the comparison."""
        self._refused = min(self._refused, share)

    def begin(self, ready: Collection[Subchannel], now: int) -> int:
        """Look from now on; return when, in nanoseconds."""
        self._best = 0.0
        self._open(ready, now)
        return self._next(now)

    def end(self) -> None:
        """All is well: look no more."""
        self._times = self._until = 0
        self._refused = 0.0
        self._parts = {}
        self._crowd.is_strained = False

    def look(self, ready: Collection[Subchannel], now: int, share: float = 0.0) -> int | None:
        """Take in how many calls are in flight, and judge at the end of a window.

        Args:
            ready: those that can be picked.
            now: nanoseconds.
            share: the part of the calls that those had which hang.

        Returns:
            When to look again, in nanoseconds; None where there are no calls: the next that fails begins anew.
        """
        if now > self._due_at + _LOOK:
            # A look that comes late tells of the client's own standstill: so the window begins anew.
            self._open(ready, now)
        here = {sub.id: sub.load for sub in ready}
        self._parts = {sub: part for sub, part in self._parts.items() if here.get(sub) is part.load}
        for sub, load in here.items():
            if sub not in self._parts:
                self._parts[sub] = _part(load)
        ended = sum(part.load.judged - part.judged for part in self._parts.values())
        self._take_in(now)
        length = now - self._began_at
        if length >= _LONGEST or (length >= _WINDOW and ended >= _ENOUGH):
            self._judge(now, share)
            self._open(ready, now)
        self._crowd.is_strained = now < self._until
        self.refuse_at_most(share if now < min(self._until, self._refused_until) else 0.0)
        is_idle = not (ended or any(load.in_flight for load in here.values()))
        if is_idle and self._every == _IDLE_LOOK and not self.is_on:
            return None
        return self._next(now, is_idle=is_idle)

    def _take_in(self, now: int) -> None:
        # What is in flight after a long pause began in it, nobody knows when.
        passed, self._looked_at = now - self._looked_at, now
        if self._every == _LOOK:
            for part in self._parts.values():
                part.busy += part.load.in_flight * passed

    def _open(self, ready: Collection[Subchannel], now: int) -> None:
        self._began_at = self._looked_at = now
        self._parts = {sub.id: _part(sub.load) for sub in ready}

    def _next(self, now: int, *, is_idle: bool = False) -> int:
        self._every = min(2 * self._every, _IDLE_LOOK) if is_idle else _LOOK
        self._due_at = now + max(self._every, len(self._parts) * _PER_SUBCHANNEL)
        return self._due_at

    def _judge(self, now: int, share: float) -> None:
        if not self._is_too_much():
            return
        if now >= self._until:
            self._kept_for = _KEPT << self._times
            self._times = min(self._times + 1, _MOST_DOUBLED)
        self._until = now + self._kept_for
        if self._lost > share > 0:
            self._refused = share
            self._refused_until = now + min(self._kept_for, _REFUSED)

    @property
    def _lost(self) -> float:
        """Of the calls that have ended in the window, the share that was late."""
        late = sum(_lates(part.load) - part.lates for part in self._parts.values())
        return late / max(1, sum(part.load.judged - part.judged for part in self._parts.values()))

    def _is_too_much(self) -> bool:
        ended = [(part.load.judged - part.judged, part) for part in self._parts.values()]
        busy = [(calls, part) for calls, part in ended if calls or part.busy]
        if not busy:
            return False
        late = sum(not is_in_time(calls, _lates(part.load) - part.lates, _LATE) for calls, part in busy)
        # The median: one that is slow or silent says nothing of the others.
        took = statistics.median_low(part.busy / max(1, calls) for calls, part in busy)
        self._best = min(self._best * (1 + _FORGET), took) if self._best else took
        return 2 * late > len(busy) or took > max(_SLOWER * self._best, self._floor)


def _part(load: Load) -> _Part:
    return _Part(load, load.judged, _lates(load))


def _lates(load: Load) -> int:
    # A call that a hedge has beaten was late by the hedging delay, and not by its deadline.
    return load.lates - load.beaten
