"""Stacked columns over time: parts that add up to a whole.

The one rule: what is hatched is drawn box by box in pixels, since a hatching that is stretched with the page is another
hatching; what is plain is one path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from healthlb.simulation.report.figure import STRETCH, stretched
from healthlb.simulation.report.markup import Markup, join, number, percent, tag
from healthlb.simulation.report.palette import Look, fill
from healthlb.simulation.report.scale import Linear


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of every column.

    Attributes:
        name: what it is.
        look: how it is drawn.
        values: one for each column.
    """

    name: str
    look: Look
    values: tuple[float, ...]


def stacked(
    layers: Sequence[Layer], edges: Sequence[float], across: Linear, up: Linear, top: float, height: float
) -> Markup:
    """Return the layers one on the other, the first at the bottom."""
    below = [0.0] * (len(edges) - 1)
    drawn = []
    for layer in layers:
        above = [low + value for low, value in zip(below, layer.values, strict=True)]
        boxes = [
            (across.place(edges[i]), across.place(edges[i + 1]), 1 - up.place(above[i]), 1 - up.place(below[i]))
            for i in range(len(above))
            if layer.values[i] > 0
        ]
        draw = _in_pixels if layer.look.hatch else _stretched
        drawn.append(draw(layer, boxes, top, height))
        below = above
    return join(drawn)


Box = tuple[float, float, float, float]


def _in_pixels(layer: Layer, boxes: list[Box], top: float, height: float) -> Markup:
    rects = (
        tag("rect", x=percent(left), width=percent(right - left), y=top + y1 * height, height=(y2 - y1) * height)
        for left, right, y1, y2 in boxes
    )
    return tag("g", tag("title", layer.name), join(rects), style=f"fill:{fill(layer.look)}", class_="part")


def _stretched(layer: Layer, boxes: list[Box], top: float, height: float) -> Markup:
    path = "".join(
        f"M{number(left * STRETCH)} {number(y1 * height)}H{number(right * STRETCH)}V{number(y2 * height)}"
        f"H{number(left * STRETCH)}z"
        for left, right, y1, y2 in boxes
    )
    drawn = tag("path", tag("title", layer.name), d=path, style=f"fill:{fill(layer.look)}", class_="part")
    return stretched(top, height, drawn)
