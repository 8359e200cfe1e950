"""What a Watch may ask of its client, however much its server sends.

Statuses are followed at once up to a burst, and then at a bounded rate: those between wait, the newest in the place of
the others. A server that sends so many that to read them is too much already has its Watch ended, and begun again
after a pause; a Watch begins with the present status (`grpc.health.v1`), so nothing is lost by that.
"""

from __future__ import annotations

import random

from healthlb.core.backoff import jittered
from healthlb.core.messages import SECOND, Report, StatusFlood
from healthlb.core.rates import Rate
from healthlb.core.turn import Turn

FOLLOWED_AT_ONCE, FOLLOWED_INTERVAL = 50, SECOND // 10
READ_AT_ONCE, READ_INTERVAL = 1000, SECOND // 200
_PAUSE = SECOND // 2
_TOLD_INTERVAL = 10 * SECOND


class StatusFlow:
    """The statuses of one subchannel's Watches.

    Args:
        sub: the subchannel's number.
        jitter: of the pause, the share by which it varies either way.
        rng: the stream for it.

    Attributes:
        waiting: the newest status that has yet to be followed, None where there is none.
    """

    def __init__(self, sub: int, jitter: float, rng: random.Random) -> None:
        self.waiting: int | None = None
        self._sub = sub
        self._jitter = jitter
        self._rng = rng
        self._followed = Rate(FOLLOWED_AT_ONCE, FOLLOWED_INTERVAL)
        self._read = Rate(READ_AT_ONCE, READ_INTERVAL)
        self._told = Rate(1, _TOLD_INTERVAL)
        self._passed_over = 0

    def is_followed(self, status: int, turn: Turn) -> bool:
        """Whether a status that has just arrived is followed now; else it waits for the timer "status"."""
        if self.waiting is None and self._followed.take(turn.now):
            return True
        if self.waiting is not None:
            self._passed_over += 1
        self.waiting = status
        turn.timers.set((self._sub, "status", 0), self._followed.next_at)
        return False

    def is_too_much(self, now: int) -> bool:
        """Count a status that has arrived; whether the Watch is to pause."""
        return not self._read.take(now)

    def take(self, turn: Turn) -> int | None:
        """Return the status that waits, None where there is none; it waits no longer."""
        status, self.waiting = self.waiting, None
        if status is not None:
            turn.timers.cancel((self._sub, "status", 0))
            self._followed.take(turn.now)
        return status

    def forget(self, turn: Turn) -> None:
        """The connection is gone, and what was said on it."""
        self.waiting = None
        turn.timers.cancel((self._sub, "status", 0))

    def resumes_at(self, now: int) -> int:
        """Return when the Watch that pauses is begun again, in nanoseconds."""
        return now + jittered(_PAUSE, self._jitter, self._rng)

    def tell(self, address: str, turn: Turn) -> None:
        """Report how many statuses were passed over; the first at once, those after it every ten seconds."""
        if self._passed_over and self._told.take(turn.now):
            turn.effects.append(Report(StatusFlood(turn.now, self._sub, address, self._passed_over)))
            self._passed_over = 0
