"""Stacked columns over time: parts that add up to a whole.

The one rule: what is hatched is cut from a ground in pixels, since a hatching that is stretched with the page is
another hatching; what is plain is one path that stretches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from healthlb.simulation.report.clipped import Box, filled
from healthlb.simulation.report.figure import STRETCH, stretched
from healthlb.simulation.report.markup import Markup, join, number, tag
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
    layers: Sequence[Layer], edges: Sequence[float], across: Linear, up: Linear, *, top: float, height: float, name: str
) -> Markup:
    """Return the layers one on the other, the first at the bottom; `name` begins the ids of what is drawn."""
    below = [0.0] * (len(edges) - 1)
    drawn = []
    for place, layer in enumerate(layers):
        above = [low + value for low, value in zip(below, layer.values, strict=True)]
        boxes = [
            Box(across.place(edges[i]), across.place(edges[i + 1]), 1 - up.place(above[i]), 1 - up.place(below[i]))
            for i in range(len(above))
            if layer.values[i] > 0
        ]
        if layer.look.hatch:
            drawn.append(filled(boxes, layer.look, top, height, name=f"{name}-part{place}", class_="part"))
        else:
            drawn.append(_stretched(layer, boxes, top, height))
        below = above
    return join(drawn)


def _stretched(layer: Layer, boxes: list[Box], top: float, height: float) -> Markup:
    path = "".join(
        f"M{number(box.left * STRETCH)} {number(box.top * height)}H{number(box.right * STRETCH)}"
        f"V{number(box.bottom * height)}H{number(box.left * STRETCH)}z"
        for box in boxes
    )
    drawn = tag("path", tag("title", layer.name), d=path, style=f"fill:{fill(layer.look)}", class_="part")
    return stretched(top, height, drawn)
