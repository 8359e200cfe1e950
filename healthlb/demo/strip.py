"""The strip of one lane: how many calls when, and where faults hit.

The one rule: a column always stands for the same time, so that the strip moves and never flickers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from healthlb.demo.activity import Cell
from healthlb.demo.frame import Mark

_BARS = "▁▂▃▄▅▆▇█"
FAULT_STYLE = "magenta"
REPAIR_STYLE = "green"


@dataclass(frozen=True, slots=True)
class Strip:
    """The last half minute of one lane as columns of text.

    Attributes:
        cells: the last complete half seconds, oldest first.
        current_cell: the number of the half second after these.
        marks: the lane's faults and repairs.
        merged: how many half seconds one column stands for.
        width: how many columns there are.
        full: how many calls in one column make a full bar; above 0.
    """

    cells: Sequence[Cell]
    current_cell: int
    marks: Sequence[Mark]
    merged: int
    width: int
    full: float

    def bars(self) -> Text:
        """One sign per column: a fault, a repair, an error, or the calls as a bar."""
        text = Text()
        signs = {mark.cell // self.merged: mark for mark in self.marks}
        for column, cell in self._columns():
            text.append(*self._sign(cell, signs.get(column)))
        text.pad_right(self.width - len(text))
        return text

    def labels(self) -> Text:
        """The names of faults and repairs below their signs, as far as there is room."""
        text = Text()
        first = self._first_column()
        for mark in self.marks:
            column = mark.cell // self.merged - first
            begin = max(0, min(column, self.width - len(mark.label)))
            if column >= 0 and begin >= len(text) + bool(text):
                text.pad_right(begin - len(text))
                text.append(mark.label, REPAIR_STYLE if mark.is_repair else FAULT_STYLE)
        return text

    def _sign(self, cell: Cell, mark: Mark | None) -> tuple[str, str]:
        if mark is not None and mark.is_repair:
            return "▲", REPAIR_STYLE
        if mark is not None:
            return "▼", "bold red" if cell.errors else FAULT_STYLE
        if cell.errors:
            return "✗", "bold red"
        if cell.answered:
            height = min(1.0, cell.answered / self.full)
            return _BARS[round(height * (len(_BARS) - 1))], "cyan"
        return "·", "bright_black"

    def _columns(self) -> list[tuple[int, Cell]]:
        # A column that is not complete yet would look like a drop.
        end = self.current_cell // self.merged
        oldest = self.current_cell - len(self.cells)
        columns = []
        for column in range(self._first_column(), end):
            begin = column * self.merged - oldest
            columns.append((column, sum(self.cells[begin : begin + self.merged], Cell())))
        return columns

    def _first_column(self) -> int:
        oldest = -(-(self.current_cell - len(self.cells)) // self.merged)
        return max(oldest, self.current_cell // self.merged - self.width)
