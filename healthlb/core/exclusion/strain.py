"""Whether those that are left can do the work: an ejection gives the others more to do, and so do retries and hedges.

Theory: an ejection spares callers the failures of one backend, and gives its calls to the others. Where these have no
room for them, their lines grow until all answers come too late: a partial fault becomes an outage. A client cannot know
how much its backends can do, but it sees what comes of it. Strained is a fleet of which most are late, or slower by far
than they were a while ago; how long calls take follows from how many are in flight (Little's law), so none is timed.

        well ──most are late, or slow──▶ strained ──no more, and for a while longer each time──▶ well

While it is strained, protection gives way: who is ejected comes back, nobody is ejected, and no call is sent twice.
Who hangs cannot come back: what the others cannot do of its calls is refused (`refused_share`), and so long as it is,
the fleet is strained.

The one rule: looked at only where calls have failed of late, or somebody may hang; a channel that is well, or idle, is
not woken.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection
from dataclasses import dataclass

from healthlb.core.exclusion.outlier_rules import is_in_time
from healthlb.core.exclusion.refused_share import RefusedShare, Window
from healthlb.core.load import CallLimiter, Load, Subchannel
from healthlb.core.messages import SECOND

_LOOK = SECOND // 10
_IDLE_LOOK = 2 * SECOND
# To look at all costs time in proportion to their number; so it is done the less often the more there are.
_PER_SUBCHANNEL = SECOND // 5_000
# A window is over when it is this long and this many calls have ended in it, and in any case after the longest.
_WINDOW = SECOND
_ENOUGH, _ENOUGH_LATE = 50, 10
_LONGEST = 5 * SECOND
# A backend is late where more than this share of its calls is.
_LATE = 0.1
# Calls are slow that take so many times what they took at best. The best is forgotten by a share in each window, since
# what is usual changes in the course of a day.
_SLOWER = 4
_FORGET = 0.02
# Calls that take so many times what they took at best, and so many times the floor, do not do so by chance.
_FAR_SLOWER, _FAR_ABOVE = 8, 4
# What was let go at once would bring the strain back: so it is kept for a while, and for twice as long each time.
_KEPT = 5 * SECOND
_MOST_DOUBLED = 5


@dataclass(slots=True)
class _Part:
    """One connection for calls in the present window.

    Attributes:
        load: its counters.
        judged: calls that had ended when the window began.
        lates: those of them whose deadline had ended them.
        picks: calls that were begun by then.
        busy: nanoseconds that calls have spent on it in the window, all together.
    """

    load: Load
    judged: int
    lates: int
    picks: int
    busy: int = 0

    @property
    def ended(self) -> int:
        """Calls that have ended in the window."""
        return self.load.judged - self.judged

    @property
    def late(self) -> int:
        """Those of them whose deadline has ended them."""
        return _lates(self.load) - self.lates


class Strain:
    """Looks at the counters of those that can be picked.

    Args:
        floor: nanoseconds that are fast enough in any case.
        limiter: shared with the calls, which are told.
    """

    def __init__(self, floor: int, limiter: CallLimiter) -> None:
        self._floor = floor
        self._limiter = limiter
        self._parts: dict[int, _Part] = {}
        self._began_at = self._looked_at = self._due_at = 0
        self._every = _LOOK
        self._best = 0.0
        self._until = self._kept_for = self._times = 0
        self._refused = RefusedShare()
        self._share, self._has_more = 0.0, False
        self._shed = 0

    @property
    def is_on(self) -> bool:
        """Whether protection is to give way."""
        return self._limiter.is_strained

    @property
    def refused(self) -> float:
        """The part of the calls that is refused, since some hang and the others cannot do it."""
        return self._refused.value

    def refuse_at_most(self, share: float) -> None:
        """Refuse no more than this part of the calls, which those had that hang."""
        self._refused.at_most(share)

    def begin(self, ready: Collection[Subchannel], now: int) -> int:
        """Look from now on; return when, in nanoseconds."""
        self._best = 0.0
        self._open(ready, now)
        return self._next(now)

    def end(self) -> None:
        """All is well: look no more."""
        self._times = self._until = 0
        self._refused.at_most(0.0)
        self._parts = {}
        self._limiter.is_strained = False

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
        self._follow(ready)
        is_idle = not (self._ended or any(sub.load.in_flight for sub in ready))
        self._compare(ready, share, now)
        self._refused.at_most(share)
        self._take_in(now)
        if self._is_over(now):
            self._judge(now, share)
            self._open(ready, now)
        self._limiter.is_strained = now < self._until or self.refused > 0
        if is_idle and self._every == _IDLE_LOOK and not self.is_on:
            return None
        return self._next(now, is_idle=is_idle and not self._has_more)

    def _follow(self, ready: Collection[Subchannel]) -> None:
        here = {sub.id: sub.load for sub in ready}
        self._parts = {sub: part for sub, part in self._parts.items() if here.get(sub) is part.load}
        for sub, load in here.items():
            if sub not in self._parts:
                self._parts[sub] = _part(load)

    def _compare(self, ready: Collection[Subchannel], share: float, now: int) -> None:
        """Begin the window anew where somebody has fallen silent: until then the others had their own calls only.

        It begins once more with the next look. By then they have the calls that were rescued, which come all at once,
        and say nothing of what follows.
        """
        is_more = share > self._share
        if is_more and self._ended and not self._has_more:
            self._took()
        if is_more or self._has_more:
            self._open(ready, now)
        self._has_more, self._share = is_more, share

    def _is_over(self, now: int) -> bool:
        length = now - self._began_at
        if length < _WINDOW or length >= _LONGEST:
            return length >= _LONGEST
        # Where some hang, the others may soon be late with all: a few calls that are say enough.
        return self._ended >= _ENOUGH or (self._share > 0 and self._late >= _ENOUGH_LATE)

    @property
    def _ended(self) -> int:
        return sum(part.ended for part in self._parts.values())

    @property
    def _late(self) -> int:
        return sum(part.late for part in self._parts.values())

    def _take_in(self, now: int) -> None:
        # What is in flight after a long pause began in it, nobody knows when.
        passed, self._looked_at = now - self._looked_at, now
        if self._every == _LOOK:
            for part in self._parts.values():
                part.busy += part.load.in_flight * passed

    def _open(self, ready: Collection[Subchannel], now: int) -> None:
        self._began_at = self._looked_at = now
        self._shed = self._limiter.shed
        self._parts = {sub.id: _part(sub.load) for sub in ready}

    def _next(self, now: int, *, is_idle: bool = False) -> int:
        self._every = min(2 * self._every, _IDLE_LOOK) if is_idle else _LOOK
        self._due_at = now + max(self._every, len(self._parts) * _PER_SUBCHANNEL)
        return self._due_at

    def _judge(self, now: int, share: float) -> None:
        busy = [part for part in self._parts.values() if part.ended or part.busy]
        late = sum(not is_in_time(part.ended, part.late, _LATE) for part in busy)
        took = self._took()
        is_late, is_slow = 2 * late > len(busy), took > max(_SLOWER * self._best, self._floor)
        is_clear = is_slow and (is_late or took > max(_FAR_SLOWER * self._best, _FAR_ABOVE * self._floor))
        window = self._window(now, is_clear=is_clear)
        if not (is_late or is_slow):
            self._refused.well(window, share)
            return
        if now >= self._until and not self.refused:
            self._kept_for = _KEPT << self._times
            self._times = min(self._times + 1, _MOST_DOUBLED)
        self._until = now + self._kept_for
        self._refused.full(window, share)

    def _window(self, now: int, *, is_clear: bool) -> Window:
        begun = sum(part.load.picks - part.picks for part in self._parts.values())
        offered = begun + self._limiter.shed - self._shed
        return Window(now - self._began_at, offered, self._ended, self._late, is_clear)

    def _took(self) -> float:
        """Return how long calls took (ns), and keep in mind what they took at best."""
        times = [part.busy / max(1, part.ended) for part in self._parts.values() if part.ended or part.busy]
        if not times:
            return 0.0
        # The median: one that is slow or silent says nothing of the others.
        took = statistics.median_low(times)
        self._best = min(self._best * (1 + _FORGET), took) if self._best else took
        return took


def _part(load: Load) -> _Part:
    return _Part(load, load.judged, _lates(load), load.picks)


def _lates(load: Load) -> int:
    # A call that a hedge has superseded was late by the hedging delay, and not by its deadline.
    return load.lates - load.superseded
