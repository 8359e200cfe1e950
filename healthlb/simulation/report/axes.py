"""Axes: grid lines, ticks and their labels.

An axis is drawn before what it measures, thin and grey, so that the data stands in front.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.simulation.report.markup import Markup, join, percent, tag
from healthlb.simulation.report.scale import Linear, Scale, moment

# Labels need this much room above the plot (the unit) and below it (the ticks).
TOP, BOTTOM = 24, 24


def time_axis(scale: Linear, top: float, bottom: float) -> Markup:
    """Return the lines of a time axis from `top` to `bottom` and its labels below.

    Where the page is narrow every other label is left out (class `odd`).
    """
    step = scale.ticks[1] - scale.ticks[0] if len(scale.ticks) > 1 else 1.0
    marks = []
    for index, tick in enumerate(scale.ticks):
        x = percent(scale.place(tick))
        marks.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        odd = "tick odd" if index % 2 else "tick"
        marks.append(tag("text", moment(tick, step), x=x, y=bottom + 16, class_=odd, text_anchor="middle"))
    return tag("g", join(marks), class_="axis x")


def value_axis(
    scale: Scale, top: float, bottom: float, write: Callable[[float], str], *, unit: str = "", left: int = 0
) -> Markup:
    """Return the lines of an upright axis and its labels on the left.

    Args:
        scale: of the values.
        top: the pixel of its high end.
        bottom: the pixel of its low end.
        write: how a tick is written.
        unit: what is measured, above the labels.
        left: how far left of the plot the unit begins.
    """
    marks = []
    for tick in scale.ticks:
        y = bottom - scale.place(tick) * (bottom - top)
        marks.append(tag("line", x1=0, x2="100%", y1=y, y2=y, class_="grid"))
        marks.append(tag("text", write(tick), x=-8, y=y + 4, class_="tick", text_anchor="end"))
    if unit:
        marks.append(tag("text", unit, x=-left, y=top - 11, class_="unit"))
    return tag("g", join(marks), class_="axis y")


def warm_up(scale: Linear, until: float, top: float, bottom: float) -> Markup | None:
    """Return the shade over the beginning that no number counts, or None where there is no such time."""
    if until <= 0:
        return None
    label = tag("text", "warm-up", x=4, y=top + 12, class_="aside") if scale.place(until) > 0.08 else None
    shade = tag("rect", y=top, width=percent(scale.place(until)), height=bottom - top, class_="shade")
    return tag("g", shade, label)
