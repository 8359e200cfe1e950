"""The page on tuning: what it says was found is found again, and what it names is there."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import fmean

import pytest

from healthlb.simulation.scenario_files.scenario_file import catalogue, load_scenario
from healthlb.simulation.sweep import simulating
from healthlb.simulation.world import world
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs" / "tuning.md").read_text()
FOUND: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
for scenario, policy, metric, value in re.findall(r"<!-- found: ([\w-]+), ([\w-]+), (\w+), ([\d.]+) -->", TEXT):
    FOUND[scenario].append((policy, metric, float(value)))
# Of a few calls in ten thousand, or of few replications, one more or less is no news.
_LEAST = {"error_ratio": 0.001}


@pytest.mark.parametrize("name", FOUND)
def test_what_is_said_to_be_found_is_found(name: str) -> None:
    scenario = load_scenario(catalogue()[name])
    policies = {policy for policy, _, _ in FOUND[name]}
    runs = {
        policy: [world.run(scenario, policy, number).metrics for number in range(scenario.replications)]
        for policy in sorted(policies)
    }

    for policy, metric, value in FOUND[name]:
        mean = fmean(metrics[metric] for metrics in runs[policy])
        assert mean == pytest.approx(value, rel=0.15, abs=_LEAST.get(metric, 0.0)), (policy, metric)


def test_scenarios_and_sweeps_that_are_named_are_there() -> None:
    known = catalogue().keys() | simulating.sweeps().keys()
    named = set(re.findall(r"`([a-z]\d+-[\w-]+)`", TEXT)) | set(re.findall(r"simulate sweep ([\w-]+)", TEXT))

    assert len(named) > 15
    assert named <= known


def test_most_of_what_is_named_is_measured_here() -> None:
    assert len(FOUND) >= 12
