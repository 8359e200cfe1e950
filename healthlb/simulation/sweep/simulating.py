"""Runs one cell: the scenario with its changes, through the simulator, and what is asked of it.

A cell gets its numbers from the record of its own run. What takes several runs to say is said of results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from healthlb.errors import ConfigError
from healthlb.simulation.checks import check_math
from healthlb.simulation.checks.checks import METRICS, Numbers, check_expectation, evaluate, is_over_runs
from healthlb.simulation.checks.expression import Expression
from healthlb.simulation.scenario.scenario import Expectation, Scenario
from healthlb.simulation.scenario_files import scenario_file
from healthlb.simulation.scenario_files.table import ScenarioError
from healthlb.simulation.sweep.cells import Cell, Value
from healthlb.simulation.sweep.designs import Axis
from healthlb.simulation.sweep.overrides import overridden
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.rounds import Judge
from healthlb.simulation.sweep.summary import holds
from healthlb.simulation.sweep.sweep import Sweep
from healthlb.simulation.world import world

FUNCTIONS: Mapping[str, Callable[..., float]] = {name: entry[0] for name, entry in check_math.FUNCTIONS.items()}
"""What a sweep's checks and its boundary may call."""


def find_sweep(name: str) -> Path:
    """Return the file of a shipped sweep, or the file that is named itself.

    Raises:
        ScenarioError: there is neither.
    """
    return scenario_file.find_file(name, "sweep", sweeps)


def sweeps() -> dict[str, Path]:
    """Return the shipped sweeps by name, sorted."""
    folder = next((folder for folder in scenario_file.CATALOGUES if folder.is_dir()), None)
    return {path.stem: path for path in sorted((folder / "sweeps").glob("*.toml"))} if folder else {}


def find_scenario(name: str, folder: Path) -> Mapping[str, Any]:
    """Return the content of a scenario: of a file in the folder of the sweep's file, or of a shipped one by its name.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    beside = folder / name
    return scenario_file.read_content(beside if beside.is_file() else scenario_file.find_scenario(name))


def simulate(content: Mapping[str, Any], cell: Cell) -> Result:
    """Run a cell.

    Args:
        content: of the scenario's file.
        cell: what to change in it, and what to ask.

    Raises:
        ConfigError: the scenario cannot work with these changes, or a measure has no value.
    """
    scenario = scenario_file.parse_scenario(overridden(content, cell.overrides))
    record = world.run(scenario, cell.policy, cell.replication)
    numbers = Numbers(record, scenario.parameters)
    measured = {name: float(Expression(text).value(numbers.names, numbers.functions)) for name, text in cell.measures}
    own = replace(scenario, expect=tuple(one for one in scenario.expect if not is_over_runs(Expression(one.check))))
    checks = evaluate(own, {cell.policy: [record]})
    return Result(
        cell=cell,
        # JSON has no infinity, and what is no number is no result.
        metrics={name: value for name, value in {**record.metrics, **measured}.items() if math.isfinite(value)},
        checks={check.name: check.holds for check in checks if check.holds is not None},
        latency=record.latency.to_json(),
    )


def judge_of(sweep: Sweep) -> Judge | None:
    """Return what says whether the check of a refinement holds for the numbers of a cell."""
    if sweep.refine is None:
        return None
    check = Expression(sweep.refine.check)
    return lambda numbers: holds(check, numbers, FUNCTIONS)


def examine(sweep: Sweep) -> None:
    """Refuse a sweep whose cells could not be run, or whose expressions name what there is not.

    The scenario is read with each axis at its ends, so an error comes before the first cell.

    Raises:
        ScenarioError: that is so.
    """
    scenario = _parsed(sweep, "the scenario", [])
    for axis in sweep.axes:
        for value in _ends(axis):
            _parsed(sweep, f"axis {axis.name} = {value}", [(path, value) for path in axis.paths])
    for name, text in sweep.measures:
        if is_over_runs(Expression(text)):
            raise ScenarioError(f"{sweep.name}: measures.{name} = {text!r}, must be of a single run")
        try:
            check_expectation(scenario, Expectation(name=name, check=text), f"measures.{name}")
        except ConfigError as error:
            raise ScenarioError(f"{sweep.name}: {error}") from error
    _examine_names(sweep)


def _examine_names(sweep: Sweep) -> None:
    measures = {name for name, _ in sweep.measures}
    for name in measures & METRICS.keys():
        raise ScenarioError(f"{sweep.name}: measures.{name}, must not have the name of a metric")
    known = METRICS.keys() | measures
    wanted = {"metrics": sweep.metrics, "map.values": sweep.map.values if sweep.map else ()}
    if sweep.stop:
        wanted["stop.metric"] = (sweep.stop.metric,)
    for key, names in wanted.items():
        for name in names:
            if name not in known:
                listed = ", ".join(sorted(known))
                raise ScenarioError(f"{sweep.name}: {key} = {name!r}, must be a metric or a measure: {listed}")
    checks = dict(sweep.checks)
    if sweep.refine:
        checks["refine.check"] = sweep.refine.check
    usable = known | {axis.name for axis in sweep.axes}
    for key, text in checks.items():
        _examine_expression(sweep, key, text, usable)
    if sweep.boundary:
        _examine_expression(sweep, "boundary.zero", sweep.boundary, {axis.name for axis in sweep.axes})


def _examine_expression(sweep: Sweep, key: str, text: str, names: set[str]) -> None:
    expression = Expression(text)
    for name in expression.names:
        if name not in names:
            raise ScenarioError(f"{sweep.name}: {key} = {text!r}, must not name {name!r}: no metric, measure or axis")
    for call in expression.calls:
        if call.function not in FUNCTIONS:
            where = f"{sweep.name}: {key} = {text!r}"
            raise ScenarioError(f"{where}, must not call {call.function!r}; it may in [measures]")


def _parsed(sweep: Sweep, what: str, overrides: list[tuple[str, Value]]) -> Scenario:
    try:
        return scenario_file.parse_scenario(overridden(sweep.world, overrides))
    except ConfigError as error:
        raise ScenarioError(f"{sweep.name}: {what}: {error}") from error


def _ends(axis: Axis) -> tuple[Value, ...]:
    return axis.values or (axis.at(0.0), axis.at(1.0))
