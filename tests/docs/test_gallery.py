"""The gallery: its pictures are there and small, and what the page says is what the runs come to."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType
from xml.etree import ElementTree

import pytest

from healthlb.simulation.checks.check_math import FUNCTIONS
from healthlb.simulation.scenario_files.scenario_file import catalogue
from healthlb.simulation.sweep import simulating
from healthlb.simulation.sweep.designs import in_seconds
from healthlb.simulation.sweep.files import read
from healthlb.simulation.sweep.rounds import Rounds
from tests.docs.pages import ROOT, links

PAGE = ROOT / "docs" / "gallery.md"
MOST_BYTES = 150_000
SVG = "{http://www.w3.org/2000/svg}"


def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_gallery", ROOT / "docs" / "draw_gallery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GALLERY = drawing()
NAMES = [each.name for each in (*GALLERY.PICTURES, *GALLERY.MAPS)]


def parsed(name: str) -> ElementTree.Element:
    return ElementTree.parse(ROOT / "docs" / "images" / "gallery" / f"{name}.svg").getroot()


def numbers(table: str) -> list[float]:
    """The numbers of a table; percentages and times in their own units, which are told apart by `units`."""
    return [float(found) for found in re.findall(r"(?<![`\w-])\d+(?:\.\d+)?(?![\w`])", table.replace("\u202f", ""))]


def units(table: str) -> str:
    return re.sub(r"\d+(?:\.\d+)?", "", table.replace("\u202f", ""))


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_is_there_small_and_told_in_words(name: str) -> None:
    file = ROOT / "docs" / "images" / "gallery" / f"{name}.svg"
    root = parsed(name)

    assert file.stat().st_size < MOST_BYTES
    assert (root.tag, root.get("role")) == (f"{SVG}svg", "img")
    assert len("".join(root.find(f"{SVG}desc").itertext())) > 40  # type: ignore[union-attr]
    assert [element.tag for element in root.iter() if element.tag in (f"{SVG}script", f"{SVG}image")] == []
    assert "http" not in file.read_text().replace("http://www.w3.org/2000/svg", "")
    assert f"images/gallery/{name}.svg" in links(PAGE)


def test_the_page_has_no_other_pictures() -> None:
    shown = {Path(link).stem for link in links(PAGE) if link.endswith(".svg")}
    files = {file.stem for file in (ROOT / "docs" / "images" / "gallery").iterdir()}

    assert shown == files == set(NAMES)


def test_every_scenario_and_sweep_that_is_named_is_shipped() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"[Ss]cenario `([\w-]+)`", text)), set(re.findall(r"sweep `([\w-]+)`", text))

    assert named[0] == {picture.scenario for picture in GALLERY.PICTURES} | {"b2-many-clients"} <= set(catalogue())
    assert named[1] == {each.sweep for each in GALLERY.MAPS} <= set(simulating.sweeps())


@pytest.mark.parametrize("picture", GALLERY.PICTURES, ids=lambda picture: picture.name)
def test_tables_say_what_the_runs_come_to(picture: object) -> None:
    runs = GALLERY.runs_of(picture)
    name = picture.name  # type: ignore[attr-defined]
    told = re.search(rf"<!-- numbers: {name} -->\n\n(.*?)\n\n", PAGE.read_text(), re.DOTALL)
    measured = GALLERY.table_of(picture, runs)

    assert told is not None
    assert units(told[1]) == units(measured)
    assert numbers(told[1]) == pytest.approx(numbers(measured), rel=0.05, abs=0.02), (
        "python docs/draw_gallery.py draws it again"
    )


def test_prose_says_what_the_scenarios_have() -> None:
    text = " ".join(PAGE.read_text().split())
    steady = [1000 / (1 - 2 ** (-period / 4)) for period in (2, 6)]

    assert f"rises towards {steady[0]:.0f}" in text
    assert f"stays below {steady[1]:.0f}" in text
    assert f"From {100 * FUNCTIONS['blind_spot'][0](1.9):.1f} % on" in text
    assert f"more than {100 * 0.1 / 1.1:.1f} % of the attempts fail" in text
    assert f"{0.38 * 2:.2f} with one" in text
    assert f"{0.38 * 3:.2f} with two" in text


def test_maps_show_what_the_page_says_of_them() -> None:
    period, storm, least, turns = (cells(each.name) for each in GALLERY.MAPS)

    assert max(period, key=lambda place: period[place])[0] == 0.3
    assert period[(20, 0.5)] < period[(5, 0.5)] < period[(1, 0.5)] < period[(0.3, 0.5)] > period[(0.1, 0.5)]
    assert {round(value) for value in storm.values()} == {0, 1}
    assert all((value > 0.5) == (load * attempts < 0.92) for (load, attempts), value in storm.items())
    assert least[(1, 0.9)] < 0.55 * turns[(1, 0.9)]
    assert least[(64, 0.9)] > 0.9 * turns[(64, 0.9)]


def cells(name: str) -> dict[tuple[float, float], float]:
    """The cells of a map by what they say when pointed at."""
    titles = (element.text or "" for element in parsed(name).iter(f"{SVG}title"))
    found = [
        re.findall(r"(?:^|[ :])(\d+(?:\.\d+)?)(\xa0ms|\xa0µs|\xa0s)?(?=,|:|$)", title)
        for title in titles
        if ": " in title
    ]
    size = {"\xa0ms": 1e-3, "\xa0µs": 1e-6}
    return {(float(x), float(y)): float(value) * size.get(unit, 1.0) for (x, _), (y, _), (value, unit) in found}


@pytest.mark.parametrize(
    ("name", "place", "policy", "metric"),
    [
        ("flap-period-map", (0.3, 0.5), "plain", "rate"),
        ("flap-period-map", (5, 0.5), "plain", "rate"),
        ("retry-storm-map", (0.5, 2), "no-retry", "back"),
        ("retry-storm-map", (0.35, 2), "no-retry", "back"),
        ("many-clients-least-request", (1, 0.9), "least-request", "mean"),
        ("many-clients-round-robin", (64, 0.7), "round-robin", "mean"),
    ],
)
def test_cells_of_maps_are_what_runs_come_to(name: str, place: tuple[float, float], policy: str, metric: str) -> None:
    sweep = read(
        simulating.find_sweep(next(each.sweep for each in GALLERY.MAPS if each.name == name)), simulating.find_scenario
    )
    asked = next(iter(Rounds(sweep, "", lambda key: None, judge=simulating.judge_of(sweep))))
    wanted = sorted(place)
    of_place = [cell for cell in asked if cell.policy == policy and sorted(in_seconds(value) or 0 for _, value in cell.overrides) == wanted]  # fmt: skip
    measured = [simulating.simulate(sweep.world, cell).metrics[metric] for cell in of_place[:2]]

    # One or two runs of a mean of several.
    assert fmean(measured) == pytest.approx(cells(name)[place], rel=0.25, abs=0.02)
