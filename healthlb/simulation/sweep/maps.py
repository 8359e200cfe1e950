"""A sweep as heat maps: two of its axes, one map for each metric, policy and value of the others.

Theory's boundary is drawn over what was measured, never instead of it.
"""

from __future__ import annotations

import itertools

from healthlb.simulation.report import HeatMap, render_maps
from healthlb.simulation.report.metrics import metric as how_to_show
from healthlb.simulation.sweep.boundary import Boundary
from healthlb.simulation.sweep.cells import Value
from healthlb.simulation.sweep.designs import Axis, in_seconds
from healthlb.simulation.sweep.rounds import Site
from healthlb.simulation.sweep.summary import Row, Summary
from healthlb.simulation.sweep.sweep import Sweep

# More maps than this nobody looks at.
MOST_MAPS = 24

Others = tuple[tuple[str, Value], ...]


def page(summary: Summary, text: str) -> str:
    """Return the HTML page of a sweep.

    Args:
        summary: of its results.
        text: of its file.
    """
    sweep = summary.sweep
    axes = ", ".join(axis.label for axis in sweep.axes)
    says = f"{summary.cells:,} cells over {axes}; policies: {', '.join(sweep.policies)}."
    return render_maps(sweep.title or sweep.name, maps(summary), says=says, text=text)


def maps(summary: Summary) -> list[HeatMap]:
    """Return the maps; none where the sweep has no two axes of numbers."""
    sweep = summary.sweep
    if sweep.map is None:
        return []
    named = {axis.name: axis for axis in sweep.axes}
    x, y = named[sweep.map.x], named[sweep.map.y]
    slices: dict[tuple[str, Others], list[Row]] = {}
    for row in summary.rows():
        slices.setdefault((row.site.policy, _others(sweep.axes, row.site, x, y)), []).append(row)
    wanted = itertools.product(sweep.map.values or sweep.metrics[:1], slices.items())
    return [
        _map(summary, x, y, metric, policy, others, rows)
        for metric, ((policy, others), rows) in itertools.islice(wanted, MOST_MAPS)
    ]


def _map(summary: Summary, x: Axis, y: Axis, metric: str, policy: str, others: Others, rows: list[Row]) -> HeatMap:
    sweep, shown_as = summary.sweep, how_to_show(metric)
    shown = {
        (_number(sweep.axes, row.site, x), _number(sweep.axes, row.site, y)): row.estimates[metric].mean
        for row in rows
        if metric in row.estimates and _is_shown(sweep, row.site)
    }
    xs, ys = sorted({place[0] for place in shown}), sorted({place[1] for place in shown})
    fixed = {name: number for name, value in others if (number := in_seconds(value)) is not None}
    line = Boundary(sweep.boundary, summary.functions).line(x, y, fixed) if sweep.boundary else ()
    return HeatMap(
        x_name=x.label, xs=xs, y_name=y.label, ys=ys,
        values=[[shown.get((at, up)) for at in xs] for up in ys],
        boundary=line,
        title=", ".join([f"{shown_as.says}, policy {policy}", *(f"{name} {value}" for name, value in others)]),
        boundary_name=sweep.boundary_label or "theory",
        write=shown_as.write,
    )  # fmt: skip


def _is_shown(sweep: Sweep, site: Site) -> bool:
    # What a refinement adds is in one row alone, and would be a column of holes; the table has it.
    if sweep.refine is None:
        return True
    return all(value in axis.grid for axis, value in zip(sweep.axes, site.point, strict=True))


def _others(axes: tuple[Axis, ...], site: Site, x: Axis, y: Axis) -> Others:
    return tuple((axis.name, value) for axis, value in zip(axes, site.point, strict=True) if axis not in (x, y))


def _number(axes: tuple[Axis, ...], site: Site, axis: Axis) -> float:
    number = in_seconds(site.point[axes.index(axis)])
    assert number is not None
    return number
