"""Every shipped scenario: its checks hold, and it says what it shows."""

from __future__ import annotations

import re

import pytest

from healthlb.simulation.running import run_all
from healthlb.simulation.scenario_files import scenario_file
from healthlb.simulation.scenario_files.scenario_file import load_scenario
from tests.simulation import test_catalogue_broken_flapping, test_catalogue_broken_load
from tests.simulation.catalogue import FOLDER

NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
IDS = "f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 o1 o2 o3 o4 o5 o6 o7 o8 o9 r1 r3 r4 r5 r6 m1 m2 m3 m4 b1 b2 b3 b4 b5 b6 p1 p2 p3 p4 p5 p6 p7 p8".split()  # noqa: SIM905


@pytest.mark.parametrize("name", NAMES)
def test_its_checks_hold(name: str) -> None:
    scenario = load_scenario(FOLDER / f"{name}.toml")

    outcome = run_all(scenario, tuple(scenario.policies))

    assert [f"{one.name} ({one.policy}): {one.found}" for one in outcome.checks if not one.holds] == []
    assert {one.name for one in outcome.checks} == {one.name for one in scenario.expect}
    # A few seconds of one core, whatever the host is doing besides.
    assert sum(record.cpu_seconds for record in outcome.records) < 15


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_shows_and_why(name: str) -> None:
    path = FOLDER / f"{name}.toml"
    scenario = load_scenario(path)

    assert scenario.name == name
    assert scenario.title
    assert scenario.tags
    assert len(scenario.expect) >= 3
    assert [one.name for one in scenario.expect if not one.why] == []
    text = path.read_text()
    assert text.startswith("# ")
    assert text.count("\n#") >= 3


def test_the_catalogue_is_complete() -> None:
    assert sorted(name.partition("-")[0] for name in NAMES) == sorted(IDS)
    assert set(scenario_file.catalogue()) == set(NAMES)


def test_each_has_a_broken_variant() -> None:
    broken = {entry[0] for entry in test_catalogue_broken_flapping.BROKEN}
    broken |= {entry[0] for entry in test_catalogue_broken_load.BROKEN}

    assert broken == set(NAMES)


def test_the_readme_lists_each() -> None:
    listed = re.findall(r"^\| (\w+) \| `([\w-]+)` \| ", (FOLDER / "README.md").read_text(), re.MULTILINE)

    assert [name for _, name in listed] == sorted(NAMES, key=lambda name: IDS.index(name.partition("-")[0]))
    assert all(name.startswith(f"{id.lower()}-") for id, name in listed)
