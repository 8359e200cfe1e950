"""How many attempts a backend got, under its lane: a curve where there is room for one, else shades.

The one rule: all lanes of a figure have the same scale, so that they can be compared.
"""

from __future__ import annotations

import math

from healthlb.simulation.report.figure import STRETCH, stretched
from healthlb.simulation.report.markup import Markup, join, number, tag
from healthlb.simulation.report.timeline import Timeline

_LEAST_CURVE = 8


def picks(rates: tuple[float, ...], times: Timeline, y: float, height: int, most: float) -> Markup | None:
    """Return one lane's attempts.

    Args:
        rates: a second, for each column.
        times: the columns.
        y: where they are drawn, in pixels.
        height: how tall, in pixels.
        most: the highest rate of all lanes; None is returned where it is 0.
    """
    if most <= 0:
        return None
    draw = _curve if height >= _LEAST_CURVE else _density
    return stretched(y, height, draw([rate / most for rate in rates], times, height))


def _curve(rates: list[float], times: Timeline, height: int) -> Markup:
    path = [f"M0 {height}"]
    for index, rate in enumerate(rates):
        path.append(f"V{number(height * (1 - rate))}H{number(STRETCH * times.axis.place(times.edges[index + 1]))}")
    return tag("path", d="".join(path) + f"V{height}z", class_="picks")


def _density(rates: list[float], times: Timeline, height: int) -> Markup:
    """A curve of three pixels says nothing: shades do, in steps of a fifth."""
    paths: dict[int, list[str]] = {}
    for index, rate in enumerate(rates):
        left, right = (number(STRETCH * times.axis.place(edge)) for edge in times.edges[index : index + 2])
        if rate > 0:
            paths.setdefault(math.ceil(5 * rate), []).append(f"M{left} 0H{right}V{height}H{left}z")
    shades = (tag("path", d="".join(paths[level]), class_="picks", opacity=level / 5) for level in sorted(paths))
    return join(shades)
