"""Lines over time, as steps: a value holds for as long as it was measured over.

Where nothing was measured there is a gap, not a zero and not a guess.
"""

from __future__ import annotations

from collections.abc import Sequence

from healthlb.simulation.report.figure import STRETCH, stretched
from healthlb.simulation.report.markup import Markup, number, tag
from healthlb.simulation.report.scale import Linear, Scale

Values = Sequence[float | None]


def steps(edges: Sequence[float], values: Values, across: Linear, up: Scale, height: float) -> str:
    """Return the path of a stepped line: `values[i]` holds from `edges[i]` to `edges[i + 1]`."""
    path, is_drawing = [], False
    for index, value in enumerate(values):
        if value is None:
            is_drawing = False
            continue
        x, y = STRETCH * across.place(edges[index]), height * (1 - up.place(value))
        path.append(f"V{number(y)}" if is_drawing else f"M{number(x)} {number(y)}")
        path.append(f"H{number(STRETCH * across.place(edges[index + 1]))}")
        is_drawing = True
    return "".join(path)


def line(
    edges: Sequence[float], values: Values, across: Linear, up: Scale, *, top: float, height: float,
    look: tuple[str, str], name: str,
) -> Markup:  # fmt: skip
    """Return one stepped line; `look` is its colour and dashes, `name` what it stands for."""
    colour, dashes = look
    path = tag(
        "path", tag("title", name), d=steps(edges, values, across, up, height), class_="line",
        style=f"stroke:{colour}", stroke_dasharray=dashes or None,
    )  # fmt: skip
    return stretched(top, height, path)


def curve(
    points: Sequence[tuple[float, float]], *, top: float, height: float, look: tuple[str, str], name: str
) -> Markup:
    """Return a line through points that are shares of the plot, from its lower left corner."""
    colour, dashes = look
    places = (f"{number(STRETCH * x)} {number(height * (1 - y))}" for x, y in points)
    path = tag(
        "path", tag("title", name), d="M" + "L".join(places), class_="line", style=f"stroke:{colour}",
        stroke_dasharray=dashes or None,
    )  # fmt: skip
    return stretched(top, height, path)


def band(
    edges: Sequence[float],
    low: Values,
    high: Values,
    across: Linear,
    up: Scale,
    *,
    top: float,
    height: float,
    name: str,
) -> Markup:
    """Return the area between two stepped lines, where both are known."""
    boxes = []
    for index, (lower, upper) in enumerate(zip(low, high, strict=True)):
        if lower is None or upper is None:
            continue
        left, right = (STRETCH * across.place(edge) for edge in edges[index : index + 2])
        y1, y2 = (height * (1 - up.place(value)) for value in (upper, lower))
        boxes.append(f"M{number(left)} {number(y1)}H{number(right)}V{number(y2)}H{number(left)}z")
    return stretched(top, height, tag("path", tag("title", name), d="".join(boxes), class_="band"))
