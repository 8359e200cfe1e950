"""How large the part of the calls is that is refused while some backends hang and the others have too much to do.

Theory: those that hang had a part of the calls. With all of it refused the others have as much to do as without the
hang; with none of it refused they may have more than they can do. What they can do lies between, and it shows where
they are full: then as many calls end in time as they can do, and what was offered beyond that is too much.

        most calls late ──▶ all of the hung ones' part
        late or slow    ──▶ what was not done in time, where that is more than now
        in time         ──▶ a little less: soon down to what they did when they were full, then slowly on to nothing

So a hang costs about what the others cannot do, instead of all that the hung ones had.

The one rule: never more than the hung ones' part, and nothing where the others do all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from healthlb.core.messages import SECOND

# In these times others that are in time get back the hung ones' part: as far as they are known to do it, and beyond.
_BACK = 4 * SECOND
_BEYOND = 30 * SECOND
# A window of few calls is long, and says no more than one of a second.
_WINDOW = SECOND
# While calls are refused, the others are not in time if more of their calls are late, be they those of one or of all.
_FEW_LATE = 0.1


@dataclass(frozen=True, slots=True)
class Window:
    """What came of the calls in a time.

    Attributes:
        length: nanoseconds.
        offered: calls that were begun on the others, or refused.
        ended: calls that have ended, cancelled ones excepted.
        lates: those of them that their deadline has ended.
        is_clear: whether calls were slow by far, or slow and late.
    """

    length: int
    offered: int
    ended: int
    lates: int
    is_clear: bool

    @property
    def lost(self) -> float:
        """The part of the calls that have ended which was late."""
        return self.lates / max(1, self.ended)

    @property
    def undone(self) -> float:
        """The part of what was offered that was not done in time."""
        return max(0.0, 1 - (self.ended - self.lates) / max(1, self.offered))

    @property
    def is_certain(self) -> bool:
        """Whether it is clear, and more was left undone than chance explains: a number of calls varies by its root."""
        return self.is_clear and self.undone * self.offered > math.sqrt(self.offered)


class RefusedShare:
    """The part of the calls that is refused.

    Attributes:
        value: from 0 to 1.
    """

    __slots__ = ("_in_row", "_undone", "value")

    def __init__(self) -> None:
        self.value = 0.0
        # The least that the others left undone when they were full, None where that is not known; and how many times in
        # a row they were.
        self._undone: float | None = None
        self._in_row = 0

    def at_most(self, share: float) -> None:
        """Those that hang had this part of the calls: 0 where nobody hangs."""
        self.value = min(self.value, share)
        if not share:
            self._undone, self._in_row = None, 0

    def full(self, window: Window, share: float) -> None:
        """The others have too much to do: refuse more, once that is no chance."""
        self._in_row += 1
        if window.lost > share > 0:
            self.value = share
        elif self.value or self._in_row > 1 or window.is_certain:
            undone = min(window.undone, share)
            self._undone = undone if self._undone is None else min(self._undone, undone)
            self.value = max(self.value, undone)

    def well(self, window: Window, share: float) -> None:
        """The others are not slow, and most are in time: refuse less."""
        if self.value and window.lost > _FEW_LATE:
            self.full(window, share)
            return
        self._in_row = 0
        step = share * min(window.length, _WINDOW)
        known = min(self._undone or 0.0, self.value)
        self.value = max(self.value - step / _BACK, known - step / _BEYOND, 0.0)
        if not self.value:
            self._undone = None
