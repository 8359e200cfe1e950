"""What a sweep has found: means by point, where checks flip, and maps.

Everything here follows from stored results, so a sweep that is shown again shows the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.checks.expression import Expression, ExpressionError
from healthlb.simulation.sweep.boundary import Boundary
from healthlb.simulation.sweep.cells import Cell, Value
from healthlb.simulation.sweep.designs import in_seconds
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.rounds import Edge, Rounds, Site
from healthlb.simulation.sweep.sweep import Sweep

Functions = Mapping[str, Callable[..., float]]


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

    Attributes:
        functions: as given.
    """

    def __init__(self, rounds: Rounds, find: Callable[[str], Result | None], functions: Functions) -> None:
        self.functions = functions
        self._rounds = rounds
        self._find = find

    @property
    def sweep(self) -> Sweep:
        """What was run."""
        return self._rounds.sweep

    @property
    def cells(self) -> int:
        """How many cells were asked for."""
        return sum(map(len, self._rounds.cells.values()))

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
        held = {name: sum(holds(check, one, self.functions) for one in numbers) for name, check in checks.items()}
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
        zeros = Boundary(self.sweep.boundary, self.functions).along(axis, fixed)
        return min(zeros, key=lambda zero: abs(zero - middle), default=None)

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

    def _numbers(self, point: tuple[Value, ...]) -> dict[str, float]:
        pairs = ((axis.name, in_seconds(value)) for axis, value in zip(self.sweep.axes, point, strict=True))
        return {name: number for name, number in pairs if number is not None}


def holds(check: Expression, numbers: Mapping[str, float], functions: Functions) -> bool:
    """Return whether a check is true; one that has no value, as of a metric that is not there, is not."""
    try:
        return bool(check.value(numbers, functions))
    except ExpressionError:
        return False
