"""How long to wait before the next Watch."""

from __future__ import annotations

import random
from dataclasses import replace

from healthlb.config import HealthCheck
from healthlb.core.backoff import BackoffDelays
from healthlb.core.messages import SECOND

_STABLE_AFTER = 10 * SECOND


class Restarts:
    """The delays between the Watches of one subchannel.

    Args:
        policy: backoff and floor.
        rng: the stream for jitter.
    """

    def __init__(self, policy: HealthCheck, rng: random.Random) -> None:
        self._backoff = BackoffDelays(policy.backoff, rng)
        floor = min(policy.min_restart_interval, policy.backoff.maximum)
        self._floor = BackoffDelays(replace(policy.backoff, initial=floor), rng)

    def connected(self) -> None:
        """Begin anew: there is a fresh connection."""
        self._backoff.reset()
        self._floor.reset()

    def answered(self) -> None:
        """A Watch has said something (gRFC A17)."""
        self._backoff.reset()

    def delay(self, lasted: int | None) -> int:
        """Return the wait after a Watch that lasted so long, None where it has said nothing; in nanoseconds."""
        if lasted is None:
            return self._backoff.next()
        if lasted >= _STABLE_AFTER:
            self._floor.reset()
            return 0
        # A17 would restart at once: against a server that answers and closes, 1,000 times a second.
        return self._floor.next()
