"""The numbers behind the figures: what is drawn is what the records hold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.report import balance, overlay, palette, steps
from healthlb.simulation.report.bars import Pencil
from healthlb.simulation.report.comparison import by_policy, differences
from healthlb.simulation.report.delays import latency
from healthlb.simulation.report.figure import Figure, margin_for, shortened
from healthlb.simulation.report.heatmap import HeatMap, colour, grid_place, heat_map, is_light
from healthlb.simulation.report.lanes import lanes, rows_for
from healthlb.simulation.report.lines import steps as step_path
from healthlb.simulation.report.matrix import matrix
from healthlb.simulation.report.scale import linear
from healthlb.simulation.report.shares import shares, shares_of
from healthlb.simulation.report.steps import Span
from healthlb.simulation.report.timeline import timeline
from healthlb.simulation.report.traffic import errors, goodput
from healthlb.simulation.world.record import BELIEFS, TRUTHS, Bins, Lane
from tests.simulation.report.factory import BIN, SECOND, record


def rows(figure: Figure) -> list[tuple[object, ...]]:
    assert figure.numbers is not None
    return list(figure.numbers.rows)


def test_spans_join_equal_neighbours_and_end_with_the_run() -> None:
    found = steps.spans(((0, "up"), (5, "up"), (8, "crashed"), (8, "up"), (9, "slow"), (30, "up")), 20)

    assert found == [Span(0, 9, "up"), Span(9, 20, "slow")]


@pytest.mark.parametrize(
    ("truth", "belief", "verdict"),
    [
        ("up", "READY", ""), ("slow", "READY", ""), ("up", "probe", ""), ("crashed", "READY", "wrong"), ("hung", "probe", "wrong"),
        ("absent", "READY", "wrong"), ("up", "ejected", "missed"), ("up", "CONNECTING", "missed"), ("crashed", "TRANSIENT_FAILURE", ""),
        ("up", "absent", ""), ("crashed", "absent", ""),
    ],
)  # fmt: skip
def test_belief_is_judged_against_truth(truth: str, belief: str, verdict: str) -> None:
    assert steps.verdict(truth, belief) == verdict


def test_disagreements_are_when_the_halves_differ() -> None:
    lane = Lane(
        "b0",
        ((0, "up"), (10, "crashed"), (20, "up")),
        ((0, "READY"), (13, "TRANSIENT_FAILURE"), (24, "CONNECTING"), (26, "READY")),
    )

    assert steps.disagreements(lane, 40) == [Span(10, 13, "wrong"), Span(20, 26, "missed")]


def test_columns_hold_shares_of_all_states() -> None:
    columns = steps.columns([Span(0, 15, "up"), Span(15, 20, "slow"), Span(20, 40, "up")], 40, 4)

    assert columns == [{"up": 1}, {"up": 0.5, "slow": 0.5}, {"up": 1}, {"up": 1}]


def test_a_bar_of_columns_is_as_tall_as_a_bar_of_boxes() -> None:
    found = [Span(at, at + 1, "up" if at % 2 else "crashed") for at in range(100)]
    few = Pencil("p", 100, 10, False).bar("truth", found, palette.truth, 0, 10)

    assert few is not None
    assert few.count("<rect") == 2
    assert 'height="5"' in few


def test_every_state_and_code_has_a_look_of_its_own() -> None:
    assert set(TRUTHS) <= set(palette.TRUTH)
    assert set(BELIEFS) <= set(palette.BELIEF)
    for looks in (palette.TRUTH, palette.BELIEF):
        assert len({(look.colour, look.hatch) for look in looks.values()}) == len(looks)
    codes = [f"CODE_{index}" for index in range(4)] + ["UNAVAILABLE", "DEADLINE_EXCEEDED"]
    assert len({(look.colour, look.hatch) for look in palette.causes(codes).values()}) == 6
    assert palette.truth("new").says == "new"


def test_columns_of_a_timeline_add_up() -> None:
    run = record(duration=61 * SECOND)
    for most in (1, 7, 160, 10_000):
        times = timeline(run, most=most)
        assert sum(times.sums(run.bins.arrivals)) == sum(run.bins.arrivals)
        assert len(times.sums(run.bins.arrivals)) == len(times.widths) <= most
        assert sum(times.widths) == pytest.approx(61)


def test_time_goes_on_until_the_last_call_has_ended() -> None:
    run = record(duration=SECOND, faults={})
    ended = replace(run, bins=replace(run.bins, ok=(*run.bins.ok, 0, 0, 3, 0)))

    assert timeline(run).end == SECOND
    assert timeline(ended).end == SECOND + 3 * BIN


def test_calls_that_end_just_after_the_run_count_for_its_last_column() -> None:
    run = record(duration=30 * SECOND, faults={})
    ended = replace(run, bins=replace(run.bins, ok=(*run.bins.ok, 4)))

    assert timeline(ended).end == 30 * SECOND
    for most in (20, 160, 1000):
        times = timeline(ended, most=most)
        assert times.sums(ended.bins.ok)[-1] == times.sums(run.bins.ok)[-1] + 4


def test_tables_hold_the_sums_of_the_record() -> None:
    run = record()
    table = rows(goodput(run, "g", 60))
    causes = rows(errors(run, "e", 60))  # type: ignore[arg-type]

    assert sum(int(str(row[1])) for row in table) == sum(run.bins.arrivals)
    assert sum(int(str(row[2])) for row in table) == sum(run.bins.ok)
    assert sum(int(str(row[1])) for row in causes) == sum(run.bins.errors["DEADLINE_EXCEEDED"])
    assert sum(int(str(row[2])) for row in causes) == sum(run.bins.errors["UNAVAILABLE"])
    assert sum(int(str(row[1])) for row in rows(balance.starts(run, "s", 60))) == sum(run.bins.connects)
    assert errors(record(faults={}), "e", 60) is None


def test_percentiles_are_of_merged_histograms() -> None:
    first, second = Histogram(), Histogram()
    for _ in range(99):
        first.add(SECOND // 100)
    second.add(SECOND)
    run = record(duration=2 * SECOND, faults={})
    run = replace(run, bins=replace(run.bins, latency=(first, second)))

    seen = [str(cell).replace("\u00a0", " ") for row in rows(latency(run, "l", 60)) for cell in row]
    assert seen == ["0 s \u2013 1 s", "99", "10 ms", "10 ms", "10 ms", "1 s \u2013 2 s", "1", "1 s", "1 s", "1 s"]


def test_imbalance_is_max_over_mean_and_its_band_narrows_with_attempts() -> None:
    run = replace(
        record(backends=2, duration=2 * SECOND),
        bins=Bins(arrivals=(0,) * 20, picks={"b0": (30,) * 10 + (0,) * 10, "b1": (10,) * 10 + (0,) * 10}),
    )
    times = timeline(run, at_least=SECOND)

    assert balance.imbalances(run, times) == [(1.5, 1 + math.sqrt(2 * math.log(2) / 200)), None]
    assert balance.noise(1, 100) == 1
    assert balance.noise(8, 0) == 1


def test_lanes_tell_the_time_that_truth_and_belief_differ() -> None:
    run = record(backends=2, faults={0: 0}, duration=40 * SECOND)
    table = rows(lanes(run, "l", 60))

    assert [str(cell).replace("\u00a0", " ") for cell in table[0]][:5] == ["b0", "50 %", "49.8 %", "1 s", "1.08 s"]
    assert table[0][5] == "4"
    assert [str(cell).replace("\u00a0", " ") for cell in table[1]][:5] == ["b1", "100 %", "99.8 %", "0 s", "80 ms"]


def test_lanes_get_thinner_as_there_are_more() -> None:
    heights = [rows_for(count).height for count in (1, 16, 17, 40, 41, 100)]

    assert heights == sorted(heights, reverse=True)
    assert heights[-1] >= 12


def test_long_names_keep_their_ends() -> None:
    margin = margin_for(["payments-frontend-b12"])

    assert shortened("b12", 62) == "b12"
    assert shortened("payments-frontend-b12", margin).endswith("-b12")
    assert "…" in shortened("payments-frontend-b12", margin)
    assert (margin_for([]), margin_for(["b" * 500])) == (62, 118)


def test_gaps_are_gaps() -> None:
    axis = linear([0.0, 4.0], count=4)
    path = step_path([0, 1, 2, 3, 4], [1.0, 2.0, None, 4.0], axis, axis, 100)

    assert path == "M0 75H250V50H500M750 0H1000"


def test_the_matrix_is_shares_of_all_time() -> None:
    run = replace(record(), confusion={("up", "READY"): 90, ("crashed", "READY"): 4, ("up", "ejected"): 6})
    figure = matrix(run, "m")

    assert "agreed 90\u00a0% of the time" in figure.says
    assert figure.table is not None
    assert [word for word in ("90\u00a0%", "4\u00a0%", "6\u00a0%", "✕", "○") if word not in figure.table] == []
    assert "No time was counted." in str(matrix(replace(run, confusion={}), "m").table)


def test_differences_are_paired_by_replication() -> None:
    runs = [replace(record(policy=policy, replication=index, backends=1, duration=SECOND), metrics={"p99": value, "x": 1.0}) for policy, index, value in
            (("a", 1, 2.0), ("b", 0, 11.0), ("a", 0, 1.0), ("b", 1, 12.0), ("b", 2, 99.0))]  # fmt: skip
    groups = by_policy(runs)
    (found,) = differences(groups["a"], groups["b"], ["p99", "unknown"])

    assert (found.change.mean, found.change.count, found.change.half_width()) == (10.0, 2, 0.0)
    assert found.is_clear
    assert (found.base.mean, found.other.mean) == (1.5, 11.5)


def test_shares_are_of_all_attempts_after_the_warm_up_and_name_who_is_far_off() -> None:
    run = replace(
        record(backends=3, duration=SECOND), warmup=2 * BIN,
        bins=Bins(arrivals=(0,) * 10, picks={"b0": (90, 90) + (1,) * 8, "b1": (0, 0) + (4,) * 8, "b2": (0, 0) + (3,) * 8}),
    )  # fmt: skip
    figure = shares({"a": run, "b": run}, "s")

    assert shares_of(run) == {"b0": 0.125, "b1": 0.5, "b2": 0.375}
    assert figure is not None
    assert str(figure.marks).count("<circle") == 6
    assert "a: b1 with 50\u00a0%, b0 with 12.5\u00a0%" in figure.says
    assert shares({"a": record(backends=1)}, "s") is None
    assert shares({"a": record(rate=0.0)}, "s") is None


def test_overlays_hold_a_line_for_each_policy_on_one_axis() -> None:
    long = record(duration=40 * SECOND)
    late = replace(
        long, bins=replace(long.bins, ok=(*long.bins.ok, *[1] * 60), latency=(*long.bins.latency, Histogram()))
    )
    runs = {"a": long, "b": late}

    assert str(overlay.successes(runs, "o").marks).count('class="line"') == 3
    assert str(overlay.slowness(runs, "o").marks).count('class="line"') == 2
    for figure in (overlay.successes(runs, "o"), overlay.slowness(runs, "o")):
        assert {len(row) for row in rows(figure)} == {3}
        assert str(rows(figure)[-1][0]).endswith("46\u00a0s")
    last = rows(overlay.successes(runs, "o"))[-1]
    assert (last[1], last[2]) == ("0", "10")


# --- heat maps -----------------------------------------------------------------------------------


def test_a_boundary_is_put_between_the_centres_of_cells() -> None:
    assert [grid_place(x, [1, 2, 4]) for x in (1, 1.5, 3, 4)] == [0.5, 1, 2, 2.5]
    assert [grid_place(x, [1, 2, 4]) for x in (0.5, 5)] == [0, 3]
    assert grid_place(7, [1]) == 0.5


def test_a_heat_map_shows_every_cell_and_which_were_not_run() -> None:
    shown = HeatMap(
        "load",
        [0.5, 0.7, 0.9],
        "retries",
        [0, 1],
        [[1.0, 0.9, None], [0.5, math.nan, 0.0]],
        [(0.5, 1), (0.9, 0)],
        "Goodput",
        "load (1 + r) = 1",
    )
    figure = heat_map(shown, "map")

    assert str(figure.marks).count("not run</title>") == 2
    assert str(figure.marks).count('class="boundary"') == 2
    assert "2 of 6 cells were not run" in figure.says
    assert "from 0 (dark) to 1 (light)" in figure.says
    assert rows(figure)[0] == ("0", "1", "0.9", "\u2013")
    assert rows(figure)[1][2] == "\u2013"


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (40, 30)])
def test_heat_maps_of_any_size_are_drawn(size: tuple[int, int]) -> None:
    xs, ys = range(size[0]), range(size[1])
    figure = heat_map(HeatMap("x", xs, "y", ys, [[x * y for x in xs] for y in ys], [(0, 0), (9, 9)], "t"), "map")

    assert str(figure.marks).count("<title>x ") == size[0] * size[1]


def test_the_colour_scale_is_monotone_in_lightness() -> None:
    colours = [colour(place / 100) for place in range(101)]
    light = [0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2 for r, g, b in colours]

    assert light == sorted(light)
    assert not is_light(colours[0])
    assert is_light(colours[-1])
    assert (colour(-1), colour(2)) == (colours[0], colours[-1])
