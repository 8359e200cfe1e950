"""When a connection for calls gets a fresh one, since calls on it go without answer.

The one rule: the heartbeat asks over the control connection, and that may live while this one is cut off.
"""

from __future__ import annotations

import random

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays

# Calls without any answer for this long get a fresh connection, then less and less often.
_REFRESH = Backoff(initial=5.0, jitter=0.0)


class Refreshes:
    """The suspicions against one subchannel's connections for calls.

    Args:
        rng: the stream for jitter.
    """

    __slots__ = ("_delays", "_due_at", "_since")

    def __init__(self, rng: random.Random) -> None:
        self._delays = BackoffDelays(_REFRESH, rng)
        self._since = 0
        self._due_at = 0

    def is_due(self, last_success_at: int, now: int) -> bool:
        """Take in that a call got no answer in time; True where it is time for a fresh connection."""
        is_first = last_success_at >= self._since
        if is_first:
            self._since = now
            self._delays.reset()
        elif now < self._due_at:
            return False
        self._due_at = now + self._delays.next()
        return not is_first
