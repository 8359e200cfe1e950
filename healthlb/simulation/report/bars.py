"""Bars of states through time, box by box or, of very many, as columns of shares.

The one rule: what is too short to be seen by itself is not dropped: a column shows every state that held in it, each as
tall as its share of the column's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from healthlb.simulation.report import steps
from healthlb.simulation.report.clipped import Box, filled
from healthlb.simulation.report.markup import Markup, join
from healthlb.simulation.report.palette import Look
from healthlb.simulation.report.scale import SECOND, seconds
from healthlb.simulation.report.steps import Span


@dataclass(frozen=True, slots=True)
class Pencil:
    """Draws bars of states.

    Attributes:
        name: the ids of what it draws begin with it.
        end: of the time axis, in nanoseconds.
        count: how many columns to draw, None for each span by itself.
        has_titles: whether each span says what it is when pointed at.
    """

    name: str
    end: int
    count: int | None
    has_titles: bool

    def bar(self, kind: str, found: list[Span], look: Callable[[str], Look], y: float, height: float) -> Markup | None:
        """Return a bar; `kind` tells it from others of this pencil, `look` says how a state is drawn."""
        if not found:
            return None
        boxes = self._boxes(found) if self.count is None else self._stacks(found, self.count)
        # States may be called anything, so ids have their place instead.
        return join(
            filled(drawn, look(state), y, height, name=f"{self.name}-{kind}-{place}", class_=f"state {state}")
            for place, (state, drawn) in enumerate(boxes.items())
        )

    def _boxes(self, found: list[Span]) -> dict[str, list[Box]]:
        boxes: dict[str, list[Box]] = {}
        for span in found:
            start, end = span.start / self.end, span.end / self.end
            words = f"{span.state}, {seconds(span.start / SECOND)} to {seconds(span.end / SECOND)}"
            box = Box(start, max(end, start + 0.0005), title=words if self.has_titles else "")
            boxes.setdefault(span.state, []).append(box)
        return boxes

    def _stacks(self, found: list[Span], count: int) -> dict[str, list[Box]]:
        boxes: dict[str, list[Box]] = {span.state: [] for span in found}
        shares = steps.columns(found, self.end, count)
        for first, after in _runs(shares):
            at = 0.0
            for state, part in sorted(shares[first].items()):
                boxes[state].append(Box(first / count, after / count, at, at + part))
                at += part
        return boxes


def _runs(shares: Sequence[dict[str, float]]) -> list[tuple[int, int]]:
    """Return from which column to which neighbours are equal: they are one box."""
    runs: list[tuple[int, int]] = []
    for index, column in enumerate(shares):
        if runs and shares[runs[-1][0]] == column:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
