"""What a cell came to, and how it stands in a file: one line of JSON, about 2 KB, whatever the number of calls.

A line proves itself. It carries a hash of its content, so one that was torn, cut or mixed with another is
told from a good one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from healthlb.simulation.sweep.cells import Cell, fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of one cell.

    Attributes:
        cell: that was run.
        metrics: numbers by name, the cell's measures among them.
        checks: the scenario's expectations of a single run, by name, and whether they held.
        latency: the histogram of calls that ended well, as `Histogram.to_json` writes it.
        failure: what was raised instead, or "".
        is_passing: whether the failure was the machine's, as want of memory, and may not come again.
        cost: CPU seconds; not a part of what counts as equal.
    """

    cell: Cell
    metrics: Mapping[str, float] = field(default_factory=dict)
    checks: Mapping[str, bool] = field(default_factory=dict)
    latency: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    is_passing: bool = False
    cost: float = 0.0

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the checks that did not hold."""
        return tuple(name for name, held in self.checks.items() if not held)

    def sealed(self) -> Line:
        """Return it as a line for a file."""
        content = self._content()
        key, total = self.cell.key, fingerprint(content)
        cost = {"cost": round(self.cost, 6)} if self.cost else {}
        text = json.dumps({"key": key, "sum": total, **content, **cost}, separators=(",", ":"), allow_nan=False)
        return Line(key, total, replace(self, latency={}), text + "\n")

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {"cell": self.cell.to_json()}
        if self.failure:
            content["failure"] = self.failure
            content["passing"] = self.is_passing
        else:
            content |= {"metrics": dict(self.metrics), "checks": dict(self.checks), "latency": dict(self.latency)}
        return content


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, proved good.

    Attributes:
        key: of the cell.
        sum: the hash of what the line says.
        result: what it says, without the histogram: that is most of it, and few ask.
        text: the line itself, with its end.
    """

    key: str
    sum: str
    result: Result
    text: str


def read_line(text: str) -> Line:
    """Return what a line of a file says.

    Raises:
        ValueError: it is no line of a result, or not as it was written.
    """
    sealed = json.loads(text)
    if not isinstance(sealed, dict):
        raise ValueError("not a result")
    try:
        key, given, cost = sealed.pop("key"), sealed.pop("sum"), sealed.pop("cost", 0.0)
        cell = Cell.from_json(sealed["cell"])
        result = Result(
            cell=cell,
            metrics=sealed.get("metrics", {}),
            checks=sealed.get("checks", {}),
            failure=sealed.get("failure", ""),
            is_passing=sealed.get("passing", False),
            cost=cost,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a result: {error}") from None
    if fingerprint(sealed) != given or cell.key != key:
        raise ValueError("its content is not what was written")
    return Line(key, given, result, text)
