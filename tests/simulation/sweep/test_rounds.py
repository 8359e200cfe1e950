from __future__ import annotations

import math
from typing import Any

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.sweep.cells import Cell
from healthlb.simulation.sweep.designs import Axis
from healthlb.simulation.sweep.results import Result
from healthlb.simulation.sweep.rounds import Rounds, Site
from healthlb.simulation.sweep.sweep import Refine, Stop
from tests.simulation.sweep.tiny import RHO, WORLD, run, sweep

THIRD = Refine(axis="rho", check="edge < 1", tolerance=0.01)


class Known:
    """Runs cells when they are asked for, and remembers."""

    def __init__(self) -> None:
        self.results: dict[str, Result] = {}

    def work(self, rounds: Rounds) -> list[int]:
        sizes = []
        for cells in rounds:
            sizes.append(len(cells))
            self.results |= {cell.key: run(WORLD, cell) for cell in cells}
        return sizes


def stable(numbers: Any) -> bool:
    return bool(numbers["edge"] < 1)


def test_a_design_is_one_round() -> None:
    known = Known()

    assert known.work(Rounds(sweep(replications=4), "e", known.results.get)) == [2 * 5 * 3 * 4]


def test_replications_of_a_point_differ_in_their_number_alone() -> None:
    (cells,) = list(Rounds(sweep(replications=2, policies=("plain",)), "e", {}.get))

    assert [cell.replication for cell in cells[:2]] == [0, 1]
    assert cells[0].overrides == cells[1].overrides == (("load.rho", 0.0), ("load.tries", 1))


def test_an_axis_with_several_paths_sets_them_all() -> None:
    axis = Axis(name="both", paths=("load.tries", "load.rho"), values=(1,))
    (cells,) = list(Rounds(sweep(axes=(axis,), policies=("plain",)), "e", {}.get))

    assert cells[0].overrides == (("load.rho", 1), ("load.tries", 1))


def test_refinement_closes_in_on_every_flip() -> None:
    known = Known()
    rounds = Rounds(sweep(refine=THIRD), "e", known.results.get, judge=stable)
    known.work(rounds)
    edges = rounds.edges()

    # edge = rho (1 + tries) < 1, under both policies.
    assert sorted((edge.site.policy, edge.site.point[1]) for edge in edges) == [
        ("plain", 1), ("plain", 2), ("plain", 3), ("tuned", 1), ("tuned", 2), ("tuned", 3),
    ]  # fmt: skip
    for edge in edges:
        tries = edge.site.point[1]
        assert isinstance(tries, int)
        assert edge.held
        assert edge.low <= 1 / (1 + tries) <= edge.high
        assert edge.high - edge.low <= 0.01


def test_refinement_costs_a_logarithm() -> None:
    known = Known()
    rounds = Rounds(sweep(refine=Refine(axis="rho", check="", tolerance=1e-6)), "e", known.results.get, judge=stable)
    sizes = known.work(rounds)

    assert len(sizes) <= 1 + math.ceil(math.log2(0.25 / 1e-6))
    assert all(size <= 6 for size in sizes[1:])


def test_refinement_of_whole_numbers_ends_between_neighbours() -> None:
    axis = Axis(name="rho", paths=("load.rho",), low=0, high=100, steps=3, is_whole=True)
    known = Known()
    refine = Refine(axis="rho", check="", tolerance=0.1)
    rounds = Rounds(
        sweep(axes=(axis,), refine=refine, policies=("plain",)),
        "e",
        known.results.get,
        judge=lambda numbers: numbers["edge"] < 75,
    )
    known.work(rounds)

    assert [(edge.low, edge.high) for edge in rounds.edges()] == [(37, 38)]


def test_a_point_that_failed_everywhere_is_no_flip() -> None:
    known = Known()
    rounds = Rounds(sweep(refine=THIRD, axes=(RHO,), policies=("plain",)), "e", known.results.get, judge=stable)
    asked: list[list[Cell]] = []
    for cells in rounds:
        asked.append(cells)
        for cell in cells:
            known.results[cell.key] = Result(cell=cell, failure="no")

    assert len(asked) == 1
    assert rounds.edges() == []


def test_a_point_is_repeated_until_its_mean_is_known() -> None:
    known = Known()
    stop = Stop(metric="p99", relative=0.4, most=64)
    rounds = Rounds(sweep(replications=2, stop=stop), "e", known.results.get)
    known.work(rounds)

    for site, cells in rounds.cells.items():
        values = [numbers["p99"] for numbers in rounds.numbers(site)]
        estimate = Estimate.of(values)
        assert len(cells) == 64 or estimate.half_width() <= 0.4 * estimate.mean
    assert len({len(cells) for cells in rounds.cells.values()}) > 1


def test_a_metric_that_is_not_there_is_not_waited_for() -> None:
    known = Known()
    rounds = Rounds(sweep(replications=2, stop=Stop(metric="p50", absolute=1.0)), "e", known.results.get)

    assert len(known.work(rounds)) == 1


def test_numbers_are_metrics_and_axes() -> None:
    known = Known()
    period = Axis(name="period", paths=("period",), values=("10ms", "x"))
    rounds = Rounds(sweep(axes=(RHO, period)), "e", known.results.get)
    known.work(rounds)

    first, second = rounds.numbers(Site("plain", (0.25, "10ms"))), rounds.numbers(Site("plain", (0.25, "x")))
    assert {name: first[0][name] for name in ("edge", "rho", "period")} == {"edge": 0.5, "rho": 0.25, "period": 0.01}
    assert "period" not in second[0]
