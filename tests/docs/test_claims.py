"""What the pages say of options, names, facts, reasons, links and pictures is so."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import pkgutil
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest

import healthlb
import healthlb.aio
import healthlb.core.pickers
import healthlb.pickers
from healthlb.core import facts
from healthlb.core.subchannel import health
from tests.docs.pages import PAGES, ROOT, anchors, blocks, inline_codes, links, table_rows

DOCS = ROOT / "docs"
OPTIONS = (
    *(healthlb.HealthCheck, healthlb.Heartbeat, healthlb.Backoff),
    *(healthlb.Failover, healthlb.RetryBudget, healthlb.RetryThrottle),
    *(healthlb.FlapDamping, healthlb.SlowStart),
    *(healthlb.Outliers, healthlb.SuccessRate, healthlb.FailurePercentage),
    healthlb.Overload,
)
_OPTION = re.compile(r"`(\w+)\.(\w+)`")
_OWN_NAMES = {kind.__name__: kind for kind in OPTIONS}
_WEB = re.compile(r"https?://")


def ids(page: Path) -> str:
    """Name a page in a test's id."""
    return page.name


# --- options ---------------------------------------------------------------------------------------


def documented_defaults() -> dict[tuple[str, str], str]:
    """Return the default that each row about an option gives."""
    found = {}
    for page in PAGES:
        for row in table_rows(page):
            option = _OPTION.fullmatch(row[0])
            if option and option[1] in _OWN_NAMES:
                found[option[1], option[2]] = row[1]
    return found


def has_same_default(field: dataclasses.Field[Any], told: str) -> bool:
    """Whether a field's default is what a table says."""
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return told == "required"
    wanted = eval(told.strip("`"), dict(_OWN_NAMES))
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return bool(default == wanted)


def test_every_option_is_documented_with_its_default() -> None:
    told = documented_defaults()
    fields = {(kind.__name__, field.name): field for kind in OPTIONS for field in dataclasses.fields(kind)}

    assert set(told) == set(fields)
    assert [name for name, field in fields.items() if not has_same_default(field, told[name])] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_options_in_the_text_exist(page: Path) -> None:
    for code in inline_codes(page):
        option = re.fullmatch(r"(\w+)\.(\w+)", code)
        if option and option[1] in _OWN_NAMES:
            assert option[2] in {field.name for field in dataclasses.fields(_OWN_NAMES[option[1]])}, code
        if re.fullmatch(rf"({'|'.join(_OWN_NAMES)})\(.*\)", code):
            eval(code, dict(_OWN_NAMES))


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_names_in_the_text_exist(page: Path) -> None:
    for code in inline_codes(page):
        if re.fullmatch(r"healthlb(\.\w+)+(\(.*\))?", code):
            # A module, or what is in one.
            assert pkgutil.resolve_name(code.partition("(")[0]), code


def test_constructors_are_told_as_they_are() -> None:
    directives = dict(re.findall(r"^\.\. autoclass:: ([\w.]+)(\(.*\))$", (DOCS / "api.md").read_text(), re.MULTILINE))

    assert set(directives) == {"healthlb.HealthAwareChannel", "healthlb.aio.HealthAwareChannel"}
    for name, told in directives.items():
        signature = inspect.signature(eval(name))
        arguments = ast.parse(f"def f{told}: ...").body[0].args  # type: ignore[attr-defined]
        assert [argument.arg for argument in arguments.args] == ["target", "service"]
        assert [*("target", "service"), *(argument.arg for argument in arguments.kwonlyargs)] == list(
            signature.parameters
        )
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            assert eval(ast.unparse(default), dict(_OWN_NAMES)) == signature.parameters[argument.arg].default


def test_public_names_are_in_the_reference() -> None:
    reference = (DOCS / "api.md").read_text()

    assert [name for name in healthlb.__all__ if f"healthlb.{name}" not in reference] == []
    assert set(healthlb.__all__) <= set(healthlb.aio.__all__)


# --- facts, reasons, pickers -------------------------------------------------------------------------


def first_cells(page: str, column: str) -> list[str]:
    """Return the first column of the table whose first heading is `column`."""
    rows = table_rows(DOCS / page)
    start = next(index for index, row in enumerate(rows) if row[0] == column)
    width = len(rows[start])
    cells = []
    for row in rows[start + 1 :]:
        if len(row) != width or "`" not in row[0]:
            break
        cells.append(row[0])
    return cells


def test_every_fact_is_documented_with_its_fields() -> None:
    told = {
        row[0].strip("`"): re.findall(r"`(\w+)`", row[2])
        for row in table_rows(DOCS / "observability.md")
        if row[0].strip("`") in {kind.__name__ for kind in get_args(facts.Fact)}
    }

    for kind in get_args(facts.Fact):
        assert ["at", *told[kind.__name__]] == [field.name for field in dataclasses.fields(kind)]


def test_every_field_of_a_status_is_documented() -> None:
    told = [cell.strip("`") for cell in first_cells("observability.md", "field")]

    assert told == [field.name for field in dataclasses.fields(healthlb.SubchannelStatus)]


def test_reasons_are_those_of_the_program() -> None:
    source = "".join(path.read_text() for path in (ROOT / "healthlb" / "core").glob("*.py"))
    said = set(re.findall(r'reason = f?"([^"{]*)|, "(no heartbeat)", |"([a-z ]+)" if', source))
    program = {text for groups in said for text in groups if text}
    told = " ".join(first_cells("health.md", "reason"))

    for reason in re.findall(r"`([a-z ]+?)(?: 7|: ?\.\.\.|; ?\.\.\.| CODE: \.\.\.)?`", told):
        if reason != "failed to connect to all addresses":
            assert reason in source, reason
    assert [reason for reason in program if reason.strip(" :") not in told] == []


def test_every_picker_is_documented() -> None:
    told = {cell.strip("`") for cell in first_cells("pickers.md", "name")}

    assert told == set(healthlb.core.pickers.picker_names())


def test_every_argument_of_a_picker_is_documented_with_its_default() -> None:
    rows = table_rows(DOCS / "pickers.md")
    start = next(index for index, row in enumerate(rows) if row[0] == "class") + 1
    told, kind = set(), ""
    for cells in itertools.takewhile(lambda cells: len(cells) == 4, rows[start:]):
        kind = cells[0].strip("`") or kind
        told |= {(kind, name) for name in re.findall(r"`(\w+)`", cells[1])}
    kinds = [kind for kind in vars(healthlb.pickers).values() if inspect.isclass(kind) and hasattr(kind, "build")]

    assert told == {
        (kind.__name__, name)
        for kind in kinds
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


# --- links and pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if _WEB.match(link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("folder", ["docs", "healthlb"])
def test_nobody_is_told_to_install_it_from_an_index(folder: str) -> None:
    texts = {path: path.read_text() for path in (ROOT / folder).rglob("*") if path.suffix in (".md", ".py")}

    assert [path for path, text in texts.items() if re.search(r"pip install ['\"]?healthlb", text)] == []


def test_every_page_is_in_the_index() -> None:
    listed = re.findall(r"^(\w+)$", (DOCS / "index.md").read_text(), re.MULTILINE)

    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} == set(listed)


def test_picture_of_the_health_machine_is_that_of_the_table() -> None:
    drawn = runpy.run_path(str(DOCS / "draw_health.py"))["drawing"]()

    assert (DOCS / "images" / "health.svg").read_text() == drawn, "run docs/draw_health.py"


def test_picture_of_the_health_machine_cannot_leave_a_row_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        **health.TABLE,
        (health.Phase.UNCHECKED, health.Signal.DUE): (health.Phase.WATCHING, health.Action.NOTHING),
    }
    monkeypatch.setattr(health, "TABLE", table)

    with pytest.raises(KeyError):
        runpy.run_path(str(DOCS / "draw_health.py"))["drawing"]()


def test_picture_of_the_demo_fetches_nothing() -> None:
    picture = (DOCS / "images" / "demo.svg").read_text()

    assert "@font-face" not in picture
    assert "TRANSIENT_FAILURE" in picture


# --- commands --------------------------------------------------------------------------------------

COMMANDS = {
    "demo": "python3 -m venv .venv && .venv/bin/pip install -q -e '.[cli,server]' && .venv/bin/healthlb demo",
    "tests": (
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]' && "
        ".venv/bin/python -m pytest -n 3 --dist loadscope"
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_the_readme(name: str) -> None:
    found = [block for block in blocks(ROOT / "README.md") if block.remark == f"run: {name}"]

    assert [block.text for block in found] == [COMMANDS[name] + "\n"]


@pytest.mark.parametrize("name", COMMANDS)
def test_ci_extracts_the_commands_of_the_readme(name: str) -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout")
    extract = re.search(r"^command_after\(\).*?^\}", script.read_text(), re.DOTALL | re.MULTILINE)
    assert extract is not None

    shown = subprocess.run(
        ["bash", "-c", f"{extract[0]}\ncommand_after {name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == COMMANDS[name]
