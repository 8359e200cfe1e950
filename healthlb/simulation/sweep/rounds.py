"""Which cells a sweep runs: those of its design, and what their results call for.

Every round follows from the results of the rounds before, never from the order in which they came. So a
sweep that is resumed asks for the same cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.sweep.cells import Cell, fingerprint
from healthlb.simulation.sweep.designs import Axis, Point, in_seconds, points
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.sweep import Stop, Sweep

Find = Callable[[str], Result | None]
Judge = Callable[[Mapping[str, float]], bool]


@dataclass(frozen=True, slots=True)
class Site:
    """A point of the axes under one policy; its cells are its replications."""

    policy: str
    point: Point


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the check of a refinement flips.

    Attributes:
        site: with the last value on the near side.
        low: of the refined axis: the check's outcome changes above it.
        high: and below it.
        held: whether the check holds at `low`.
    """

    site: Site
    low: float
    high: float
    held: bool


class Rounds:
    """What a sweep asks for, and what has come of it.

    Attributes:
        sweep: that is run.
        cells: of each site, those that were asked for so far, by replication.
    """

    def __init__(self, sweep: Sweep, engine: str, find: Find, *, judge: Judge | None = None) -> None:
        """Prepare; nothing is asked for yet.

        Args:
            sweep: what to run.
            engine: `engine_version()`.
            find: returns the result of a key.
            judge: of a refinement, whether its check holds for the numbers of a cell.
        """
        self.sweep = sweep
        self.cells: dict[Site, list[Cell]] = {}
        self._engine = engine
        self._find = find
        self._judge = judge
        self._scenario = fingerprint(sweep.world)

    def __iter__(self) -> Iterator[list[Cell]]:
        """Yield lists of cells; each is to be worked off before the next is asked for."""
        found = points(self.sweep.design, self.sweep.axes, self.sweep.count, self.sweep.seed)
        sites = [Site(policy, point) for point in found for policy in self.sweep.policies]
        yield [cell for site in sites for cell in self._grown(site, self.sweep.replications)]
        while more := self._for_precision() or self._for_edges():
            yield more

    def numbers(self, site: Site) -> list[dict[str, float]]:
        """Return metrics and axes of each replication that has a result and no failure."""
        axes = ((axis.name, in_seconds(value)) for axis, value in zip(self.sweep.axes, site.point, strict=True))
        values = {name: value for name, value in axes if value is not None}
        results = [self._find(cell.key) for cell in self.cells[site]]
        return [{**result.metrics, **values} for result in results if result is not None and not result.failure]

    def edges(self) -> list[Edge]:
        """Return where the check flips between values next to each other, in the order of the sites."""
        refine = self.sweep.refine
        if refine is None:
            return []
        index = [axis.name for axis in self.sweep.axes].index(refine.axis)
        rows: dict[Site, list[tuple[float, Site]]] = {}
        for site in self.cells:
            others = (*site.point[:index], *site.point[index + 1 :])
            value = site.point[index]
            assert isinstance(value, int | float)
            rows.setdefault(Site(site.policy, others), []).append((value, site))
        return [edge for row in rows.values() for edge in self._edges_of(sorted(row, key=lambda pair: pair[0]))]

    def _edges_of(self, row: list[tuple[float, Site]]) -> Iterator[Edge]:
        judged = [(value, site, self._verdict(site)) for value, site in row]
        known = [(value, site, held) for value, site, held in judged if held is not None]
        for (low, site, held), (high, _, next_held) in itertools.pairwise(known):
            if held != next_held:
                yield Edge(site, low, high, held)

    def _verdict(self, site: Site) -> bool | None:
        assert self._judge is not None
        numbers = self.numbers(site)
        return all(map(self._judge, numbers)) if numbers else None

    def _for_edges(self) -> list[Cell]:
        refine = self.sweep.refine
        if refine is None:
            return []
        index = [axis.name for axis in self.sweep.axes].index(refine.axis)
        axis: Axis = self.sweep.axes[index]
        more = []
        for edge in self.edges():
            middle = axis.between(edge.low, edge.high) if edge.high - edge.low > refine.tolerance else None
            if middle is not None:
                point = (*edge.site.point[:index], middle, *edge.site.point[index + 1 :])
                more += self._grown(Site(edge.site.policy, point), self.sweep.replications)
        return more

    def _for_precision(self) -> list[Cell]:
        stop = self.sweep.stop
        if stop is None:
            return []
        more = []
        for site, cells in list(self.cells.items()):
            values = [numbers[stop.metric] for numbers in self.numbers(site) if stop.metric in numbers]
            # A cell that failed has no number, and more of them would not either.
            if len(values) == len(cells) < stop.most and not _is_known(Estimate.of(values), stop):
                more += self._grown(site, min(stop.most, 2 * len(cells)))
        return more

    def _grown(self, site: Site, replications: int) -> list[Cell]:
        cells = self.cells.setdefault(site, [])
        new = [self._cell(site, replication) for replication in range(len(cells), replications)]
        cells += new
        return new

    def _cell(self, site: Site, replication: int) -> Cell:
        overrides = [
            (path, value) for axis, value in zip(self.sweep.axes, site.point, strict=True) for path in axis.paths
        ]
        return Cell(
            scenario=self._scenario,
            policy=site.policy,
            overrides=tuple(sorted(overrides)),
            measures=self.sweep.measures,
            replication=replication,
            engine=self._engine,
        )


def _is_known(estimate: Estimate, stop: Stop) -> bool:
    return estimate.half_width() <= stop.within(estimate.mean)
