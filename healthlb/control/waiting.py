"""One call's wait for a subchannel, the same in both faces.

The one rule: whoever waits has a place, and gives it back however the wait ends.
"""

from __future__ import annotations

from healthlb.control.pool import PoolBase, too_late
from healthlb.core.load import Place
from healthlb.core.messages import Fail
from healthlb.core.overload import MAX_WAIT, MAX_WAITING
from healthlb.core.snapshot import Snapshot


class Wait:
    """A wait that has begun.

    Args:
        pool: the channel's.
        place: among those that wait.
        now: monotonic seconds.
        deadline: the call's, likewise; None for none.

    Attributes:
        ends_at: when it ends at the latest, in seconds on the monotonic clock; None for never.
    """

    __slots__ = ("_is_capped", "_place", "_pool", "ends_at")

    def __init__(self, pool: PoolBase, place: Place, now: float, deadline: float | None) -> None:
        longest = pool.admission.policy.max_wait
        self._pool = pool
        self._place = place
        self._is_capped = longest is not None and (deadline is None or now + longest < deadline)
        self.ends_at = now + longest if longest is not None and self._is_capped else deadline

    def ran_out(self, snapshot: Snapshot) -> Fail:
        """Return how the call ends whose wait has taken too long."""
        return self._pool.refuse(MAX_WAIT, snapshot) if self._is_capped else too_late(snapshot)

    def end(self) -> None:
        """Give the place back."""
        self._place.leave()


def begin_wait(pool: PoolBase, now: float, deadline: float | None, snapshot: Snapshot) -> Wait | Fail:
    """Return the wait of a call, or how it ends where too many wait already.

    Args:
        pool: the channel's.
        now: monotonic seconds.
        deadline: the call's, likewise; None for none.
        snapshot: that it found nothing in.
    """
    place = pool.admission.crowd.wait()
    if place is None:
        return pool.refuse(MAX_WAITING, snapshot)
    return Wait(pool, place, now, deadline)
