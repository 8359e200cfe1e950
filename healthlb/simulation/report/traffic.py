"""Calls over time: how many ended well, and what became of the others.

Calls are counted where they end. So offered and ended differ by what is under way, and errors stand where
their callers saw them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from healthlb.simulation.report import lines, palette
from healthlb.simulation.report.axes import BOTTOM, TOP, time_axis, value_axis, warm_up
from healthlb.simulation.report.bars import Box, filled
from healthlb.simulation.report.figure import STRETCH, Figure, Key, stretched
from healthlb.simulation.report.markup import Markup, Table, join, number, tag
from healthlb.simulation.report.palette import Look, fill
from healthlb.simulation.report.scale import DASH, SECOND, Linear, linear, plain, seconds, share
from healthlb.simulation.report.timeline import Timeline, timeline
from healthlb.simulation.world.record import RunRecord


@dataclass(frozen=True, slots=True)
class Layer:
    """One part of every column; the parts add up to a whole.

    What is hatched is cut from a ground in pixels, since a hatching that is stretched with the page is another
    hatching; what is plain is one path that stretches.

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


ROWS = 20
_OFFERED = ("var(--ink)", "1 1.5")


def goodput(record: RunRecord, name: str, left: int) -> Figure:
    """Return the figure of all calls by what became of them."""
    times = timeline(record)
    layers = [Layer("ok", Look("var(--well)", "", "ok"), times.rates(record.bins.ok)), *_errors(record, times)]
    offered = times.rates(record.bins.arrivals)
    totals = [sum(values) for values in zip(*(layer.values for layer in layers), strict=True)]
    up, bottom, axis = linear([*totals, *offered]), TOP + 170, times.axis
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, plain, unit="calls a second", left=left),
        stacked(layers, times.edges, axis, up, top=TOP, height=bottom - TOP, name=name),
        lines.line(times.edges, offered, axis, up, top=TOP, height=bottom - TOP, look=_OFFERED, name="offered"),
        warm_up(axis, record.warmup / SECOND, TOP, bottom),
    ])  # fmt: skip
    keys = (*(Key(layer.name, layer.look) for layer in layers), Key("offered", line=_OFFERED))
    return Figure(
        name=name, title="Goodput", says=_says(record), marks=marks, height=bottom + BOTTOM, left=left, keys=keys,
        numbers=_table(record),
    )  # fmt: skip


def errors(record: RunRecord, name: str, left: int) -> Figure | None:
    """Return the figure of the errors alone, on their own scale; None where there were none."""
    times = timeline(record)
    layers = _errors(record, times)
    if not layers:
        return None
    totals = [sum(values) for values in zip(*(layer.values for layer in layers), strict=True)]
    up, bottom, axis = linear(totals, count=3), TOP + 110, times.axis
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, plain, unit="errors a second", left=left),
        stacked(layers, times.edges, axis, up, top=TOP, height=bottom - TOP, name=name),
        warm_up(axis, record.warmup / SECOND, TOP, bottom),
    ])  # fmt: skip
    counts = {code: sum(values) for code, values in record.bins.errors.items() if any(values)}
    parts = ", ".join(f"{plain(counts[code])} {code}" for code in sorted(counts, key=lambda code: -counts[code]))
    return Figure(
        name=name, title="Errors by cause", says=f"The same errors on a scale of their own: {parts}.", marks=marks,
        height=bottom + BOTTOM, left=left, keys=tuple(Key(layer.name, layer.look) for layer in layers),
        numbers=_error_table(record, counts),
    )  # fmt: skip


def span_of(times: Timeline, index: int) -> str:
    """Return from when to when a column goes, as a row's heading."""
    return f"{seconds(times.edges[index])} {DASH} {seconds(times.edges[index + 1])}"


def _errors(record: RunRecord, times: Timeline) -> list[Layer]:
    codes = sorted(code for code, counts in record.bins.errors.items() if any(counts))
    looks = palette.causes(codes)
    return [Layer(code, looks[code], times.rates(record.bins.errors[code])) for code in codes]


def _says(record: RunRecord) -> str:
    arrivals, ok = sum(record.bins.arrivals), sum(record.bins.ok)
    failed = sum(map(sum, record.bins.errors.values()))
    if not arrivals:
        return "No calls arrived."
    rest = arrivals - ok - failed
    waiting = f", {plain(rest)} had not ended when the run did" if rest > 0 else ""
    return (
        f"Calls by when they ended. Of {plain(arrivals)} calls {share(ok / arrivals)} ended well and {plain(failed)} "
        f"did not{waiting}; warm-up included."
    )


def _table(record: RunRecord) -> Table:
    times = timeline(record, most=ROWS)
    failed = [times.sums(counts) for counts in record.bins.errors.values()]
    rows = tuple(
        (span_of(times, index), str(offered), str(ok), str(sum(counts[index] for counts in failed)))
        for index, (offered, ok) in enumerate(
            zip(times.sums(record.bins.arrivals), times.sums(record.bins.ok), strict=True)
        )
    )
    return Table("Calls by when they began (offered) or ended", ("Time", "Offered", "Ok", "Errors"), rows)


def _error_table(record: RunRecord, counts: dict[str, int]) -> Table:
    times = timeline(record, most=ROWS)
    sums = {code: times.sums(record.bins.errors[code]) for code in sorted(counts)}
    rows = tuple(
        (span_of(times, index), *(str(values[index]) for values in sums.values()))
        for index in range(len(times.edges) - 1)
    )
    return Table("Errors by when they ended", ("Time", *sums), rows)
