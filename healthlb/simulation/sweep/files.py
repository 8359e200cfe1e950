"""Reads the files of sweeps.

What a file says is checked before the first cell is run. Nobody is to wait an hour for a misspelt name.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from healthlb.errors import ConfigError
from healthlb.files import read_text
from healthlb.simulation.checks.expression import Expression, ExpressionError
from healthlb.simulation.scenario_files.table import ScenarioError, Table
from healthlb.simulation.sweep.designs import DESIGNS, Axis
from healthlb.simulation.sweep.overrides import overridden
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
        ConfigError: the file cannot be read, or what it says cannot work.
    """
    try:
        data = tomllib.loads(read_text(path))
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:  # a number of more than 4,300 digits is a ValueError
        raise ScenarioError(f"{path}: {error or 'too deeply nested'}") from error
    return parse(data, path.name, lambda name: find(name, path.parent))


def parse(data: Mapping[str, Any], source: str, find: Callable[[str], Mapping[str, Any]]) -> Sweep:
    """Return the sweep that a file's content says.

    Args:
        data: the content.
        source: the file's name, for errors.
        find: returns the content of a scenario by the name that the file gives it.

    Raises:
        ScenarioError: it cannot work.
    """
    table = Table(source, "", data)
    table.count("schema", low=SCHEMA, high=SCHEMA)
    world = _expecting(table, _world(table, find))
    axes = _axes(table)
    design = table.text("design", "grid", among=DESIGNS)
    measures = _expressions(table, "measures")
    boundary = table.table("boundary")
    sweep = Sweep(
        name=table.text("name"),
        title=table.text("title", ""),
        world=world,
        policies=_policies(table, world),
        axes=axes,
        design=design,
        count=0 if design == "grid" else table.count("points", low=1, high=MOST_CELLS),
        seed=table.count("seed", 1, low=0, high=2**63 - 1),
        replications=table.count("replications", 1, low=1, high=100_000),
        measures=tuple(sorted(measures.items())),
        metrics=_texts(table, "metrics") or ("goodput", "p99", *measures),
        checks=_expressions(table, "checks"),
        boundary=_expression(boundary, "zero", [axis.name for axis in axes]) if "boundary" in table else "",
        boundary_label=boundary.text("label", "theory"),
        map=_map(table, axes),
        refine=_refine(table, axes, design),
        stop=_stop(table),
    )
    boundary.done()
    table.done()
    _check_size(table, sweep)
    for axis in axes:
        for path in axis.paths:
            table.checked(overridden, world, [(path, axis.at(0.0))])
    return sweep


def _world(table: Table, find: Callable[[str], Mapping[str, Any]]) -> Mapping[str, Any]:
    content = table.raw("scenario")
    if isinstance(content, Mapping):
        return {"name": table.text("name"), **content}
    name = table.text("scenario")
    try:
        return find(name)
    except (OSError, ConfigError) as error:
        raise table.error(f"scenario: {error}") from error


def _expecting(table: Table, world: Mapping[str, Any]) -> Mapping[str, Any]:
    # Most of what a scenario expects it expects of its own numbers, which a sweep changes.
    wanted = _texts(table, "expect")
    known = world.get("expect", {})
    if not wanted or not isinstance(known, Mapping):
        return world
    _check_among(table, "expect", wanted, known)
    return {**world, "expect": {name: known[name] for name in wanted}}


def _policies(table: Table, world: Mapping[str, Any]) -> tuple[str, ...]:
    known = tuple(world.get("policy") or ("default",))
    chosen = _texts(table, "policies") or known
    _check_among(table, "policies", chosen, known)
    return chosen


def _check_among(table: Table, key: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise table.error(f"{key} must be of the scenario's, {', '.join(known)}, not {name!r}")


def _texts(table: Table, key: str) -> tuple[str, ...]:
    names = table.texts(key)
    if len(set(names)) < len(names) or not all(names) or (key in table and not names):
        raise table.wrong(key, "a list of texts, not empty and each once")
    return names


def _axes(table: Table) -> tuple[Axis, ...]:
    tables = table.tables("axis")
    if not 1 <= len(tables) <= MOST_DIMENSIONS:
        raise table.error(f"there must be 1 to {MOST_DIMENSIONS} [[axis]], not {len(tables)}")
    axes = tuple(map(_axis, tables))
    names = [axis.name for axis in axes]
    for index, inner in enumerate(tables):
        if names[index] in names[:index]:
            raise inner.wrong("name", "another than that of an axis before")
    return axes


def _axis(table: Table) -> Axis:
    name = table.text("name")
    if not name.isidentifier():
        raise table.wrong("name", "a name of letters, digits and underscores")
    # `path` is for one, and what is not given is asked for by that name.
    paths = _texts(table, "paths") if "paths" in table else (table.text("path"),)
    label = table.text("label", name)
    if "values" in table:
        axis = Axis(name=name, paths=paths, label=label, values=_values(table))
    else:
        axis = _range(table, name, paths, label)
    table.done()
    return axis


def _values(table: Table) -> tuple[Any, ...]:
    values = table.raw("values")
    if not isinstance(values, list) or not values or not all(_is_value(value) for value in values):
        raise table.wrong("values", "a list of texts, numbers, true and false")
    if len(set(values)) < len(values):
        raise table.wrong("values", "a list that has each once")
    return tuple(values)


def _is_value(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _range(table: Table, name: str, paths: tuple[str, ...], label: str) -> Axis:
    is_log = table.text("scale", "linear", among=("linear", "log")) == "log"
    low = table.number("from", above=0.0 if is_log else None)
    high = table.number("to", above=low)
    is_whole = table.flag("whole")
    if is_whole and not (low.is_integer() and high.is_integer()):
        raise table.wrong("from", "a whole number, and to as well, where whole = true")
    steps = table.count("steps", 5, low=2, high=_MOST_STEPS)
    return Axis(name=name, paths=paths, label=label, low=low, high=high, steps=steps, is_log=is_log, is_whole=is_whole)


def _expressions(table: Table, key: str) -> dict[str, str]:
    inner = table.table(key)
    for name in inner:
        if not name.isidentifier():
            raise inner.error(f"{inner.key(name)} must have a name of letters, digits and underscores")
    return {name: _expression(inner, name) for name in inner}


def _expression(table: Table, key: str, among: Collection[str] = ()) -> str:
    text = table.text(key)
    try:
        names = Expression(text).names
    except ExpressionError as error:
        raise table.error(f"{table.key(key)}: {error}") from error
    for name in names:
        if among and name not in among:
            raise table.error(f"{table.key(key)} must not name {name!r}; there may be {', '.join(among)}")
    return text


def _map(table: Table, axes: tuple[Axis, ...]) -> Map | None:
    names = [axis.name for axis in axes if axis.is_numeric]
    if len(names) < 2:
        if "map" in table:
            raise table.wrong("map", f"of two axes of numbers or durations; there are {len(names)}")
        return None
    inner = table.table("map")
    x, y = inner.text("x", names[0], among=names), inner.text("y", names[1], among=names)
    if x == y:
        raise inner.error(f"{inner.key('y')} must be another axis than x, not {y!r}")
    values = _texts(inner, "values")
    inner.done()
    return Map(x=x, y=y, values=values)


def _refine(table: Table, axes: tuple[Axis, ...], design: str) -> Refine | None:
    if "refine" not in table:
        return None
    inner = table.table("refine")
    ranges = [axis.name for axis in axes if axis.is_range]
    if not ranges or design != "grid":
        raise table.error("refine needs the design grid, and an axis with from and to")
    axis = inner.text("axis", ranges[0], among=ranges)
    check = _expression(inner, "check")
    tolerance = inner.number("tolerance", above=0.0)
    inner.done()
    return Refine(axis=axis, check=check, tolerance=tolerance)


def _stop(table: Table) -> Stop | None:
    if "stop" not in table:
        return None
    inner = table.table("stop")
    stop = Stop(
        metric=inner.text("metric"),
        relative=inner.number("relative", None, above=0.0),
        absolute=inner.number("absolute", None, above=0.0),
        most=inner.count("most", 32, low=2, high=100_000),
    )
    if (stop.relative is None) == (stop.absolute is None):
        raise table.error("stop must have either relative or absolute")
    inner.done()
    return stop


def _check_size(table: Table, sweep: Sweep) -> None:
    points = sweep.count or math.prod(len(axis.grid) for axis in sweep.axes)
    cells = points * len(sweep.policies) * sweep.replications
    if cells > MOST_CELLS:
        raise table.error(f"there must be at most {MOST_CELLS:,} cells, not {cells:,}")
