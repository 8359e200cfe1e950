"""What the page on sweeps says of files, options and shipped sweeps is what there is."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest

from healthlb.simulation.commands.sweep import command
from healthlb.simulation.scenario_files.table import REQUIRED, Table
from healthlb.simulation.sweep import files, simulating
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs" / "sweeps.md").read_text()
WORLD = {"backend": [{"slots": 1}], "policy": {"plain": {}}, "expect": {"fine": "ok > 1"}}
AXES = [
    {"name": "a", "path": "backend.slots", "from": 1, "to": 2},
    {"name": "b", "paths": ["backend.slots"], "values": [1, 2]},
]
WHOLE = {
    "schema": 1, "name": "all", "scenario": "s", "design": "grid", "axis": AXES, "map": {"x": "a"}, "boundary": {"zero": "a"},
    "refine": {"check": "ok > 1", "tolerance": 1}, "stop": {"metric": "ok", "relative": 1}, "expect": ["fine"],
}  # fmt: skip


class Recording(Table):
    """Remembers which keys it was asked for, by table."""

    asked: dict[str, set[str]] = {}  # noqa: RUF012

    def raw(self, name: str, default: Any = REQUIRED) -> Any:
        self.asked.setdefault(self.key("").rstrip("."), set()).add(name)
        return super().raw(name, default)

    def table(self, name: str) -> Table:
        return Recording(self.source, self.key(name), self.raw(name, {}))

    def tables(self, name: str) -> list[Table]:
        items = self.raw(name)
        return [Recording(self.source, f"{name}[{place}]", item) for place, item in enumerate(items)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    monkeypatch.setattr(files, "Table", Recording)
    monkeypatch.setattr(Recording, "asked", {})
    files.parse(WHOLE, "f", lambda name: WORLD)
    absolute = {"metric": "ok", "absolute": 1}
    spread = {key: value for key, value in WHOLE.items() if key != "refine"} | {"design": "sobol", "points": 4}
    files.parse({**spread, "stop": absolute}, "f", lambda name: WORLD)
    return Recording.asked


def rows(head: str) -> list[str]:
    table = TEXT.partition(f"\n| {head} ")[2].partition("\n\n")[0]
    return [line.split("|")[1] for line in table.splitlines()[2:]]


def test_keys_of_the_file_are_those_of_the_format(asked: dict[str, set[str]]) -> None:
    told: dict[str, set[str]] = {"": set()}
    for cell in rows("key |"):
        table, keys = re.fullmatch(r" (?:`\[\[?(\w+)\]?\]([^`]*)`)? ?(?:.*)", cell).groups()  # type: ignore[union-attr]
        told[""] |= {table} if table else set(re.findall(r"\w+", cell))
        if table and keys:
            told[table] = set(re.findall(r"\w+", keys))

    assert told == {where: asked[where] for where in told}


def test_keys_of_an_axis_are_those_of_the_format(asked: dict[str, set[str]]) -> None:
    assert {key for cell in rows("key of an axis") for key in re.findall(r"\w+", cell)} == asked["axis[0]"] | asked[
        "axis[1]"
    ]


def test_options_are_those_of_the_command() -> None:
    given = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }

    assert {option for cell in rows("option |") for option in re.findall(r"--\w+", cell)} == given


def test_shipped_sweeps_are_listed() -> None:
    assert {name for cell in rows("name |") for name in re.findall(r"[\w-]+", cell)} == simulating.sweeps().keys()
