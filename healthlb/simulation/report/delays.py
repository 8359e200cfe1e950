"""Latencies: percentiles over time, and the distributions of several runs over one another.

A percentile is asked of a merged histogram, never averaged over bins or runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.report import lines
from healthlb.simulation.report.axes import BOTTOM, TOP, time_axis, value_axis, warm_up
from healthlb.simulation.report.figure import Figure, Key
from healthlb.simulation.report.markup import Markup, Table, join, percent, tag
from healthlb.simulation.report.palette import BLUE, LINES, ORANGE, VERMILLION
from healthlb.simulation.report.scale import DASH, SECOND, Log, clock, logarithmic, plain, seconds, share
from healthlb.simulation.report.timeline import MOST_COLUMNS, end_of
from healthlb.simulation.report.traffic import ROWS
from healthlb.simulation.world.record import RunRecord

QUANTILES = ((0.5, "p50", (BLUE, "")), (0.99, "p99", (ORANGE, "7 3")), (0.999, "p99.9", (VERMILLION, "2 3")))
_SHARES = (*(index / 200 for index in range(1, 199)), 0.9925, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9999, 1.0)
_MARKED = (0.5, 0.9, 0.99, 0.999)


def merged(histograms: tuple[Histogram, ...]) -> Histogram:
    """Return what all of them have counted together."""
    everything = Histogram()
    for histogram in histograms:
        everything.merge(histogram)
    return everything


def latency(record: RunRecord, name: str, left: int) -> Figure:
    """Return the figure of the percentiles of calls that ended well, second by second."""
    edges, histograms = columns(record, MOST_COLUMNS)
    values = {
        label: [h.quantile(quantile) / SECOND if h.count else None for h in histograms]
        for quantile, label, _ in QUANTILES
    }
    axis = clock(end_of(record))
    up = logarithmic([value for column in values.values() for value in column if value is not None])
    bottom = TOP + 170
    drawn = (
        lines.line(edges, values[label], axis, up, top=TOP, height=bottom - TOP, look=look, name=label)
        for _, label, look in QUANTILES
    )
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, seconds, unit="latency (log scale)", left=left),
        *drawn, warm_up(axis, record.warmup / SECOND, TOP, bottom),
    ])  # fmt: skip
    return Figure(
        name=name, title="Latency", says=_says(record), marks=marks, height=bottom + BOTTOM, left=left,
        keys=tuple(Key(label, line=look) for _, label, look in QUANTILES), numbers=_table(record),
    )  # fmt: skip


def columns(record: RunRecord, most: int, end: int = 0) -> tuple[list[float], list[Histogram]]:
    """Return the edges of at most so many columns, in seconds, and what was counted in each of them.

    Args:
        record: whose latencies are meant.
        most: how many columns there may be.
        end: of the axis, in nanoseconds, where it is shared with other records; 0 for this one's own.
    """
    found, length = record.bins.latency, (end or end_of(record)) / SECOND
    each = max(1, math.ceil(length / most))
    starts = range(0, math.ceil(length), each)
    groups = [merged(found[at : at + each]) for at in starts[:-1]] + [merged(found[starts[-1] :])]
    return [*map(float, starts), length], groups


def _says(record: RunRecord) -> str:
    if not record.latency.count:
        return "No call ended well."
    parts = ", ".join(f"{label} {seconds(record.latency.quantile(q) / SECOND)}" for q, label, _ in QUANTILES)
    return (
        f"Of calls that ended well, by the second of their end; of fewer than a thousand calls p99.9 is the slowest. "
        f"Over the run after the warm-up: {parts}, at most {seconds(record.latency.most / SECOND)}."
    )


def _table(record: RunRecord) -> Table:
    edges, histograms = columns(record, ROWS)
    rows = tuple(
        (
            f"{seconds(edges[index])} {DASH} {seconds(edges[index + 1])}", str(h.count),
            *(seconds(h.quantile(q) / SECOND) if h.count else DASH for q, _, _ in QUANTILES),
        )
        for index, h in enumerate(histograms)
    )  # fmt: skip
    return Table("Latency of calls that ended well", ("Time", "Calls", *(label for _, label, _ in QUANTILES)), rows)


# --- distributions -------------------------------------------------------------------------------


def distributions(histograms: Mapping[str, Histogram], name: str, left: int) -> Figure:
    """Return the distributions of latencies over one another, one for each name."""
    counted = {label: h for label, h in histograms.items() if h.count}
    scale = logarithmic([h.quantile(q) / SECOND for h in counted.values() for q in (0.005, 1.0)])
    bottom = TOP + 220
    marks, keys = [_delay_axis(scale, TOP, bottom), _share_axis(TOP, bottom, left)], []
    for index, (label, histogram) in enumerate(counted.items()):
        look = LINES[index % len(LINES)]
        points = [(scale.place(histogram.quantile(q) / SECOND), q) for q in _SHARES]
        marks.append(lines.curve(points, top=TOP, height=bottom - TOP, look=look, name=label))
        keys.append(Key(label, line=look))
    headings = ("Policy", *(f"p{plain(100 * q)}" for q in _MARKED), "Most")
    rows = tuple(
        (label, *(seconds(h.quantile(q) / SECOND) for q in _MARKED), seconds(h.most / SECOND))
        for label, h in counted.items()
    )
    return Figure(
        name=name, title="How the latencies are distributed",
        says="The share of successful calls that took no longer than the time below (empirical distribution functions, "
        "all replications together). A curve further left is faster.",
        marks=join(marks), height=bottom + BOTTOM, left=left, keys=tuple(keys),
        numbers=Table("Latency of calls that ended well, all replications", headings, rows),
    )  # fmt: skip


def _delay_axis(scale: Log, top: float, bottom: float) -> Markup:
    marks = []
    for index, tick in enumerate(scale.ticks):
        x = percent(scale.place(tick))
        marks.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        odd = "tick odd" if index % 2 else "tick"
        marks.append(tag("text", seconds(tick), x=x, y=bottom + 16, class_=odd, text_anchor="middle"))
    return tag("g", join(marks), class_="axis x")


def _share_axis(top: float, bottom: float, left: int) -> Markup:
    marks = [tag("text", "share of calls", x=-left, y=top - 11, class_="unit")]
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - value * (bottom - top)
        marks.append(tag("line", x1=0, x2="100%", y1=y, y2=y, class_="grid"))
        marks.append(tag("text", share(value), x=-8, y=y + 4, class_="tick", text_anchor="end"))
    return tag("g", join(marks), class_="axis y")
