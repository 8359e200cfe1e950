"""Reports are well-formed, whole in themselves, say in words what they show, and escape what they are given."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from healthlb.simulation.checks.checks import CheckResult
from healthlb.simulation.report import HeatMap, render_comparison, render_maps, render_run
from healthlb.simulation.world.record import RunRecord
from tests.simulation.report.factory import SECOND, record
from tests.simulation.report.pages import Structure, pictures

HOSTILE = "<script>alert('x')</script>\"&\x00"
PASSED = CheckResult("conservation", "tuned", "requests == ok + errors", "nothing is lost", True, "10 == 9 + 1")
FAILED = CheckResult(
    "hidden", "tuned", "error_ratio < 0.005", "one retry hides it", False, "error_ratio = 0.02", (1, 3)
)
SHAPES = {
    "usual": {},
    "no backend": {"backends": 0, "rate": 0.0},
    "one backend": {"backends": 1, "faults": {0: 0}},
    "hundred backends": {"backends": 100, "period": SECOND, "rate": 50.0},
    "very short": {"backends": 3, "duration": SECOND // 50},
    "very long": {"backends": 3, "duration": 3600 * SECOND, "period": SECOND, "rate": 3.0},
    "all well": {"faults": {}},
}


def figures(page: str) -> list[str]:
    return re.findall(r"<figure.*?</figure>", page, re.DOTALL)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_report_is_well_formed_whatever_ran(shape: dict[str, object]) -> None:
    page = render_run(record(**shape), results=[PASSED])  # type: ignore[arg-type]
    structure = Structure(page)

    assert len(structure.ids) == len(set(structure.ids))
    assert len(pictures(page)) == page.count('class="plot"') >= 5
    assert not re.search(r"NaN|\bnan\b|\binf\b|None|Infinity", page)
    assert len(structure.all("title")) >= 7


def test_a_report_asks_for_nothing_and_runs_nothing() -> None:
    structure = Structure(render_run(record(), text="name = 1"))
    style = render_run(record())

    assert {"script", "img", "iframe", "object", "embed", "form"}.isdisjoint(tag for tag, _ in structure.tags)
    assert [attributes["href"] for attributes in structure.all("link")] == ["data:,"]
    assert all(attributes["href"].startswith("#") for attributes in structure.all("a"))
    assert not re.search(r"https?:|@import|@font-face|url\((?!#)", style)
    assert not any(name.startswith("on") for _, attributes in structure.tags for name in attributes)


def test_every_figure_has_a_title_a_description_and_its_numbers() -> None:
    page = render_run(record())
    structure = Structure(page)

    for attributes in structure.all("svg"):
        if attributes.get("class") == "plot":
            assert attributes["role"] == "img"
            assert set(attributes["aria-labelledby"].split()) <= set(structure.ids)
    for figure in figures(page):
        assert "<h3>" in figure
        assert "<table" in figure
        assert "<caption>" in figure
        assert 'scope="row"' in figure
    for picture in pictures(page):
        assert [child.tag for child in picture[:2]] == ["title", "desc"]
        assert all(child.text for child in picture[:2])


def test_all_that_a_run_has_is_shown() -> None:
    page = render_run(record(), results=[PASSED, FAILED], text="[[backend]]\ncount = 8\n")
    titles = [re.search("<h3>(.*?)</h3>", figure)[1] for figure in figures(page)]  # type: ignore[index]

    assert titles == [
        "What each backend was, and what one client took it for", "Goodput", "Errors by cause", "Latency", "Load imbalance",
        "Connections and Watches", "Retry tokens", "Truth and belief",
    ]  # fmt: skip
    assert re.findall('data-backend="(.*?)"', page) == [f"b{index}" for index in range(8)]
    assert "1 of 2 checks does not hold" in page
    assert "✗ fails in replication 1, 3" in page
    assert "error_ratio &lt; 0.005" in page
    assert "[[backend]]\ncount = 8" in page
    assert "odd &lt;metric&gt;" in page


def test_states_and_causes_are_told_by_more_than_colour() -> None:
    page = render_run(record())
    lanes = pictures(page)[0]
    states = [group for group in lanes.iter("g") if (group.get("class") or "").startswith("state ")]
    hatched = {
        group.get("class", "")[6:] for group in states if "url(#" in str([part.get("style") for part in group.iter()])
    }

    assert {"up", "crashed", "READY", "wrong"} <= {group.get("class", "")[6:] for group in states} - hatched
    assert {"not_serving", "failing", "slow", "ejected", "probe"} <= hatched
    assert set(re.findall(r"url\(#(.*?)\)", page)) <= set(Structure(page).ids)


def test_whatever_is_given_as_a_name_stays_text() -> None:
    hostile = record(title=HOSTILE, scenario=HOSTILE, policy=HOSTILE, names=[HOSTILE, "</svg><b>"], faults={0: 0})
    hostile = replace(
        hostile, metrics={**hostile.metrics, HOSTILE: 1.0}, trace_hash=HOSTILE, confusion={(HOSTILE, "READY"): 1, ("up", HOSTILE): 2},
        bins=replace(hostile.bins, errors={HOSTILE: hostile.bins.errors["UNAVAILABLE"]}),
        lanes=tuple(replace(lane, truth=((0, HOSTILE),), belief=((0, "';}</style>"),)) for lane in hostile.lanes),
    )  # fmt: skip
    result = CheckResult(HOSTILE, HOSTILE, HOSTILE, HOSTILE, None, HOSTILE)
    pages = [
        render_run(hostile, results=[result], text=HOSTILE),
        render_comparison([hostile, record()], results=[result], text=HOSTILE),
        render_maps(HOSTILE, [HeatMap(HOSTILE, [1, 2], HOSTILE, [1], [[1.0, None]], [(1, 1), (2, 1)], HOSTILE, HOSTILE)], says=HOSTILE, text=HOSTILE),
    ]  # fmt: skip

    for page in pages:
        structure = Structure(page)
        assert {"script", "b"}.isdisjoint(tag for tag, _ in structure.tags)
        assert len(structure.all("style")) == 1
        assert structure.text.count("<script>alert('x')</script>") >= 3
        assert "\x00" not in page


def test_the_same_records_give_the_same_bytes() -> None:
    assert render_run(record()) == render_run(record())


def test_replications_give_intervals() -> None:
    runs = [record(replication=index) for index in range(4)]
    page = render_run(runs[0], replications=runs)

    assert "Drawn is replication 0 of 4" in page
    assert "±" in Structure(page).text


def test_a_comparison_pairs_replications_and_says_what_is_clear() -> None:
    runs = [record(policy=policy, replication=index, mean=mean) for policy, mean in (("plain", 0.03), ("tuned", 0.01)) for index in range(4)]  # fmt: skip
    page = render_comparison(runs)
    text = Structure(page).text

    assert "tuned against plain" in text
    assert "Clearly better: mean latency, p50 latency, p99 latency" in text
    assert re.findall('<section id="(policy.*?)"', page) == ["policy0", "policy1"]
    assert page.count('class="change') == 11
    assert "How the latencies are distributed" in text


def test_every_section_can_be_gone_to() -> None:
    structure = Structure(render_comparison([record(policy="a"), record(policy="b")], results=[PASSED], text="x"))
    targets = [attributes["href"][1:] for attributes in structure.all("a")]

    assert targets == ["comparison", "policy0", "policy1", "checks", "numbers", "scenario"]
    assert set(targets) <= set(structure.ids)


def test_one_replication_claims_no_confidence() -> None:
    text = Structure(render_comparison([record(policy="a"), record(policy="b")])).text

    assert "Of a single replication no confidence is known" in text
    assert "better" not in text.split("Comparison")[1].split("Policy a")[0].replace("Clearly better", "")
    assert "±" not in text.replace("± 95 %", "").replace("± half", "")


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([], None),
        ([PASSED], "✓ The one check holds"),
        ([PASSED, PASSED], "✓ All 2 checks hold"),
        ([FAILED], "✗ 1 of 1 checks does not hold"),
        ([FAILED, FAILED, PASSED], "✗ 2 of 3 checks do not hold"),
        ([PASSED, replace(PASSED, holds=None)], "✓ 1 of 2 checks hold, 1 could not be made"),
    ],
)
def test_the_verdict_is_one_line(results: list[CheckResult], words: str | None) -> None:
    page = render_run(record(backends=1, duration=SECOND), results=results)

    assert re.findall('<p class="verdict.*?">(.*?)</p>', page) == ([words] if words else [])
    if len(results) > 1 and not all(result.holds for result in results):
        assert (page.index('id="checks"') < page.index('id="policy0"')) == any(one.holds is False for one in results)
        rows = re.findall('<span class="(good|bad|open)">', page)
        assert rows == sorted(rows, key=lambda row: row != "bad")


def of(policy: str, number: int, **metrics: float) -> RunRecord:
    run = record(backends=2, duration=SECOND, policy=policy, replication=number)
    return replace(run, metrics={**run.metrics, **metrics})


def several(policy: str, **metrics: float) -> list[RunRecord]:
    return [
        of(policy, number, **{name: value * (1 + 0.001 * number) for name, value in metrics.items()})
        for number in range(5)
    ]


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_the_first_screen_says_which_policy_loses_calls() -> None:
    runs = [*several("good", error_ratio=0.0), *several("bad", error_ratio=0.88)]
    page = render_comparison(runs, results=[PASSED, PASSED])
    first = page[: page.index("<nav")]

    assert text_of(first).index("bad loses") < text_of(first).index("good loses")
    assert re.search(r"bad loses\s+88.2\W% of its calls", text_of(first))
    assert '<p class="verdict quiet">✓ All 2 checks hold: what the scenario expects, its losses included' in first
    assert re.search(r'<div class="bad"><dt>bad loses', first)
    assert re.search(r"<div><dt>good loses", first)


def test_latencies_of_survivors_are_marked_and_no_better() -> None:
    runs = [*several("good", error_ratio=0.0, p99=0.3, p50=0.02), *several("bad", error_ratio=0.02, p99=0.1, p50=0.01)]
    page = render_comparison(runs)

    assert "† Of the calls that ended well" in page
    assert re.search(r"p99 latency</th>(<td[^>]*>[^<]*</td>)*<td[^>]*>of fewer calls</td>", page)
    # Two of a hundred are too few to move the median.
    assert re.search(r"p50 latency</th>(<td[^>]*>[^<]*</td>)*<td[^>]*>better</td>", page)
    assert "No better, since the policy that looks it loses more of the calls: p99 latency" in page


def test_without_losses_no_latency_is_marked() -> None:
    runs = [*several("good", error_ratio=0.0, p99=0.3), *several("bad", error_ratio=0.0, p99=0.1)]

    assert "†" not in render_comparison(runs)


def test_what_is_beyond_the_scale_is_written_and_has_no_dot() -> None:
    runs = [
        *several("base", error_ratio=0.01),
        *several("far", error_ratio=0.034),
        *several("farther", error_ratio=0.0557),
    ]
    page = render_comparison(runs)
    rows = re.findall(r'<g class="change [^"]*"><title>error ratio.*?</g>', page, re.DOTALL)

    assert len(rows) == 2
    assert ["<circle" in row for row in rows] == [False, False]
    assert ["+240" in rows[0], "+457" in rows[1]] == [True, True]


def test_imbalance_is_neither_better_nor_worse() -> None:
    runs = [*several("even", imbalance=1.0), *several("weighted", imbalance=1.9)]

    assert re.search(r"imbalance\s+1.002.*?differs", text_of(render_comparison(runs)))
