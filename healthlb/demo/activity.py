"""What the lanes show: the last half minute of calls per backend, and running totals.

It is fed and read by one thread, with the time as an argument.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from healthlb.core.messages import SECOND
from healthlb.demo.ledger import quantile
from healthlb.demo.records import CallRecord

CELL = SECOND // 2
CELLS = 60
_RECENT = 1_000


@dataclass(frozen=True, slots=True)
class Cell:
    """Half a second of one lane."""

    answered: int = 0
    errors: int = 0

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.answered + other.answered, self.errors + other.errors)


@dataclass(slots=True)
class _BackendCounts:
    """What one backend has answered: calls, errors among them, and both by half second."""

    calls: int = 0
    errors: int = 0
    cells: dict[int, Cell] = field(default_factory=dict)


class Activity:
    """Counts calls by lane and half second.

    Attributes:
        calls: how many ended.
        errors: how many of them failed.
    """

    def __init__(self, lanes: int, started_at: int) -> None:
        self._started_at = started_at
        self._lanes = [_BackendCounts() for _ in range(lanes)]
        self._recent: deque[int] = deque(maxlen=_RECENT)
        self.calls = 0
        self.errors = 0

    def add(self, call: CallRecord) -> None:
        """Count a call at the moment it ended."""
        self.calls += 1
        self.errors += not call.is_ok
        if call.is_ok:
            self._recent.append(call.ended_at - call.started_at)
        if call.backend is None:
            return
        lane = self._lanes[call.backend]
        lane.calls += 1
        lane.errors += not call.is_ok
        cell = self.cell(call.ended_at)
        lane.cells[cell] = lane.cells.get(cell, Cell()) + Cell(int(call.is_ok), int(not call.is_ok))
        lane.cells.pop(cell - 2 * CELLS, None)

    def cell(self, at: int) -> int:
        """The number of the half second that `at` lies in, counted from the start."""
        return max(0, at - self._started_at) // CELL

    def strip(self, lane: int, now: int) -> tuple[Cell, ...]:
        """The lane's last complete cells, oldest first; at most half a minute."""
        current = self.cell(now)
        cells = self._lanes[lane].cells
        return tuple(cells.get(cell, Cell()) for cell in range(max(0, current - CELLS), current))

    def rate(self, lane: int, now: int) -> int:
        """Calls of the lane in the last complete second."""
        last_two = self.strip(lane, now)[-2:]
        return sum(cell.answered + cell.errors for cell in last_two)

    def totals(self, lane: int) -> tuple[int, int]:
        """Calls and errors of the lane since the start."""
        return self._lanes[lane].calls, self._lanes[lane].errors

    @property
    def p50(self) -> float | None:
        """The median of the last 1,000 answered calls, in seconds."""
        return quantile(sorted(self._recent), 0.5)
