"""Bounds the work that a server can make for its client by sending statuses.

Statuses are followed at once up to a burst, then at a bounded rate; of those that wait, only the newest counts. If a
server sends so many that reading them is too much work, its Watch is ended and started again after a pause. Nothing is
lost by that: a Watch begins with the present status (`grpc.health.v1`). The first status on each connection is always
followed: how many of these there are is bounded by how many connections are made.
"""

from __future__ import annotations

from healthlb.core.backoff import jittered
from healthlb.core.event_context import EventContext
from healthlb.core.messages import SECOND, Report, StatusFlood
from healthlb.core.random_streams import Draws
from healthlb.core.rate_limit import Rate

FOLLOWED_AT_ONCE, FOLLOWED_INTERVAL = 50, SECOND // 10
READ_AT_ONCE, READ_INTERVAL = 1000, SECOND // 200
_PAUSE = SECOND // 2
_REPORT_INTERVAL = 10 * SECOND


class StatusFlow:
    """The statuses that one subchannel's Watches report.

    Args:
        sub: the subchannel's id.
        jitter: by which share the pause varies in either direction, from 0 to 1.
        rng: the random stream for that.

    Attributes:
        waiting: the newest status that has not been followed yet; None if there is none.
    """

    def __init__(self, sub: int, jitter: float, rng: Draws) -> None:
        self.waiting: int | None = None
        self._sub = sub
        self._jitter = jitter
        self._rng = rng
        self._followed = Rate(FOLLOWED_AT_ONCE, FOLLOWED_INTERVAL)
        self._read = Rate(READ_AT_ONCE, READ_INTERVAL)
        self._reports = Rate(1, _REPORT_INTERVAL)
        self._passed_over = 0
        self._is_first = True

    def is_followed(self, status: int, context: EventContext) -> bool:
        """Return whether to follow a status that has just arrived; if not, the timer "status" is set for it."""
        is_first, self._is_first = self._is_first, False
        if is_first or (self.waiting is None and self._followed.take(context.now)):
            return True
        if self.waiting is not None:
            self._passed_over += 1
        self.waiting = status
        context.timers.set((self._sub, "status", 0), self._followed.next_at)
        return False

    def is_too_much(self, now: int) -> bool:
        """Count a status that has arrived, and return whether the Watch must pause."""
        return not self._read.take(now)

    def take(self, context: EventContext) -> int | None:
        """Return the status that waits and forget it; None if there is none."""
        status, self.waiting = self.waiting, None
        if status is not None:
            context.timers.cancel((self._sub, "status", 0))
            self._followed.take(context.now)
        return status

    def forget(self, context: EventContext) -> None:
        """Forget what was said on a connection that is gone."""
        self.waiting, self._is_first = None, True
        context.timers.cancel((self._sub, "status", 0))

    def resumes_at(self, now: int) -> int:
        """Return when the Watch that pauses starts again, in nanoseconds."""
        return now + jittered(_PAUSE, self._jitter, self._rng)

    def tell(self, address: str, context: EventContext) -> None:
        """Report how many statuses were passed over: the first at once, later ones at most every ten seconds."""
        if self._passed_over and self._reports.take(context.now):
            context.effects.append(Report(StatusFlood(context.now, self._sub, address, self._passed_over)))
            self._passed_over = 0
