"""What the calls on a subchannel's connections have come to that are gone.

The one rule: a connection that is gone takes nothing along; what its calls have said of the server still holds.
"""

from __future__ import annotations

from healthlb.core.load import Load


class PastCalls:
    """Sums up the counters of connections for calls, once those have ended.

    Attributes:
        counts: picks, successes and failures.
        last_success_at: when a call on them has last succeeded, in nanoseconds; 0 for never.
    """

    __slots__ = ("counts", "last_success_at")

    def __init__(self) -> None:
        self.counts = (0, 0, 0)
        self.last_success_at = 0

    def add(self, load: Load) -> None:
        """Take over the counters of a connection that has ended."""
        picks, successes, failures = self.counts
        self.counts = (picks + load.picks, successes + load.successes, failures + load.failures)
        self.last_success_at = max(self.last_success_at, load.last_success_at)
