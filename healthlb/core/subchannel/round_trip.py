"""How long to wait for an answer, learned from earlier answers (RFC 6298, TCP's retransmission timeout)."""

from __future__ import annotations

from healthlb.core.messages import SECOND

# Linux sends a lost segment again after 200 ms at the soonest, and a collection of garbage may take a few hundred:
# neither must look like silence.
_FLOOR = 2 * SECOND // 5
_FIRST = SECOND


class RoundTrip:
    """The smoothed time that answers take, and its deviation.

    Args:
        most: the longest timeout, in nanoseconds. Before the first answer it is 1 s, or `most` if that is less.
        least: the shortest timeout, in nanoseconds, unless `most` is shorter.

    Attributes:
        timeout: how long to wait for the next answer, in nanoseconds.
    """

    __slots__ = ("_deviation", "_least", "_most", "_smoothed", "timeout")

    def __init__(self, most: int, least: int = _FLOOR) -> None:
        self._most = most
        self._least = least
        self._smoothed: int | None = None
        self._deviation = 0
        self.timeout = min(most, _FIRST)

    def answered(self, took: int) -> None:
        """Take in that an answer took so many nanoseconds."""
        if self._smoothed is None:
            self._smoothed, self._deviation = took, took // 2
        else:
            self._deviation += (abs(took - self._smoothed) - self._deviation) // 4
            self._smoothed += (took - self._smoothed) // 8
        self.timeout = min(self._most, max(self._least, self._smoothed + 4 * self._deviation))

    @property
    def least_timeout(self) -> int:
        """How long to wait at least for an answer that is already late by a quarter of that, in nanoseconds."""
        return self.timeout - self.timeout // 4
