"""How often something may happen: so many times at once, then once per interval.

It is the generic cell rate algorithm, a token bucket in integers: instead of tokens it keeps the time at which the
bucket will be full again.
"""

from __future__ import annotations


class Rate:
    """A bound on how often something happens.

    Args:
        burst: how many times at once, at least 1.
        interval: nanoseconds for each further time.
    """

    __slots__ = ("_allowance", "_full_at", "_interval")

    def __init__(self, burst: int, interval: int) -> None:
        self._interval = interval
        self._allowance = (burst - 1) * interval
        self._full_at = 0

    def take(self, now: int) -> bool:
        """Whether it may happen now, which then counts."""
        if now < self.next_at:
            return False
        self._full_at = max(self._full_at, now) + self._interval
        return True

    @property
    def next_at(self) -> int:
        """When it may happen next, in nanoseconds; that may be past."""
        return self._full_at - self._allowance
