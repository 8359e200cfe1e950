"""When the next Watch of a subchannel starts, and how many Watches start together."""

from __future__ import annotations

from healthlb.config import HealthCheck
from healthlb.core.backoff import BackoffDelays
from healthlb.core.messages import SECOND
from healthlb.core.random_streams import Draws
from healthlb.core.rate_limit import Rate

_STABLE_AFTER = 10 * SECOND
STARTS_AT_ONCE, START_INTERVAL = 100, SECOND // 2000


class WatchStarts:
    """When Watches begin, over all channels that share an event loop: a hundred at once, then 2,000 a second.

    To start a thousand in one go would hold up the loop's calls, and Watches that began together end together where
    something on the way limits how long a stream lasts.
    """

    __slots__ = ("_rate",)

    def __init__(self) -> None:
        self._rate = Rate(STARTS_AT_ONCE, START_INTERVAL)

    def reserve(self, now: int) -> int:
        """Return when the next Watch may begin, in nanoseconds; `now` or later. Nobody else gets that moment."""
        at = max(now, self._rate.next_at)
        self._rate.take(at)
        return at


class WatchBackoff:
    """The delays between the Watches of one subchannel.

    Args:
        policy: the backoff, and the shortest delay.
        rng: the random stream for jitter.
    """

    def __init__(self, policy: HealthCheck, rng: Draws) -> None:
        self._backoff = BackoffDelays(policy.backoff, rng)
        floor = min(policy.min_restart_interval_ns, policy.backoff.maximum_ns)
        self._floor = BackoffDelays(policy.backoff, rng, floor)

    def connected(self) -> None:
        """Forget earlier failures: there is a fresh connection."""
        self._backoff.reset()
        self._floor.reset()

    def answered(self) -> None:
        """Forget earlier failures: a Watch has reported a status (gRFC A17)."""
        self._backoff.reset()

    def delay(self, lasted: int | None) -> int:
        """Return the delay before the next Watch, in nanoseconds, after one that lasted so long; None if that reported
        nothing.
        """
        if lasted is None:
            return self._backoff.next()
        if lasted >= _STABLE_AFTER:
            self._floor.reset()
            return 0
        # A17 would restart at once: against a server that answers and closes, 1,000 times a second.
        return self._floor.next()
