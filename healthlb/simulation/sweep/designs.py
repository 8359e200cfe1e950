"""Where to look: grids, Sobol's sequence and Latin hypercubes over the axes of a sweep.

The same file gives the same points, everywhere and in the same order.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.sweep import sobol
from healthlb.simulation.sweep.cells import Value

Point = tuple[Value, ...]
_PERCENT = re.compile(r"[0-9]+(\.[0-9]+)?%")
DESIGNS = ("grid", "sobol", "lhs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that a sweep varies.

    Attributes:
        name: in expressions and on pages.
        paths: what it replaces in the scenario; more than one get the same value.
        label: on pages, with the unit.
        values: what it takes, in order; empty for a range.
        low: the least of a range.
        high: the greatest of a range.
        steps: how many values of a range a grid has.
        is_log: whether a range is divided into equal ratios.
        is_whole: whether a range has whole numbers only.
    """

    name: str
    paths: tuple[str, ...]
    label: str = ""
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 1.0
    steps: int = 5
    is_log: bool = False
    is_whole: bool = False

    @property
    def is_range(self) -> bool:
        """Whether there are values between its values."""
        return not self.values

    @property
    def is_numeric(self) -> bool:
        """Whether all its values are numbers or durations."""
        return all(in_seconds(value) is not None for value in self.values)

    @property
    def grid(self) -> tuple[Value, ...]:
        """Its values in a grid; no whole number comes twice."""
        if self.values:
            return self.values
        last = max(1, self.steps - 1)
        return tuple(dict.fromkeys(self.at(step / last) for step in range(self.steps)))

    def at(self, share: float) -> Value:
        """Return the value that lies at `share` (0 to 1) of the axis."""
        if self.values:
            return self.values[min(len(self.values) - 1, int(share * len(self.values)))]
        if self.is_log:
            return self._rounded(self.low * (self.high / self.low) ** share)
        return self._rounded(self.low + (self.high - self.low) * share)

    def between(self, low: float, high: float) -> Value | None:
        """Return the middle of two values, None where nothing lies between them."""
        middle = self._rounded(math.sqrt(low * high) if self.is_log else (low + high) / 2)
        return middle if low < middle < high else None

    def _rounded(self, value: float) -> int | float:
        # Twelve digits: the last ones differ between platforms, and 0.30000000000000004 is nobody's wish.
        return round(value) if self.is_whole else float(f"{value:.12g}")


def points(design: str, axes: Sequence[Axis], count: int, seed: int) -> list[Point]:
    """Return the points of a design, each once.

    Args:
        design: of `DESIGNS`.
        axes: what is varied.
        count: how many points, for all but "grid".
        seed: of what is random in the design.
    """
    if design == "grid":
        return list(itertools.product(*(axis.grid for axis in axes)))
    shares = sobol.points(count, len(axes), seed) if design == "sobol" else latin(count, len(axes), seed)
    found = (tuple(axis.at(share) for axis, share in zip(axes, point, strict=True)) for point in shares)
    return list(dict.fromkeys(found))


def latin(count: int, dimensions: int, seed: int) -> list[tuple[float, ...]]:
    """Return a Latin hypercube: in each dimension one point in each of `count` intervals, at random in it."""
    columns = []
    for dimension in range(dimensions):
        random = Random(f"lhs {seed} {dimension}")
        # Sorting by random keys: unlike `shuffle`, the same in every version of Python.
        order = sorted(range(count), key=lambda _: random.random())
        columns.append([(cell + random.random()) / count for cell in order])
    return list(zip(*columns, strict=True))


def in_seconds(value: object) -> float | None:
    """Return a value of an axis as expressions and pages see it: "10ms" is 0.01, "30%" is 0.3; None for other texts."""
    if isinstance(value, str):
        if _PERCENT.fullmatch(value):
            return float(value[:-1]) / 100
        try:
            return parse_duration("value", value) / 1e9
        except ConfigError:
            return None
    return float(value) if isinstance(value, int | float) else None
