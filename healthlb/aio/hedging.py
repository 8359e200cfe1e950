"""Which hedged calls are late: one timer looks after all that have made one attempt so far.

So a call that is answered in time sets no timer of its own and makes no plan. As of its end nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from healthlb.core.messages import SECOND


class HedgedCall(Protocol):
    """A hedged call that waits for its first attempt.

    Attributes:
        started_at: when that began, in seconds on the monotonic clock.
    """

    started_at: float

    def hedge(self) -> None:
        """Go on by the plan, since the first attempt is late; nothing where it has ended meanwhile."""


class FirstAttempts:
    """The hedged calls of one channel and one hedging delay that have made one attempt so far, and wait for it.

    The timer holds no call that has ended, and not the channel.

    Args:
        delay: the hedging delay, in nanoseconds.

    Attributes:
        waiting: the calls; each puts itself in by `enter` and takes itself out.
    """

    def __init__(self, delay: int) -> None:
        self.waiting: dict[HedgedCall, None] = {}
        self._delay = delay / SECOND
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, call: HedgedCall) -> None:
        """Add a call whose first attempt begins."""
        self.waiting[call] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay, self._look)

    def stop(self) -> None:
        """Take the timer back: the channel is closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        # Before the look: whatever one call does in it, the next that comes sets the timer itself.
        self._timer = None
        due = time.monotonic() - self._delay
        for call in [call for call in self.waiting if call.started_at <= due]:
            if call in self.waiting:  # what went on before it may have ended it
                del self.waiting[call]
                call.hedge()
        if self.waiting and self._timer is None:
            first = min(call.started_at for call in self.waiting)
            self._timer = asyncio.get_running_loop().call_later(max(0.0, first - due), self._look)
