"""Shipped scenarios with something changed, and which of their checks fail then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from healthlb.simulation.checks.checks import evaluate
from healthlb.simulation.scenario_files.scenario_file import parse_scenario, read_content
from healthlb.simulation.world import world

FOLDER = Path(__file__).parents[2] / "simulations"
GONE = object()


def failing_checks(name: str, changes: Mapping[str, Any], policies: tuple[str, ...] = ()) -> set[str]:
    """Return the names of the checks that fail.

    Args:
        name: of the scenario's file.
        changes: new values by their places, as "policy.plain.picker" or "faults.timeline.0.mode"; GONE for none.
        policies: those that are run; all where there is none.
    """
    content = read_content(FOLDER / f"{name}.toml")
    for place, value in changes.items():
        _put(content, place, value)
    scenario = parse_scenario(content, name)
    runs = {
        policy: [world.run(scenario, policy, replication) for replication in range(scenario.replications)]
        for policy in policies or scenario.policies
    }
    return {result.name for result in evaluate(scenario, runs) if result.holds is False}


def _put(content: Any, place: str, value: Any) -> None:
    *path, last = (int(part) if part.isdigit() else part for part in place.split("."))
    for part in path:
        content = content[part]
    if value is GONE:
        del content[last]
    else:
        content[last] = value
