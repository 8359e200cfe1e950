"""A record's bins as a figure can draw them: at most some hundred columns, each a sum over whole bins.

Bins are added, never averaged; what is drawn is computed after the adding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from healthlb.simulation.report.scale import SECOND, Linear, clock
from healthlb.simulation.world.record import RunRecord

MOST_COLUMNS = 160
# Ends of calls so little after the run, as a ratio, go to its last column instead of one of their own.
_LITTLE = 1.03
Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class Timeline:
    """How the time of a run is divided.

    Attributes:
        end: of the axis, in nanoseconds: of the run, or of its last bin.
        bin: the width of the record's bins, in nanoseconds.
        each: how many of them make a column.
        edges: of the columns, in seconds; one more than there are columns.
    """

    end: int
    bin: int
    each: int
    edges: tuple[float, ...]

    @property
    def axis(self) -> Linear:
        """The scale from zero to the end."""
        return clock(self.end)

    @property
    def widths(self) -> tuple[float, ...]:
        """How long each column is, in seconds."""
        return tuple(high - low for low, high in zip(self.edges, self.edges[1:], strict=False))

    def sums(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Return the counts of each column."""
        return tuple(sum(piece) for piece in self._cut(counts))

    def rates(self, counts: Sequence[int]) -> tuple[float, ...]:
        """Return how many a second each column counts."""
        return tuple(count / width for count, width in zip(self.sums(counts), self.widths, strict=True))

    def highest(self, values: Sequence[float]) -> tuple[float | None, ...]:
        """Return the greatest value of each column, None where there is none."""
        return tuple(max(piece, default=None) for piece in self._cut(values))

    def lowest(self, values: Sequence[float]) -> tuple[float | None, ...]:
        """Return the least value of each column, None where there is none."""
        return tuple(min(piece, default=None) for piece in self._cut(values))

    def _cut(self, values: Sequence[Number]) -> Iterator[Sequence[Number]]:
        """The values of each column; the last has what comes after the end too."""
        last = (len(self.edges) - 2) * self.each
        for at in range(0, last, self.each):
            yield values[at : at + self.each]
        yield values[last:]


def timeline(record: RunRecord, *, at_least: int = 0, most: int = MOST_COLUMNS, end: int = 0) -> Timeline:
    """Return how to divide the time of a record.

    Args:
        record: whose bins are drawn.
        at_least: nanoseconds that a column has to cover.
        most: how many columns there may be.
        end: of the axis, in nanoseconds, where it is shared with other records; 0 for this one's own.
    """
    width, end = record.bins.width, end or end_of(record)
    count = max(1, -(-end // width))
    each = max(1, -(-count // most), -(-at_least // width))
    starts = [at * width / SECOND for at in range(0, count, each)]
    return Timeline(end, width, each, (*starts, end / SECOND))


def end_of(record: RunRecord) -> int:
    """Return when what is drawn ends, in nanoseconds: with the run, or with its last calls if they took much longer."""
    bins = record.bins
    ended = (counts for counts in (bins.ok, *bins.errors.values()))
    last = max((_length(counts) for counts in ended), default=0) * bins.width
    return max(record.duration, 1) if last <= record.duration * _LITTLE else last


def _length(counts: Sequence[int]) -> int:
    """Return the number of bins up to the last that is not empty."""
    return next((index for index in range(len(counts), 0, -1) if counts[index - 1]), 0)
