"""Policies over one another in time: what each made of the same calls and the same faults.

Lines of one figure are of the same replication, so that where they part, only the policies differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from healthlb.simulation.report import lines
from healthlb.simulation.report.axes import BOTTOM, TOP, time_axis, value_axis, warm_up
from healthlb.simulation.report.delays import columns
from healthlb.simulation.report.figure import LEFT, Figure, Key
from healthlb.simulation.report.lines import Values
from healthlb.simulation.report.markup import Table, join
from healthlb.simulation.report.palette import LINES
from healthlb.simulation.report.scale import DASH, SECOND, clock, linear, logarithmic, plain, seconds
from healthlb.simulation.report.timeline import MOST_COLUMNS, end_of, timeline
from healthlb.simulation.report.traffic import ROWS
from healthlb.simulation.world.record import RunRecord

_LOOK = ("var(--grey)", "1 1.5")
_QUANTILE = 0.99


def successes(runs: Mapping[str, RunRecord], name: str) -> Figure:
    """Return how many calls ended well over time, a line for each policy."""
    end = max(map(end_of, runs.values()))
    first = next(iter(runs.values()))
    drawn = {policy: _rates(run, MOST_COLUMNS, end) for policy, run in runs.items()}
    times = timeline(first, end=end)
    offered = times.rates(first.bins.arrivals)
    axis, bottom = clock(end), TOP + 180
    up = linear([*offered, *(value for _, values in drawn.values() for value in values if value is not None)])
    place = {"top": TOP, "height": bottom - TOP}
    parts = [
        lines.line(edges, values, axis, up, look=LINES[index % len(LINES)], name=policy, **place)
        for index, (policy, (edges, values)) in enumerate(drawn.items())
    ]
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, plain, unit="calls a second", left=LEFT),
        lines.line(times.edges, offered, axis, up, look=_LOOK, name="offered", **place), *parts,
        warm_up(axis, first.warmup / SECOND, TOP, bottom),
    ])  # fmt: skip
    return Figure(
        name=name, title="Calls that ended well",
        says="The same calls and the same faults under each policy. Where the lines part, only the policies differ.",
        marks=marks, height=bottom + BOTTOM, keys=(*_keys(runs), Key("offered", line=_LOOK)),
        numbers=_table(
            "Calls a second that ended well", {policy: _rates(run, ROWS, end) for policy, run in runs.items()}, plain
        ),
    )  # fmt: skip


def slowness(runs: Mapping[str, RunRecord], name: str) -> Figure:
    """Return the 99th percentile over time, a line for each policy."""
    end = max(map(end_of, runs.values()))
    drawn = {policy: _quantiles(run, MOST_COLUMNS, end) for policy, run in runs.items()}
    axis, bottom = clock(end), TOP + 140
    up = logarithmic([value for _, values in drawn.values() for value in values if value is not None])
    parts = [
        lines.line(edges, values, axis, up, top=TOP, height=bottom - TOP, look=LINES[index % len(LINES)], name=policy)
        for index, (policy, (edges, values)) in enumerate(drawn.items())
    ]
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, seconds, unit="p99 (log scale)", left=LEFT), *parts,
        warm_up(axis, next(iter(runs.values())).warmup / SECOND, TOP, bottom),
    ])  # fmt: skip
    return Figure(
        name=name, title="Slow calls", marks=marks, height=bottom + BOTTOM, keys=_keys(runs),
        says="The 99th percentile of calls that ended well, second by second; a gap where none did.",
        numbers=_table(
            "99th percentile of calls that ended well",
            {policy: _quantiles(run, ROWS, end) for policy, run in runs.items()}, seconds,
        ),
    )  # fmt: skip


Columns = tuple[tuple[float, ...], Values]


def _rates(run: RunRecord, most: int, end: int) -> Columns:
    times = timeline(run, most=most, end=end)
    return times.edges, times.rates(run.bins.ok)


def _quantiles(run: RunRecord, most: int, end: int) -> Columns:
    edges, histograms = columns(run, most, end)
    return tuple(edges), [h.quantile(_QUANTILE) / SECOND if h.count else None for h in histograms]


def _keys(runs: Mapping[str, RunRecord]) -> tuple[Key, ...]:
    return tuple(Key(policy, line=LINES[index % len(LINES)]) for index, policy in enumerate(runs))


def _table(caption: str, found: Mapping[str, Columns], write: Callable[[float], str]) -> Table:
    edges = next(iter(found.values()))[0]
    rows = tuple(
        (
            f"{seconds(edges[index])} {DASH} {seconds(edges[index + 1])}",
            *(DASH if value is None else write(value) for value in (values[index] for _, values in found.values())),
        )
        for index in range(len(edges) - 1)
    )
    return Table(caption, ("Time", *found), rows)
