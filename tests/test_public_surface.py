"""What is public: as the page says, as a dump says, and as type checkers see it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from typing import Any, get_args

import pytest

import healthlb
from healthlb.telemetry import logs

pytest.importorskip("griffe", reason="griffe reads the public API")

from tests.public_surface import FILE, PAGE, ROOT, public_modules, surface

MODULES = public_modules()


def test_the_public_api_is_as_it_was_written_down() -> None:
    """`python -m tests.public_surface` writes it anew; CHANGELOG.md says what has changed."""
    assert surface() == FILE.read_text()


def test_the_dump_has_signatures_and_defaults() -> None:
    text = surface()

    assert "    interval: float = 10.0\n    property interval_ns: int\n" in text
    assert "  def register_picker(name: str, factory: Callable[..., PickerBuilder]) -> None\n" in text


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_is_on_the_page(name: str) -> None:
    page = PAGE.read_text()
    has_all = f".. automodule:: {name}\n" in page

    assert [
        one for one in importlib.import_module(name).__all__ if not (has_all or re.search(rf"\.{one}\b", page))
    ] == []


def test_the_page_names_all_that_may_be_imported() -> None:
    """Every module that has an `__all__`; the simulator is a command, not a library."""
    packages = {path.parent for path in (ROOT / "healthlb").rglob("__init__.py")}
    named = {
        ".".join(path.relative_to(ROOT).parts) for path in packages if "__all__" in (path / "__init__.py").read_text()
    }
    single = {f"healthlb.{path.stem}" for path in (ROOT / "healthlb").glob("*.py") if "__all__" in path.read_text()}

    found = {name for name in named | single if not name.startswith("healthlb.simulation.")} - {"healthlb.__init__"}
    assert found <= set(MODULES)


def test_every_fact_is_public_and_told_of() -> None:
    known = {fact.__name__ for fact in get_args(healthlb.facts.Fact)}

    assert set(healthlb.facts.__all__) == known | {"ConnectivityState", "Fact"}
    assert {fact.__name__ for fact in logs._LEVELS} == known
    assert [name for name in known if f"`{name}`" not in (PAGE.parent / "observability.md").read_text()] == []


# --- types ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verified(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what pyright knows of the types of every symbol."""
    pytest.importorskip("pyright", reason="pyright says how complete the types are")
    folder = tmp_path_factory.mktemp("pyright")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    if subprocess.run([*command, "--version"], cwd=folder, env=env, capture_output=True, timeout=100).returncode:
        pytest.skip("pyright cannot get what it is written in")
    command += ["--ignoreexternal", "--outputjson", "--verifytypes", "healthlb"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=110)
    found: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    return {symbol["name"]: symbol for symbol in found["symbols"]}


def _public_symbols(verified: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those that are public by the page: names, what they stand for, and its members."""
    roots = {f"{module}.{name}" for module in MODULES for name in importlib.import_module(module).__all__}
    defined = {name for name, symbol in verified.items() if roots & {name, *symbol.get("alternateNames", ())}}
    members = tuple(f"{name}." for name in defined)
    return [symbol for name, symbol in verified.items() if name in defined or name.startswith(members)]


def test_the_types_of_all_that_is_public_are_known(verified: dict[str, Any]) -> None:
    """`pyright --verifytypes healthlb --ignoreexternal`: 100 % of what the page says is public."""
    public = _public_symbols(verified)
    unknown = [
        (one["name"], [said["message"] for said in one["diagnostics"]]) for one in public if not one["isTypeKnown"]
    ]

    assert len(public) > 300
    assert unknown == []


def test_what_is_not_known_is_seen(verified: dict[str, Any]) -> None:
    """The members of public classes are looked at, wherever those are defined."""
    names = {symbol["name"] for symbol in _public_symbols(verified)}

    assert {"healthlb.core.load.Subchannel.endpoint", "healthlb.sync.health_client.HealthClient.watch"} <= names
