"""Boxes that are filled: plain ones by themselves, hatched ones as a single ground that is cut to their shape.

The one rule: a hatching is drawn once for all boxes that have it. Drawn box by box it would begin anew in each, and a
page of it would take a minute to print.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from healthlb.simulation.report.markup import Markup, join, percent, tag
from healthlb.simulation.report.palette import Look, fill


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
