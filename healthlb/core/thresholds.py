"""How many statuses in a row it takes to change one's mind: `rise` and `fall`.

Theory: a checker that polls counts answers. A Watch tells of changes only, so that a status which stands would never be
said a second time. But its silence is an answer too: on a stream that lives, nothing has changed. So each report
counts, a repeated one as well, and a status that stands for an interval counts as said again.

The one rule: a row is of one connection, and the first status on a connection suffices. An end of the Watch breaks it.
"""

from __future__ import annotations

from healthlb.core.health import Signal


class Row:
    """The statuses in a row on the present connection.

    Args:
        rise: SERVING in a row that make an unhealthy subchannel healthy.
        fall: other statuses in a row that make a healthy one unhealthy.
    """

    __slots__ = ("_count", "_fall", "_has_word", "_is_serving", "_rise")

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self.forget()

    def forget(self) -> None:
        """The connection is gone."""
        self._has_word = False
        self.interrupt()

    def interrupt(self) -> None:
        """The Watch has ended."""
        self._is_serving = False
        self._count = 0

    def said(self, is_serving: bool, is_healthy: bool) -> Signal:
        """Take in a status, or that it still stands; return what it amounts to.

        Args:
            is_serving: whether it is SERVING.
            is_healthy: whether the subchannel has counted as healthy so far.
        """
        is_same = is_serving is self._is_serving
        self._is_serving = is_serving
        self._count = self._count + 1 if is_same else 1
        is_first, self._has_word = not self._has_word, True
        is_enough = is_first or is_serving is is_healthy or self._count >= self.needed
        if is_serving:
            return Signal.SERVING if is_enough else Signal.RISING
        return Signal.OTHER if is_enough else Signal.FALLING

    @property
    def needed(self) -> int:
        """How long the row must be."""
        return self._rise if self._is_serving else self._fall

    @property
    def progress(self) -> str:
        """How far the row has come, in words."""
        return f"{self._count} of {self.needed}"
