"""What docs/simulations.md says of the file format and of checks is so."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import click
import pytest

from healthlb.simulation.checks import check_functions, check_math
from healthlb.simulation.checks.checks import METRICS, OVER_RUNS
from healthlb.simulation.commands.command import simulate
from healthlb.simulation.scenario.laws import parse_law
from healthlb.simulation.scenario_files.scenario_file import parse_scenario
from healthlb.simulation.scenario_files.table import ScenarioError
from healthlb.simulation.scenario_files.world_tables import FAULTS
from healthlb.simulation.world.record import BELIEFS, TRUTHS
from tests.docs.pages import ROOT, table_rows

PAGE = ROOT / "docs" / "simulations.md"
ROWS = table_rows(PAGE)


def names(texts: list[str]) -> set[str]:
    """Return what stands between backticks."""
    return {name for text in texts for name in re.findall(r"`([^`]+)`", text)}


def table(heading: str) -> set[str]:
    """Return the names in the first column of the table below a heading."""
    section = PAGE.read_text().partition(f"### {heading}\n")[2]
    lines = section[section.index("|---") :].splitlines()[1:]
    rows = [line for line in lines[: lines.index("")] if line.startswith("| ")]
    return names([row.split(" | ")[0] for row in rows])


WORLD: dict[str, Any] = {"backend": [{"service": 1}], "client": [{"load": {"rate": 1}}]}


def taken(**changes: Any) -> set[str]:
    """Return the keys that there may be where `changes` has one that there is not."""
    with pytest.raises(ScenarioError, match="there may be") as refusal:
        parse_scenario({**WORLD, **changes})
    return set(str(refusal.value).partition("there may be ")[2].split(", "))


def test_keys_of_backends_and_clients_are_those_of_the_format() -> None:
    assert table("Backends") == taken(backend=[{"service": 1, "x": 1}])
    assert table("Clients") == taken(client=[{"load": {"rate": 1}, "x": 1}])


def test_keys_of_policies_are_those_of_the_format() -> None:
    assert table("Policies") - {"file"} == taken(policy={"p": {"x": 1}})


def test_kinds_of_faults_are_those_of_the_format() -> None:
    common = {"period", "duty", "phase", "stagger"}
    section = PAGE.read_text().partition("### Faults\n")[2].partition("## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]

    assert {row[0].strip("| `"): names([row[1]]) for row in rows} == {
        kind: set(keys) - common for kind, keys in FAULTS.items()
    }
    assert all(f"`{key}`" in section for key in common)


def test_metrics_and_functions_are_those_of_checks() -> None:
    text = PAGE.read_text()
    told = {name: row[1] for row in ROWS for name in re.findall(r"^`(\w+)`$", row[0]) if name in METRICS}
    functions = {match[1]: row[1] for row in ROWS if (match := re.match(r"`(\w+)\(", row[0]))}

    assert {name: says for name, says in told.items() if METRICS[name] == says} == dict(METRICS)
    assert functions == {
        **{name: function.says for name, function in check_functions.FUNCTIONS.items()},
        **{name: entry[2] for name, entry in OVER_RUNS.items()},
        "other": "a metric of another policy, in the same replication",
    }
    assert names([text.partition("Calculation: ")[2].partition(". ")[0]]) == set(check_math.FUNCTIONS)
    for state in (*TRUTHS, *BELIEFS, *check_functions.SERIES):
        assert f"`{state}`" in text


def test_laws_are_read_as_they_are_written() -> None:
    examples = [text for row in ROWS for text in re.findall(r"`(\{ dist = .*? \}|\"10ms\")`", row[1])]
    assert len(examples) >= 6

    for text in examples:
        law = tomllib.loads(f"law = {text}")["law"]
        if "file" not in law:
            assert parse_law("law", law).mean > 0


def test_options_are_those_of_the_commands() -> None:
    context = click.Context(simulate)
    options = set()
    for name in ("list", "run", "compare"):
        command = simulate.get_command(context, name)
        assert command is not None
        options |= {max(option.opts, key=len) for option in command.params if isinstance(option, click.Option)}
    told = names([row[0] for row in ROWS if row[0].startswith("`-")])

    short = {"-o": "--output", "-v": "--verbose"}
    assert {short.get(option, option) for option in (text.split()[0] for text in told)} == options - {"--tag"}
