from __future__ import annotations

import io

from rich.console import Console

from healthlb.simulation.commands.sweep_progress import LiveView, PlainView, SweepCounts, open_view
from healthlb.simulation.sweep.results import Result
from tests.simulation.sweep.tiny import cell


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def results(count: int, failed: int = 0) -> list[Result]:
    good = [Result(cell=cell(), metrics={"goodput": 0.5, "p99": 0.02}) for _ in range(count)]
    return good + [Result(cell=cell(), failure="no") for _ in range(failed)]


def test_a_tally_knows_rate_time_left_and_means() -> None:
    clock = Clock()
    tally = SweepCounts(("goodput", "p99", "absent"), clock)
    tally.plan(100, 20)
    clock.now += 4
    tally.add(results(39, failed=1))

    assert (tally.done, tally.rate, tally.eta, tally.failed) == (60, 10.0, 4.0, 1)
    assert tally.found == "goodput 50 %  p99 20.0 ms"


def test_nothing_is_known_of_the_time_left_before_the_first_result() -> None:
    tally = SweepCounts((), Clock())
    tally.plan(100, 20)

    assert tally.eta is None


def test_plain_lines_come_every_ten_seconds() -> None:
    clock = Clock()
    lines: list[str] = []
    view = PlainView(lines.append, SweepCounts(("p99",), clock), clock)
    view.planned(1000, 200)
    for _ in range(25):
        clock.now += 1
        view.came(results(10, failed=1))
    view.planned(8, 0)
    view.close()

    assert lines == [
        "1,000 cells, 200 of them done before",
        "310/1,000 cells  11/s  ETA 63 s  p99 20.0 ms  failed 10",
        "420/1,000 cells  11/s  ETA 53 s  p99 20.0 ms  failed 20",
    ]


def test_a_bar_moves_on_a_terminal_and_is_taken_away() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None, legacy_windows=False)
    view = open_view(console, SweepCounts(("goodput",), Clock()), is_plain=False)
    assert isinstance(view, LiveView)
    view.planned(40, 10)
    view.came(results(9, failed=1))
    view._progress.refresh()
    shown = screen.getvalue()
    view.close()

    assert "20/40" in shown
    assert "goodput 50 %" in shown
    assert "1 failed" in shown
    assert screen.getvalue().endswith("\x1b[2K")


def test_elsewhere_there_are_lines() -> None:
    console = Console(file=io.StringIO())

    assert isinstance(open_view(console, SweepCounts(()), is_plain=False), PlainView)
    assert isinstance(
        open_view(Console(file=io.StringIO(), force_terminal=True), SweepCounts(()), is_plain=True), PlainView
    )
