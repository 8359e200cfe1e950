"""Reports in a real Chromium: nothing complains, everything is there, nothing sticks out, and it prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from healthlb.simulation.checks.checks import CheckResult
from healthlb.simulation.report import HeatMap, render_comparison, render_maps, render_outcome, render_run
from healthlb.simulation.running import changed, run_all
from healthlb.simulation.scenario_files.scenario_file import catalogue, load_scenario
from tests.simulation.report.browser import PROGRAM, Browser
from tests.simulation.report.factory import SECOND, record

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine (Debian's package is `chromium`)"),
]

LONG = "payments-frontend-eu-west-1-with-a-very-long-name-that-has-no-space"
HOSTILE = "<script>document.title = 'broken'; throw 1</script>"
RESULT = CheckResult("hidden", "tuned", "error_ratio < 0.005 and " * 6 + "ok > 0", "one retry hides it", False, "error_ratio = 0.02, needed < 0.005", (0, 1, 2, 3, 4, 5))  # fmt: skip
MAP = HeatMap("offered load", [index / 20 for index in range(1, 31)], "retries", [0, 1, 2, 3], [[1 / (1 + x * y) for x in range(30)] for y in range(4)], [(1 / (1 + r), r) for r in range(4)], "Goodput", "load (1 + retries) = 1")  # fmt: skip
PAGES = {
    "usual": lambda: render_run(record(period=SECOND), results=[RESULT], text="[[backend]]\n" + "count = 8 # " * 40),
    "comparison": lambda: render_comparison(
        [record(policy=policy, replication=index) for policy in ("plain", "tuned") for index in range(2)]
    ),
    "hundred backends": lambda: render_run(record(backends=100, period=SECOND, rate=50.0)),
    "one backend": lambda: render_run(record(backends=1, faults={0: 0})),
    "no backend": lambda: render_run(record(backends=0, rate=0.0)),
    "very short": lambda: render_run(record(backends=3, duration=SECOND // 50)),
    "very long": lambda: render_run(record(backends=3, duration=3600 * SECOND, period=SECOND, rate=3.0)),
    "hostile": lambda: render_run(
        record(title=HOSTILE + LONG, scenario=HOSTILE, names=[HOSTILE, LONG + "1", LONG + "2"]), text=HOSTILE
    ),
    "sweep": lambda: render_maps("A sweep", [MAP]),
}

WIDER = """(() => {
  const wide = document.documentElement.clientWidth;
  const scrolls = element => element.closest('.scrolls, pre, .unseen, defs, desc, title');
  return [...document.body.querySelectorAll('*')]
    .filter(element => !scrolls(element.parentElement))
    .map(element => [element.tagName + '.' + element.getAttribute('class'), element.getBoundingClientRect()])
    .filter(([, box]) => box.width > 0 && (box.right > wide + 0.5 || box.left < -0.5))
    .map(([name, box]) => `${name} ${Math.round(box.left)} to ${Math.round(box.right)} of ${wide}`);
})()"""
OVERLAPS = """(() => {
  const found = [];
  for (const group of document.querySelectorAll('svg.plot .axis, svg.plot')) {
    const own = [...group.querySelectorAll('text')].filter(text => getComputedStyle(text).display !== 'none');
    const boxes = own.map(text => [text.textContent, text.getBoundingClientRect()]);
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
        found.push(`${boxes[i][0]} over ${boxes[j][0]}`);
    }
  }
  return [...new Set(found)];
})()"""
PICTURES = """[...document.querySelectorAll('svg.plot')].map(svg => ({
  titles: svg.querySelectorAll(':scope > title, :scope > desc').length,
  named: svg.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id)),
  axes: svg.querySelectorAll('.axis').length, ticks: svg.querySelectorAll('.axis text').length,
  drawn: svg.getBBox().width > 100 && svg.getBBox().height > 20,
}))"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {name: folder / f"{name.replace(' ', '-')}.html" for name in PAGES}
    for name, file in made.items():
        file.write_text(PAGES[name]())
    return made


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_complains_sticks_out_or_overlaps(
    browser: Browser, files: dict[str, Path], name: str, width: int
) -> None:
    browser.open(files[name], width)

    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [files[name].as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(WIDER) == []
    assert browser.value(OVERLAPS) == []


def test_what_complains_sticks_out_or_overlaps_is_seen(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "broken.html"
    file.write_text("""<body style="margin:0"><script>console.error('no')</script><div style="width:500px;height:9px"></div>
        <svg class="plot"><text y="20">one</text><text y="20">two</text></svg><img src="gone.png">""")
    browser.open(file, 400)

    assert any('"value": "no"' in complaint for complaint in browser.complaints)
    assert browser.value("document.documentElement.scrollWidth") > 400
    assert browser.value(WIDER) == ["DIV.null 0 to 500 of 400"]
    assert browser.value(OVERLAPS) == ["one over two"]
    assert browser.requests[1:] == [(tmp_path / "gone.png").as_uri()]


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_is_drawn_named_and_has_axes(browser: Browser, files: dict[str, Path], name: str) -> None:
    browser.open(files[name], 1000)
    pictures = browser.value(PICTURES)

    assert len(pictures) == files[name].read_text().count('class="plot"') > 0
    assert all(picture["titles"] == 2 and picture["named"] and picture["drawn"] for picture in pictures)
    assert all(picture["axes"] and picture["ticks"] for picture in pictures)


def test_every_lane_shows_what_was_and_what_was_believed(browser: Browser, files: dict[str, Path]) -> None:
    browser.open(files["hundred backends"], 1400)
    lanes = browser.value("""[...document.querySelectorAll('.lane')].map(lane => [
        lane.dataset.backend, lane.querySelector('text').textContent,
        lane.querySelectorAll('.state').length >= 2, lane.querySelectorAll('.picks').length > 0])""")

    assert lanes == [[f"b{index}", f"b{index}", True, True] for index in range(100)]


def test_time_axes_stand_below_one_another(browser: Browser, files: dict[str, Path]) -> None:
    browser.open(files["hostile"], 1400)
    places = browser.value("""[...document.querySelectorAll('.plot')].map(svg => {
        const lines = [...svg.querySelectorAll('.axis.x line')].map(line => Math.round(line.getBoundingClientRect().left));
        return [lines[0], lines.at(-1)]})""")

    assert len(places) == 7
    assert len({tuple(place) for place in places}) == 1


def test_a_name_is_no_script(browser: Browser, files: dict[str, Path]) -> None:
    browser.open(files["hostile"], 1000)

    assert browser.value("document.title").startswith(HOSTILE)
    assert browser.value("document.scripts.length") == 0
    assert browser.value("document.querySelector('h1').textContent") == HOSTILE + LONG


def test_dark_and_light_both_have_contrast(browser: Browser, files: dict[str, Path]) -> None:
    seen = []
    for dark in (False, True):
        browser.open(files["usual"], 1000, dark=dark)
        seen.append(browser.value("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('.plot text')).fill]"))  # fmt: skip

    assert seen == [["rgb(255, 255, 255)", "rgb(90, 100, 112)"], ["rgb(20, 24, 28)", "rgb(163, 173, 184)"]]


def test_hatchings_are_drawn(browser: Browser, files: dict[str, Path]) -> None:
    browser.open(files["usual"], 1000)
    missing = browser.value("""[...document.querySelectorAll('[style*="url(#"]')]
        .map(element => element.getAttribute('style').match(/#([^)"]*)/)[1]).filter(id => !document.getElementById(id))""")

    assert missing == []


@pytest.mark.parametrize("name", ["usual", "comparison"])
def test_it_prints_on_light_ground_with_nothing_cut_off(browser: Browser, files: dict[str, Path], name: str) -> None:
    browser.open(files[name], 700, dark=True, media="print")
    wide = browser.value("document.documentElement.scrollWidth")
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    document = browser.pdf()

    assert wide <= 700
    assert ground == "rgb(255, 255, 255)"
    assert document.startswith(b"%PDF-")
    assert (
        2 <= document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") + document.count(b"/Type/Page/") <= 30
    )


@pytest.mark.parametrize("name", catalogue())
def test_every_scenario_that_is_shipped_has_a_sound_report(browser: Browser, tmp_path: Path, name: str) -> None:
    text = catalogue()[name].read_text()
    scenario = load_scenario(catalogue()[name])
    short = changed(scenario, replications=1, until=min(scenario.duration, max(5 * SECOND, scenario.warmup + SECOND)))
    file = tmp_path / "report.html"
    file.write_text(render_outcome(run_all(short, list(short.policies)), text=text))

    for width in (400, 1400):
        browser.open(file, width)
        assert browser.complaints == []
        assert browser.value(WIDER) == []
        assert browser.value(OVERLAPS) == []
    assert all(picture["named"] and picture["drawn"] and picture["ticks"] for picture in browser.value(PICTURES))
