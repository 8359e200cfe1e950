"""Reads the files of sweeps.

The one rule: what a file says is checked before the first cell is run, each axis at its ends, so that nobody waits an
hour for a misspelt name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from healthlb.errors import ConfigError
from healthlb.simulation.expression import Expression
from healthlb.simulation.sweep.designs import DESIGNS, Axis
from healthlb.simulation.sweep.overrides import overridden
from healthlb.simulation.sweep.reading import SweepError, Table
from healthlb.simulation.sweep.sobol import MOST_DIMENSIONS
from healthlb.simulation.sweep.sweep import Map, Refine, Stop, Sweep

SCHEMA = 1
MOST_CELLS = 10_000_000
_MOST_STEPS = 10_000

FindScenario = Callable[[str, Path], Mapping[str, Any]]


def read(path: Path, find: FindScenario) -> Sweep:
    """Return the sweep of a file.

    Args:
        path: of the file.
        find: returns the content of the scenario that the file names, given the folder of the file.

    Raises:
        SweepError: the file cannot be read, or what it says cannot work.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SweepError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SweepError(f"{path}: {error}") from error
    return parse(data, path.name, lambda name: find(name, path.parent))


def parse(data: Mapping[str, Any], where: str, find: Callable[[str], Mapping[str, Any]]) -> Sweep:
    """Return the sweep that a file's content says.

    Args:
        data: the content.
        where: the file's name, for errors.
        find: returns the content of a scenario by the name that the file gives it.

    Raises:
        SweepError: it cannot work.
    """
    table = Table(data, where)
    table.whole("schema", least=SCHEMA, most=SCHEMA)
    world = _expecting(table, _world(table, find))
    axes = _axes(table)
    design = table.text("design", "grid", DESIGNS)
    names = [axis.name for axis in axes]
    measures = _expressions(table, "measures")
    boundary = table.table("boundary")
    sweep = Sweep(
        name=table.text("name"),
        title=table.text("title", ""),
        world=world,
        policies=_policies(table, world),
        axes=axes,
        design=design,
        count=0 if design == "grid" else table.whole("points", least=1, most=MOST_CELLS),
        seed=table.whole("seed", 1, least=0, most=2**63 - 1),
        replications=table.whole("replications", 1, least=1, most=100_000),
        measures=tuple(sorted(measures.items())),
        metrics=table.texts("metrics", ("goodput", "p99", *measures)),
        checks=_expressions(table, "checks"),
        boundary=_boundary(boundary, names) if boundary else "",
        boundary_label=boundary.text("label", "theory") if boundary else "",
        map=_map(table, axes),
        refine=_refine(table, axes, design),
        stop=_stop(table),
    )
    if boundary:
        boundary.end()
    table.end()
    _check_size(table, sweep)
    _check_paths(table, sweep)
    return sweep


def _world(table: Table, find: Callable[[str], Mapping[str, Any]]) -> Mapping[str, Any]:
    if table.is_table("scenario"):
        return {"name": table.text("name"), **table.mapping("scenario")}
    name = table.text("scenario")
    try:
        return find(name)
    except (OSError, tomllib.TOMLDecodeError, ConfigError) as error:
        raise table.error("scenario", name, f"must be a scenario's name or file: {error}") from error


def _expecting(table: Table, world: Mapping[str, Any]) -> Mapping[str, Any]:
    # Most of what a scenario expects it expects of its own numbers, which a sweep changes.
    known = world.get("expect", {})
    if "expect" not in table or not isinstance(known, Mapping):
        return world
    wanted = table.texts("expect")
    for name in wanted:
        if name not in known:
            raise table.error("expect", name, f"must be of the scenario's checks: {', '.join(known)}")
    return {**world, "expect": {name: known[name] for name in wanted}}


def _policies(table: Table, world: Mapping[str, Any]) -> tuple[str, ...]:
    known = tuple(world.get("policy") or ("default",))
    chosen = table.texts("policies", known)
    for name in chosen:
        if name not in known:
            raise table.error("policies", name, f"must be of the scenario's: {', '.join(known)}")
    return chosen


def _axes(table: Table) -> tuple[Axis, ...]:
    items = table.items("axis")
    if len(items) > MOST_DIMENSIONS:
        raise SweepError(f"{table.where}: {len(items)} axes, must be at most {MOST_DIMENSIONS}")
    axes = tuple(_axis(Table(item, f"{table.where}, axis {number}")) for number, item in enumerate(items, 1))
    for index, axis in enumerate(axes):
        if axis.name in {other.name for other in axes[:index]}:
            raise SweepError(f"{table.where}, axis {index + 1}: name = {axis.name!r}, must be another than before")
    return axes


def _axis(table: Table) -> Axis:
    name = table.text("name")
    if not name.isidentifier():
        raise table.error("name", name, "must be a name as expressions have them: letters, digits, _")
    paths = (table.text("path"),) if "path" in table else table.texts("paths")
    label = table.text("label", name)
    if "values" in table:
        axis = Axis(name=name, paths=paths, label=label, values=_values(table))
    else:
        axis = _range(table, name, paths, label)
    table.end()
    return axis


def _values(table: Table) -> tuple[Any, ...]:
    values = table.items("values")
    for value in values:
        if not isinstance(value, str | int | float) or value != value:
            raise table.error("values", value, "must be texts, numbers or true and false")
    if len(set(values)) < len(values):
        raise table.error("values", values, "must have each once")
    return tuple(values)


def _range(table: Table, name: str, paths: tuple[str, ...], label: str) -> Axis:
    is_log = table.text("scale", "linear", ("linear", "log")) == "log"
    low = table.number("from", above=0.0 if is_log else float("-inf"))
    high = table.number("to", above=low)
    is_whole = table.flag("whole", False)
    if is_whole and (low != int(low) or high != int(high)):
        raise table.error("from", low, "and to must be whole numbers where whole = true")
    steps = table.whole("steps", 5, least=2, most=_MOST_STEPS)
    return Axis(name=name, paths=paths, label=label, low=low, high=high, steps=steps, is_log=is_log, is_whole=is_whole)


def _expressions(table: Table, key: str) -> dict[str, str]:
    found = table.mapping(key)
    for name, text in found.items():
        if not name.isidentifier():
            raise table.error(key, name, "must be a name as expressions have them: letters, digits, _")
        _expression(table, f"{key}.{name}", text)
    return found


def _expression(table: Table, key: str, text: object, among: Collection[str] = ()) -> str:
    if not isinstance(text, str):
        raise table.error(key, text, "must be an expression, as text")
    try:
        names = Expression(text).names
    except ConfigError as error:
        raise table.error(key, text, f"must be an expression: {error}") from error
    for name in names:
        if among and name not in among:
            raise table.error(key, text, f"must not name {name!r}; there are {', '.join(among)}")
    return text


def _boundary(table: Table, names: list[str]) -> str:
    return _expression(table, "zero", table.text("zero"), names)


def _map(table: Table, axes: tuple[Axis, ...]) -> Map | None:
    inner = table.table("map")
    names = [axis.name for axis in axes if axis.is_numeric]
    if inner is None:
        return Map(x=names[0], y=names[1], values=()) if len(names) > 1 else None
    if len(names) < 2:
        raise SweepError(f"{inner.where}: needs two axes of numbers or durations, there are {len(names)}")
    x, y = inner.text("x", names[0], names), inner.text("y", names[1], names)
    if x == y:
        raise inner.error("y", y, "must be another axis than x")
    values = inner.texts("values", ())
    inner.end()
    return Map(x=x, y=y, values=values)


def _refine(table: Table, axes: tuple[Axis, ...], design: str) -> Refine | None:
    inner = table.table("refine")
    if inner is None:
        return None
    ranges = [axis.name for axis in axes if axis.is_range]
    if not ranges or design != "grid":
        raise SweepError(f"{inner.where}: needs the design grid and an axis with from and to")
    axis = inner.text("axis", ranges[0], ranges)
    check = _expression(inner, "check", inner.text("check"))
    tolerance = inner.number("tolerance", above=0.0)
    inner.end()
    return Refine(axis=axis, check=check, tolerance=tolerance)


def _stop(table: Table) -> Stop | None:
    inner = table.table("stop")
    if inner is None:
        return None
    if ("relative" in inner) == ("absolute" in inner):
        raise SweepError(f"{inner.where}: must have either relative or absolute")
    stop = Stop(
        metric=inner.text("metric"),
        relative=inner.number("relative", above=0.0) if "relative" in inner else None,
        absolute=inner.number("absolute", above=0.0) if "absolute" in inner else None,
        most=inner.whole("most", 32, least=2, most=100_000),
    )
    inner.end()
    return stop


def _check_size(table: Table, sweep: Sweep) -> None:
    count = sweep.count
    if sweep.design == "grid":
        count = 1
        for axis in sweep.axes:
            count *= len(axis.grid)
    cells = count * len(sweep.policies) * sweep.replications
    if cells > MOST_CELLS:
        raise SweepError(f"{table.where}: {cells:,} cells, must be at most {MOST_CELLS:,}")


def _check_paths(table: Table, sweep: Sweep) -> None:
    for number, axis in enumerate(sweep.axes, 1):
        for path in axis.paths:
            try:
                overridden(sweep.world, [(path, axis.at(0.0))])
            except ConfigError as error:
                raise SweepError(f"{table.where}, axis {number}: {error}") from error
