"""When Watches begin, when one that ended is begun again, and what its caller hears of it.

A server that closes old connections ends its Watches too, and the next one says within moments how things are. So the
end of a Watch that has spoken is not told: only when the next one ends without a word is nothing known any more. That
is told once, and again where the status code of the failure changes.

Of a server that says more than its caller can follow, the newest status is told: whoever reads passes over those that
came before. If reading is too much work, the Watch is ended and begun again after a pause, as a channel does; nothing
is lost by that, for a Watch begins with the present status (`grpc.health.v1`).
"""

from __future__ import annotations

import random

from healthlb.config import Backoff, HealthCheck
from healthlb.core.backoff import BackoffDelays
from healthlb.core.messages import SECOND, Code
from healthlb.core.random_streams import Draws
from healthlb.core.rate_limit import Rate
from healthlb.core.subchannel.status_flood import READ_AT_ONCE, READ_INTERVAL

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


TELL_PAUSE = 0.01
"""Seconds between two statuses that are told of one Watch, so that no server can keep its client busy."""
FLOOD_PAUSE = 0.5
"""Seconds until a Watch is begun again that said more than is read."""


class Following:
    """The Watches of one caller, one after the other.

    Args:
        backoff: between Watches that end without a word.
        rng: the stream for jitter.
    """

    __slots__ = ("_backoff", "_failure", "_has_answered", "_read", "_started_at", "_status")

    def __init__(self, backoff: Backoff, rng: random.Random) -> None:
        self._backoff = WatchBackoff(HealthCheck(backoff=backoff), rng)
        self._read = Rate(READ_AT_ONCE, READ_INTERVAL)
        self._started_at = 0
        self._has_answered = False
        # What the caller was told last: a status, or how a Watch failed.
        self._status: int | None = None
        self._failure: Code | None = None

    @property
    def has_spoken(self) -> bool:
        """Whether any Watch has reported a status: what fails later is no mistake of configuration."""
        return self._status is not None

    def started(self, now: int) -> None:
        """A Watch begins, at `now` in nanoseconds."""
        self._started_at = now
        self._has_answered = False

    def is_too_much(self, now: int) -> bool:
        """Count a message that was read, and return whether the Watch is to be begun again after `FLOOD_PAUSE`."""
        return not self._read.take(now)

    def is_news(self, status: int) -> bool:
        """Take in a status; return whether the caller is to hear of it. An equal one is no news (gRFC A17)."""
        if not self._has_answered:
            self._has_answered = True
            self._backoff.answered()
        is_news = self._failure is not None or status != self._status
        self._status, self._failure = status, None
        return is_news

    def ended(self, code: Code, now: int) -> tuple[int, bool]:
        """Take in the end of a Watch; return nanoseconds until the next, and whether the caller is to hear of it."""
        if self._has_answered:
            return self._backoff.delay(now - self._started_at), False
        is_news, self._failure = code is not self._failure, code
        return self._backoff.delay(None), is_news
