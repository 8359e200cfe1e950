"""What a sweep has found: means by point, where checks flip, and maps.

The one rule: everything here follows from stored results, so a sweep that is shown again shows the same.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from healthlb.simulation.estimates import Estimate
from healthlb.simulation.expression import Expression, ExpressionError
from healthlb.simulation.report.heatmap import HeatMap
from healthlb.simulation.sweep.boundary import Boundary
from healthlb.simulation.sweep.cells import Cell, Value
from healthlb.simulation.sweep.designs import Axis, in_seconds
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.rounds import Edge, Rounds, Site
from healthlb.simulation.sweep.sweep import Sweep

Functions = Mapping[str, Callable[..., float]]

# More maps than this nobody looks at.
MOST_MAPS = 24


@dataclass(frozen=True, slots=True)
class Row:
    """One point under one policy.

    Attributes:
        site: the point and the policy.
        replications: that have a result.
        failed: that failed, or have none.
        estimates: of the metrics that are shown, by name; those that no replication has are left out.
        checks: of each check, in how many replications it held.
    """

    site: Site
    replications: int
    failed: int
    estimates: Mapping[str, Estimate]
    checks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the check of a refinement flips, and where theory says it does.

    Attributes:
        edge: as it was found.
        theory: the nearest crossing of the boundary, None where there is none.
    """

    edge: Edge
    theory: float | None


class Summary:
    """The findings of a sweep.

    Args:
        rounds: that were worked off, or as far as they were.
        find: returns the result of a key.
        functions: what checks and the boundary may call.
    """

    def __init__(self, rounds: Rounds, find: Callable[[str], Result | None], functions: Functions) -> None:
        self._rounds = rounds
        self._find = find
        self._functions = functions

    @property
    def sweep(self) -> Sweep:
        """What was run."""
        return self._rounds.sweep

    def rows(self) -> list[Row]:
        """Return one row for each point and policy, in the order of the axes."""
        checks = {name: Expression(text) for name, text in self.sweep.checks.items()}
        return [self._row(site, checks) for site in sorted(self._rounds.cells, key=self._place)]

    def _place(self, site: Site) -> tuple[object, ...]:
        places: list[object] = [self.sweep.policies.index(site.policy)]
        for axis, value in zip(self.sweep.axes, site.point, strict=True):
            places.append(value if axis.is_range else axis.values.index(value))
        return tuple(places)

    def _row(self, site: Site, checks: Mapping[str, Expression]) -> Row:
        numbers = self._rounds.numbers(site)
        columns = {name: [one[name] for one in numbers if name in one] for name in self.sweep.metrics}
        held = {name: sum(holds(check, one, self._functions) for one in numbers) for name, check in checks.items()}
        estimates = {name: Estimate.of(values) for name, values in columns.items() if values}
        return Row(site, len(numbers), len(self._rounds.cells[site]) - len(numbers), estimates, held)

    def failures(self) -> Iterator[tuple[Cell, str]]:
        """Yield the cells that failed, with what went wrong."""
        for cell in self._cells():
            result = self._find(cell.key)
            if result is not None and result.failure:
                yield cell, result.failure

    def broken(self) -> dict[str, int]:
        """Return of each of the scenario's own checks in how many cells it did not hold; none that always held."""
        found: dict[str, int] = {}
        for cell in self._cells():
            result = self._find(cell.key)
            for name in result.broken if result is not None else ():
                found[name] = found.get(name, 0) + 1
        return dict(sorted(found.items()))

    def crossings(self) -> list[Crossing]:
        """Return the edges that were closed in on, beside theory's."""
        return [Crossing(edge, self._theory(edge)) for edge in self._rounds.edges()]

    def _theory(self, edge: Edge) -> float | None:
        refine = self.sweep.refine
        if refine is None or not self.sweep.boundary:
            return None
        (axis,) = (axis for axis in self.sweep.axes if axis.name == refine.axis)
        fixed = self._numbers(edge.site.point)
        middle = (edge.low + edge.high) / 2
        zeros = Boundary(self.sweep.boundary, self._functions).along(axis, fixed)
        return min(zeros, key=lambda zero: abs(zero - middle), default=None)

    def maps(self) -> list[HeatMap]:
        """Return a map for each metric, policy and combination of the other axes."""
        chosen = self.sweep.map
        if chosen is None:
            return []
        x, y = self._axis(chosen.x), self._axis(chosen.y)
        slices: dict[tuple[str, tuple[tuple[str, Value], ...]], list[Row]] = {}
        for row in self.rows():
            slices.setdefault((row.site.policy, self._others(row.site, x, y)), []).append(row)
        metrics = chosen.values or self.sweep.metrics[:1]
        wanted = itertools.islice(itertools.product(metrics, slices.items()), MOST_MAPS)
        return [self._map(x, y, metric, policy, others, rows) for metric, ((policy, others), rows) in wanted]

    def _map(self, x: Axis, y: Axis, metric: str, policy: str, others: tuple[tuple[str, Value], ...],
             rows: list[Row]) -> HeatMap:
        shown = {
            (self._value(row.site, x), self._value(row.site, y)): row.estimates[metric].mean
            for row in rows
            if metric in row.estimates
        }
        xs, ys = sorted({place[0] for place in shown}), sorted({place[1] for place in shown})
        fixed = {name: number for name, value in others if (number := in_seconds(value)) is not None}
        line = Boundary(self.sweep.boundary, self._functions).line(x, y, fixed) if self.sweep.boundary else ()
        return HeatMap(
            x_name=x.label, xs=xs, y_name=y.label, ys=ys,
            values=[[shown.get((at, up)) for at in xs] for up in ys],
            boundary=line,
            title=", ".join([f"{metric}, policy {policy}", *(f"{name} {value}" for name, value in others)]),
            boundary_name=self.sweep.boundary_label or "theory",
        )  # fmt: skip

    def table(self) -> str:
        """Return one line of CSV for each cell that has a result."""
        lines = []
        names: dict[str, None] = {}
        for site, cells in sorted(self._rounds.cells.items(), key=lambda pair: self._place(pair[0])):
            for cell in cells:
                result = self._find(cell.key)
                if result is not None:
                    names |= dict.fromkeys(result.metrics)
                    axes = zip((axis.name for axis in self.sweep.axes), site.point, strict=True)
                    lines.append({"policy": site.policy, "replication": cell.replication, **dict(axes),
                                  "failure": result.failure, **result.metrics})  # fmt: skip
        text = io.StringIO()
        head = ["policy", *(axis.name for axis in self.sweep.axes), "replication", "failure", *sorted(names)]
        writer = csv.DictWriter(text, head, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def _cells(self) -> Iterator[Cell]:
        for cells in self._rounds.cells.values():
            yield from cells

    def _axis(self, name: str) -> Axis:
        return next(axis for axis in self.sweep.axes if axis.name == name)

    def _value(self, site: Site, axis: Axis) -> float:
        number = in_seconds(site.point[self.sweep.axes.index(axis)])
        assert number is not None
        return number

    def _others(self, site: Site, x: Axis, y: Axis) -> tuple[tuple[str, Value], ...]:
        pairs = zip(self.sweep.axes, site.point, strict=True)
        return tuple((axis.name, value) for axis, value in pairs if axis not in (x, y))

    def _numbers(self, point: tuple[Value, ...]) -> dict[str, float]:
        pairs = ((axis.name, in_seconds(value)) for axis, value in zip(self.sweep.axes, point, strict=True))
        return {name: number for name, number in pairs if number is not None}


def holds(check: Expression, numbers: Mapping[str, float], functions: Functions) -> bool:
    """Return whether a check is true; one that has no value, as of a metric that is not there, is not."""
    try:
        return bool(check.value(numbers, functions))
    except ExpressionError:
        return False
