"""A sweep: what is varied in which scenario, and what is looked for. Values only; `files` reads them.

A sweep decides which cells are run, never what a cell comes to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from healthlb.simulation.sweep.cells import Measures
from healthlb.simulation.sweep.designs import Axis


@dataclass(frozen=True, slots=True, kw_only=True)
class Refine:
    """Look closer where a check flips along an axis.

    Attributes:
        axis: the name of a range.
        check: an expression over the cell's metrics and the axes.
        tolerance: how near, in the axis's own numbers.
    """

    axis: str
    check: str
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Repeat each point until its mean is known well enough.

    Attributes:
        metric: of which the mean is taken.
        relative: half-width of the 95 % confidence interval, as a share of the mean; None where `absolute` is given.
        absolute: the half-width itself.
        most: replications of a point, whatever its interval.
    """

    metric: str
    relative: float | None = None
    absolute: float | None = None
    most: int = 32

    def within(self, mean: float) -> float:
        """Return the half-width that is good enough for this mean."""
        return self.absolute if self.absolute is not None else (self.relative or 0.0) * abs(mean)


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """What is drawn as a heat map.

    Attributes:
        x: the axis from left to right.
        y: the axis from below to above.
        values: the metrics, each a map of its own for each policy.
    """

    x: str
    y: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep.

    Attributes:
        name: a short one.
        title: what it shows.
        world: the scenario, as its file has it.
        policies: those of the scenario that are run.
        axes: what is varied; 1 to 8.
        design: of `designs.DESIGNS`.
        count: points of a design that is no grid.
        seed: of what is random in the design.
        replications: of each point, at least and at first.
        measures: names and expressions over a single run, that its cells give besides its metrics.
        metrics: what is shown.
        checks: names and expressions over a cell's metrics and the axes, that are counted.
        boundary: an expression over the axes that is 0 where theory sees the edge, or "".
        boundary_label: what the theory says.
        map: what is drawn, None with one axis.
        refine: where to look closer, or None.
        stop: when a point is known well enough, None for after `replications`.
    """

    name: str
    title: str = ""
    world: Mapping[str, Any]
    policies: tuple[str, ...]
    axes: tuple[Axis, ...]
    design: str = "grid"
    count: int = 0
    seed: int = 1
    replications: int = 1
    measures: Measures = ()
    metrics: tuple[str, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)
    boundary: str = ""
    boundary_label: str = ""
    map: Map | None = None
    refine: Refine | None = None
    stop: Stop | None = None
