"""One call's wait for a subchannel. Pure; faces and simulator share it.

The one rule: whoever waits has a place, and gives it back however the wait ends.
"""

from __future__ import annotations

from typing import Any

from healthlb.core.load import Place
from healthlb.core.messages import Code, Fail
from healthlb.core.overload import MAX_WAIT, MAX_WAITING
from healthlb.core.snapshot import Snapshot


class Wait:
    """A wait that has begun.

    Args:
        pool: the channel's, with `admission` and `refuse`.
        place: among those that wait.
        now: nanoseconds.
        deadline: the call's, likewise; None for none.

    Attributes:
        ends_at: when it ends at the latest, in nanoseconds; None for never.
    """

    __slots__ = ("_is_capped", "_place", "_pool", "ends_at")

    def __init__(self, pool: Any, place: Place, now: int, deadline: int | None) -> None:
        longest = pool.admission.policy.max_wait_ns
        self._pool = pool
        self._place = place
        self._is_capped = longest is not None and (deadline is None or now + longest < deadline)
        self.ends_at = now + longest if longest is not None and self._is_capped else deadline

    def ran_out(self, snapshot: Snapshot) -> Fail:
        """Return how the call ends whose wait has taken too long."""
        if self._is_capped:
            fail: Fail = self._pool.refuse(MAX_WAIT, snapshot)
            return fail
        return Fail(Code.DEADLINE_EXCEEDED, f"Deadline Exceeded: {snapshot.describe()}")

    def end(self) -> None:
        """Give the place back."""
        self._place.leave()


def begin_wait(pool: Any, now: int, deadline: int | None, snapshot: Snapshot) -> Wait | Fail:
    """Return the wait of a call, or how it ends where too many wait already.

    Args:
        pool: the channel's, with `admission` and `refuse`.
        now: nanoseconds.
        deadline: the call's, likewise; None for none.
        snapshot: that it found nothing in.
    """
    place = pool.admission.crowd.wait()
    if place is None:
        fail: Fail = pool.refuse(MAX_WAITING, snapshot)
        return fail
    return Wait(pool, place, now, deadline)
