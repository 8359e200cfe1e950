"""Whether a worker is still at it: it says so itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from healthlb.config import check_number
from healthlb.server.checks.unhealthy import Unhealthy


class HeartbeatCheck:
    """A check that passes while `feed` was called within the last seconds; never fed, it fails.

    Args:
        within: seconds; above 0.
        clock: seconds that only grow.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    def __init__(self, within: float, clock: Callable[[], float] = time.monotonic) -> None:
        check_number("within", within, above=0)
        self._within = within
        self._clock = clock
        self._fed_at: float | None = None

    def feed(self) -> None:
        """Say that all is well; from any thread, takes no time."""
        self._fed_at = self._clock()

    def __call__(self) -> None:
        """Check.

        Raises:
            Unhealthy: it was not fed in time.
        """
        if self._fed_at is None:
            raise Unhealthy("never fed")
        age = self._clock() - self._fed_at
        if age > self._within:
            raise Unhealthy(f"last fed {age:.1f} s ago, more than {self._within:g}")
