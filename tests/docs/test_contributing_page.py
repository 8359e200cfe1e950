"""The page for contributors: its map is that of the code, its places exist, and its first tests fail as it says."""

from __future__ import annotations

import random
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from healthlb.core.pickers import make_factory
from healthlb.errors import ConfigError
from healthlb.resolvers import parse_target
from healthlb.simulation.world.faults import KINDS, Faults

DOCS = Path(__file__).parents[2] / "docs"
ROOT = DOCS.parent


def test_the_map_is_that_of_the_code() -> None:
    drawn = runpy.run_path(str(DOCS / "draw_map.py"))["drawing"]()

    assert (DOCS / "images" / "map.svg").read_text() == drawn, "run docs/draw_map.py"


def test_the_map_cannot_leave_a_room_out(tmp_path: Path) -> None:
    script = runpy.run_path(str(DOCS / "draw_map.py"))
    script["drawing"].__globals__["FLOORS"] = script["FLOORS"][1:]

    with pytest.raises(LookupError, match="cli"):
        script["drawing"]()


def test_the_map_tells_what_is_not_imported_from_below() -> None:
    imported = runpy.run_path(str(DOCS / "draw_map.py"))["imported"]

    assert imported("sync", {"core", "control"}) == "imports control, core"
    assert imported("core", {"sync"}) == "imports none of the others; beside or above it: sync"


@pytest.mark.parametrize("page", ["contributing.md", "architecture.md"])
def test_every_file_that_is_named_exists(page: str) -> None:
    named = re.findall(r"[`,] ?((?:[a-z]\w*/)+(?:[\w*]+\.\w+)?)`", (DOCS / page).read_text())

    assert len(named) > 9
    assert [name for name in named if not any((root / name).exists() for root in (ROOT, ROOT / "healthlb"))] == []


def test_the_first_tests_fail_as_the_page_says() -> None:
    page = (DOCS / "contributing.md").read_text()
    said = [
        f"`{text}"
        for text in ("picker must be one of ...`", "the scheme 'etcd' is unknown`", "fault kind must be one of ...`")
    ]
    assert [text for text in said if text not in page] == []
    with pytest.raises(ConfigError, match="picker must be one of "):
        make_factory("my_policy", random.Random(1))
    with pytest.raises(ConfigError, match="the scheme 'etcd' is unknown"):
        parse_target("etcd:///key")
    with pytest.raises(ConfigError, match="fault kind must be one of "):
        Faults(_WorldWith("mine")).schedule()
    assert "mine" not in KINDS


class _WorldWith:
    """A world with one fault, as far as its kind is looked at."""

    def __init__(self, kind: str) -> None:
        fault: Any = type("Fault", (), {"kind": kind})
        self.scenario: Any = type("Scenario", (), {"faults": (fault,)})
