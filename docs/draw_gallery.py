"""Draws docs/images/gallery/*.svg and the tables of docs/gallery.md from real runs: `python docs/draw_gallery.py`.

Each picture is a figure of the report that `healthlb simulate run NAME --html FILE` writes. Maps take minutes, the
others seconds; names of pictures as arguments draw those alone.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.commands.sweep_progress import SweepCounts, open_view
from healthlb.simulation.report import balance, overlay
from healthlb.simulation.report.figure import LEFT, Figure
from healthlb.simulation.report.heatmap import HeatMap, heat_map
from healthlb.simulation.report.lanes import lanes
from healthlb.simulation.report.metrics import metric, written
from healthlb.simulation.report.shares import shares
from healthlb.simulation.scenario_files.scenario_file import find_scenario, load_scenario
from healthlb.simulation.sweep import simulating
from healthlb.simulation.sweep.campaign import Campaign
from healthlb.simulation.sweep.cells import engine_version
from healthlb.simulation.sweep.executors import open_executor
from healthlb.simulation.sweep.files import read
from healthlb.simulation.sweep.maps import maps
from healthlb.simulation.sweep.rounds import Rounds
from healthlb.simulation.sweep.store import Store
from healthlb.simulation.sweep.summary import Summary
from healthlb.simulation.world.record import RunRecord
from healthlb.simulation.world.world import run

DOCS = Path(__file__).parent
PAGE, IMAGES = DOCS / "gallery.md", DOCS / "images" / "gallery"
RESULTS = DOCS.parent / "build" / "gallery"
Runs = Mapping[str, RunRecord]


@dataclass(frozen=True)
class Picture:
    """A figure of one scenario, and the numbers that the page has of it.

    Attributes:
        name: of the file, and of the table in the page.
        scenario: of the catalogue.
        draw: makes the figure of the first replications, by policy.
        numbers: the metrics in the table; none for no table.
        title: of the picture.
    """

    name: str
    scenario: str
    draw: Callable[[Runs], Figure | None]
    numbers: tuple[str, ...]
    title: str


@dataclass(frozen=True)
class Map:
    """A map of one sweep.

    Attributes:
        name: of the file.
        sweep: of the catalogue.
        index: which of its maps.
        title: of the picture.
    """

    name: str
    sweep: str
    index: int
    title: str


def _lanes(policy: str) -> Callable[[Runs], Figure]:
    return lambda runs: lanes(runs[policy], "lanes", LEFT)


PICTURES = (
    Picture("flap-damping", "f5-flap-damping", _lanes("damping"), ("error_ratio", "transitions", "p99"),
            "Three backends flap; the one that flaps too often is kept out"),
    Picture("flap-period", "f2-flap-period", _lanes("usual"), ("errors", "connects", "imbalance"),
            "b0 flaps faster than the client reconnects, b1 slower"),
    Picture("sinkhole", "f8-sinkhole", lambda runs: shares(runs, "shares"), ("error_ratio", "imbalance"),
            "b0 fails at once: its share of the attempts by picker"),
    Picture("blind-spot", "o5-blind-spot", _lanes("success-rate"), ("error_ratio", "ejections"),
            "Ejection by success rate: four bad backends are seen, five are not"),
    Picture("retry-storm", "m1-retry-storm", lambda runs: overlay.successes(runs, "over"),
            ("goodput", "attempts_per_request", "wasted"),
            "Three seconds at a tenth of the speed, and what retries make of it"),
    Picture("retry-budget", "m2-retry-budget", lambda runs: overlay.successes(runs, "over"),
            ("goodput", "attempts_per_request", "wasted"),
            "The same dip with three retries, with and without a budget"),
    Picture("starvation", "m3-budget-starvation",
            lambda runs: balance.tokens(runs["small-throttle"], "tokens", LEFT),
            ("error_ratio", "retries", "tokens_min"), "One dead backend of eight empties gRPC's throttle"),
)  # fmt: skip
MAPS = (
    Map("flap-period-map", "flap-period", 0, "Errors per second of a crash-looping backend"),
    Map("retry-storm-map", "retry-storm", 0, "Share of calls that end well 22 s after the dip"),
    Map("many-clients-least-request", "many-clients", 0, "Mean latency of least_request by number of clients"),
    Map("many-clients-round-robin", "many-clients", 1, "Mean latency of round_robin by number of clients"),
)


def runs_of(picture: Picture) -> Runs:
    """Run the picture's scenario once under each policy."""
    scenario = load_scenario(find_scenario(picture.scenario))
    return {policy: run(scenario, policy) for policy in scenario.policies}


def table_of(picture: Picture, runs: Runs) -> str:
    """Return the picture's table as Markdown."""
    heads = ["Policy", *(metric(name).says for name in picture.numbers)]
    rows = [[f"`{policy}`", *_cells(picture, run)] for policy, run in runs.items()]
    lines = [heads, ["---", *["---:"] * len(picture.numbers)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(picture: Picture, run: RunRecord) -> list[str]:
    return [written(name, Estimate.of([run.metrics[name]])) for name in picture.numbers]


def with_table(page: str, name: str, table: str) -> str:
    """Return the page with the table after the mark of this name."""
    mark = rf"(<!-- numbers: {name} -->\n\n).*?(?=\n\n)"
    found, count = re.subn(mark, lambda match: match[1] + table, page, flags=re.DOTALL)
    assert count == 1, f"{PAGE} has no mark for {name}"
    return found


def maps_of(sweep_name: str) -> list[HeatMap]:
    """Run a sweep, or what is missing of it, and return its maps."""
    sweep = read(simulating.find_sweep(sweep_name), simulating.find_scenario)
    with Store(RESULTS / sweep_name) as store:
        rounds = Rounds(sweep, engine_version(), store.get, judge=simulating.judge_of(sweep))
        executor = open_executor("pool", os.cpu_count() or 1)
        view = open_view(Console(stderr=True), SweepCounts(sweep.metrics[:3]), True)
        Campaign(sweep.world, simulating.simulate, store, executor=executor, observer=view).run(rounds)
        executor.close()
        view.close()
        return maps(Summary(rounds, store.get, simulating.FUNCTIONS))


def save(name: str, figure: Figure, title: str) -> None:
    """Write a picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    file = IMAGES / f"{name}.svg"
    file.write_text(replace(figure, title=title).standalone() + "\n", encoding="utf-8")
    print(f"wrote {file}, {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Draw what is asked for."""
    wanted = sys.argv[1:]
    for picture in PICTURES:
        if not wanted or picture.name in wanted:
            runs = runs_of(picture)
            figure = picture.draw(runs)
            assert figure is not None
            save(picture.name, figure, picture.title)
            PAGE.write_text(with_table(PAGE.read_text(), picture.name, table_of(picture, runs)))
    for each in MAPS:
        if not wanted or each.name in wanted:
            save(each.name, heat_map(maps_of(each.sweep)[each.index], "map"), each.title)


if __name__ == "__main__":
    main()
