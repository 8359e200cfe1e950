"""Bars of states through time, box by box or, of very many, as columns of shares.

What is too short to be seen by itself is not dropped: a column shows every state that held in it, each as
tall as its share of the column's time.

Boxes are filled plainly, or hatched: a hatching is drawn once for all boxes that have it, as one ground that is cut to
their shape. Drawn box by box it would begin anew in each, and a page of it would take a minute to print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from healthlb.simulation.report import steps
from healthlb.simulation.report.markup import Markup, join, percent, tag
from healthlb.simulation.report.palette import Look, fill
from healthlb.simulation.report.scale import SECOND, seconds
from healthlb.simulation.report.steps import Span


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in shares of the area it lies in, from its upper left corner.

    Attributes:
        left: where it begins.
        right: where it ends.
        top: its upper edge.
        bottom: its lower edge.
        title: what it says when pointed at, or "".
    """

    left: float
    right: float
    top: float = 0.0
    bottom: float = 1.0
    title: str = ""


def filled(boxes: Sequence[Box], look: Look, top: float, height: float, *, name: str, class_: str) -> Markup:
    """Return the boxes in an area as wide as the picture.

    Args:
        boxes: what to draw.
        look: how it is drawn.
        top: of the area, in pixels.
        height: of the area, in pixels.
        name: an id of the page that nothing else has.
        class_: of the drawing.
    """
    if not look.hatch:
        return tag("g", join(_rects(boxes, top, height)), style=f"fill:{fill(look)}", class_=class_)
    clip = tag("clipPath", tag("path", d=_path(boxes)), id=name, clipPathUnits="objectBoundingBox")
    ground = tag("rect", y=top, width="100%", height=height, clip_path=f"url(#{name})", style=f"fill:{fill(look)}")
    pointed = [box for box in boxes if box.title]
    # What a ground says is the same all over, so the titles are on boxes of glass before it.
    glass = tag("g", join(_rects(pointed, top, height)), style="fill:transparent") if pointed else None
    return tag("g", clip, ground, glass, class_=class_)


def _rects(boxes: Sequence[Box], top: float, height: float) -> Iterator[Markup]:
    for box in boxes:
        yield tag(
            "rect", tag("title", box.title) if box.title else None, x=percent(box.left),
            width=percent(box.right - box.left), y=top + box.top * height, height=(box.bottom - box.top) * height,
        )  # fmt: skip


def _path(boxes: Sequence[Box]) -> str:
    return "".join(
        f"M{_short(box.left)} {_short(box.top)}H{_short(box.right)}V{_short(box.bottom)}H{_short(box.left)}z"
        for box in boxes
    )


def _short(share: float) -> str:
    return f"{share:.5f}".rstrip("0").rstrip(".") or "0"


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
