"""What is declared is what is tested: the lowest versions, and the Pythons."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.versions import release

ROOT = Path(__file__).parent.parent
VERSIONS = ROOT / "tests" / "versions"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, str]:
    """Return the exact versions of one list."""
    return dict(re.findall(r"^([\w-]+)==([\w.]+)$", (VERSIONS / name).read_text(), re.MULTILINE))


def floors() -> dict[str, str]:
    """Return the lowest version that is declared of each package that a client or a server needs."""
    declared = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["server"]]
    return dict(requirement.split(">=") for requirement in declared)


def test_the_lowest_versions_are_those_that_are_declared() -> None:
    assert {package: release(pin) for package, pin in pins("lowest.txt").items()} == {
        package: release(f"{floor}.0" if floor.count(".") == 1 else floor) for package, floor in floors().items()
    }


def test_the_middle_ones_are_above_them() -> None:
    middle = pins("middle.txt")

    assert all(release(middle[package]) > release(floor) for package, floor in floors().items())


@pytest.mark.parametrize("package", ["grpcio", "protobuf", "grpcio-health-checking"])
def test_the_documentation_names_them(package: str) -> None:
    row = re.search(rf"^\| {package} \|.*$", (ROOT / "docs" / "compatibility.md").read_text(), re.MULTILINE)

    assert row is not None
    assert floors()[package] in row[0]
    assert pins("lowest.txt")[package] in row[0]
    assert pins("middle.txt")[package] in row[0]


def test_the_readme_names_the_lowest() -> None:
    stated = re.search(r"Python ([\d.]+) or later and grpcio ([\d.]+) or later", (ROOT / "README.md").read_text())

    assert stated is not None
    assert stated.groups() == (PROJECT["requires-python"].removeprefix(">="), floors()["grpcio"])


def test_the_selection_is_there() -> None:
    selected = (VERSIONS / "selection.txt").read_text().split()

    assert selected
    assert [path for path in selected if not (ROOT / path).exists()] == []
