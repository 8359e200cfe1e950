from __future__ import annotations

import csv
import math
from typing import Any

import pytest

from healthlb.simulation.sweep import maps
from healthlb.simulation.sweep.boundary import Boundary
from healthlb.simulation.sweep.designs import Axis
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.rounds import Rounds
from healthlb.simulation.sweep.summary import Summary
from healthlb.simulation.sweep.sweep import Map, Refine
from tests.simulation.sweep.tiny import RHO, TRIES, WORLD, run, sweep

FUNCTIONS = {"sqrt": math.sqrt}


def summed(**changes: Any) -> tuple[Summary, dict[str, Result]]:
    given = {"metrics": ("edge",), "checks": {"low": "edge < 1", "odd": "speed > 1"}, "replications": 3}
    chosen = sweep(**{**given, **changes})
    results: dict[str, Result] = {}
    rounds = Rounds(chosen, "e", results.get, judge=lambda numbers: numbers["edge"] < 1)
    for cells in rounds:
        results |= {cell.key: run(WORLD, cell) for cell in cells}
    return Summary(rounds, results.get, FUNCTIONS), results


def test_a_row_has_means_and_how_often_checks_held() -> None:
    rows = summed()[0].rows()

    assert len(rows) == 2 * 5 * 3
    row = rows[4]
    assert (row.site.policy, row.site.point, row.replications, row.failed) == ("plain", (0.25, 2), 3, 0)
    assert (row.estimates["edge"].mean, row.estimates["edge"].count) == (0.75, 3)
    # A check that names what there is not holds nowhere.
    assert row.checks == {"low": 3, "odd": 0}


def test_failures_are_told_and_counted() -> None:
    summary, results = summed()
    key, result = next(iter(results.items()))
    results[key] = Result(cell=result.cell, failure="ValueError: no")

    assert list(summary.failures()) == [(result.cell, "ValueError: no")]
    assert (summary.rows()[0].replications, summary.rows()[0].failed) == (2, 1)


def test_the_scenarios_own_checks_are_counted_where_they_do_not_hold() -> None:
    # Of five values of rho, 1.0 alone is not below 0.9.
    assert summed()[0].broken() == {"fine": 2 * 3 * 3}


def test_a_crossing_stands_beside_theory() -> None:
    refine = Refine(axis="rho", check="edge < 1", tolerance=0.01)
    crossings = summed(refine=refine, boundary="rho * (1 + tries) - 1")[0].crossings()

    assert len(crossings) == 6
    for crossing in crossings:
        tries = crossing.edge.site.point[1]
        assert isinstance(tries, int)
        assert crossing.theory == pytest.approx(1 / (1 + tries))
        assert crossing.edge.low <= crossing.theory <= crossing.edge.high


def test_the_table_has_every_cell() -> None:
    rows = list(csv.DictReader(summed()[0].table().splitlines()))

    assert len(rows) == 90
    assert rows[0].keys() == {"policy", "rho", "tries", "replication", "failure", "edge", "noise", "p99"}
    assert {(row["rho"], row["tries"], row["edge"]) for row in rows} >= {("0.25", "2", "0.75"), ("1.0", "3", "4.0")}


def test_a_map_for_each_metric_and_policy() -> None:
    chosen = Map(x="rho", y="tries", values=("edge", "p99"))
    drawn = maps.maps(
        summed(map=chosen, metrics=("edge", "p99"), boundary="rho * (1 + tries) - 1", boundary_label="edge = 1")[0]
    )

    assert [shown.title for shown in drawn] == [
        "edge, policy plain", "edge, policy tuned", "p99 latency, policy plain", "p99 latency, policy tuned",
    ]  # fmt: skip
    first = drawn[0]
    assert (list(first.xs), list(first.ys)) == ([0.0, 0.25, 0.5, 0.75, 1.0], [1.0, 2.0, 3.0])
    assert first.values[1] == [0.0, 0.75, 1.5, 2.25, 3.0]
    assert first.boundary_name == "edge = 1"
    assert all(x * (1 + y) == pytest.approx(1) for x, y in first.boundary)
    assert len(first.boundary) > 50


def test_a_map_has_no_columns_of_refinements() -> None:
    refine = Refine(axis="rho", check="edge < 1", tolerance=0.01)
    (first, _) = maps.maps(summed(refine=refine, map=Map(x="rho", y="tries", values=()))[0])

    assert list(first.xs) == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_other_axes_have_maps_of_their_own() -> None:
    kind = Axis(name="kind", paths=("kind",), values=("a", "b"))
    drawn = maps.maps(summed(axes=(RHO, kind, TRIES), map=Map(x="rho", y="tries", values=()), policies=("plain",))[0])

    assert [shown.title for shown in drawn] == ["edge, policy plain, kind a", "edge, policy plain, kind b"]


def test_the_page_has_the_maps_and_the_file() -> None:
    page = maps.page(summed(map=Map(x="rho", y="tries", values=()), title="Tiny & small")[0], "name = 'tiny'")

    assert "Tiny &amp; small" in page
    assert page.count("<figure") == 2
    assert "name = &#x27;tiny&#x27;" in page or "name = 'tiny'" in page


def test_a_boundary_may_stand_upright() -> None:
    line = Boundary("rho - 0.3", FUNCTIONS).line(RHO, TRIES, {})

    assert {round(x, 9) for x, _ in line} == {0.3}
    assert (line[0][1], line[-1][1]) == (1, 3)


def test_a_boundary_needs_no_value_everywhere() -> None:
    assert Boundary("sqrt(rho - 0.2) - 0.5", FUNCTIONS).along(RHO, {}) == [pytest.approx(0.45)]
    assert Boundary("1 / rho + 1", FUNCTIONS).along(RHO, {}) == []


def test_a_boundary_may_cross_an_axis_twice_and_at_its_ends() -> None:
    assert Boundary("(rho - 0.25) * (rho - 0.75)", FUNCTIONS).along(RHO, {}) == [
        pytest.approx(0.25),
        pytest.approx(0.75),
    ]
    assert Boundary("rho * (rho - 1)", FUNCTIONS).along(RHO, {}) == [0.0, 1.0]
