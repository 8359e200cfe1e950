"""Bars of states through time, box by box or, of very many, as columns of shares.

The one rule: what is too short to be seen by itself is not dropped: a column shows every state that held in it, each as
tall as its share of the column's time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from healthlb.simulation.report import steps
from healthlb.simulation.report.markup import Markup, join, percent, tag
from healthlb.simulation.report.palette import Look, fill
from healthlb.simulation.report.scale import SECOND, seconds
from healthlb.simulation.report.steps import Span


@dataclass(frozen=True, slots=True)
class Pencil:
    """Draws bars of states.

    Attributes:
        end: of the time axis, in nanoseconds.
        count: how many columns to draw, None for each span by itself.
        has_titles: whether each span says what it is when pointed at.
    """

    end: int
    count: int | None
    has_titles: bool

    def bar(self, found: list[Span], look: Callable[[str], Look], y: float, height: float) -> Markup | None:
        """Return a bar; `look` says how a state is drawn."""
        if not found:
            return None
        boxes = self._boxes(found, y, height) if self.count is None else self._stacks(found, y, height, self.count)
        groups = (
            tag("g", join(drawn), style=f"fill:{fill(look(state))}", class_=f"state {state}")
            for state, drawn in boxes.items()
        )
        return join(groups)

    def _boxes(self, found: list[Span], y: float, height: float) -> dict[str, list[Markup]]:
        boxes: dict[str, list[Markup]] = {}
        for span in found:
            start, width = span.start / self.end, (span.end - span.start) / self.end
            words = f"{span.state}, {seconds(span.start / SECOND)} to {seconds(span.end / SECOND)}"
            title = tag("title", words) if self.has_titles and span.state else None
            box = tag("rect", title, x=percent(start), width=percent(max(width, 0.0005)), y=y, height=height)
            boxes.setdefault(span.state, []).append(box)
        return boxes

    def _stacks(self, found: list[Span], y: float, height: float, count: int) -> dict[str, list[Markup]]:
        boxes: dict[str, list[Markup]] = {span.state: [] for span in found}
        shares = steps.columns(found, self.end, count)
        for first, after in _runs(shares):
            at = y
            for state, part in sorted(shares[first].items()):
                box = tag(
                    "rect", x=percent(first / count), width=percent((after - first) / count), y=at, height=part * height
                )
                boxes[state].append(box)
                at += part * height
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
