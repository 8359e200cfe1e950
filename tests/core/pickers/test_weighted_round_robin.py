from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthlb.core.messages import SECOND, Code
from healthlb.core.pickers import ANY_CALL, CallEnd, CallInfo
from healthlb.core.pickers.orca import LoadReport
from healthlb.core.pickers.static_stride import MOST, StaticStride
from healthlb.core.pickers.weighted_round_robin import WeightedRoundRobin
from tests.core.fleets import assert_shares, chi_square, critical, fleet, picks

DAY = 24 * 3600.0


def weighted(seed: int = 1, **arguments: Any) -> WeightedRoundRobin:
    made = WeightedRoundRobin(**arguments)
    made.seed(random.Random(seed))
    return made


def stride(weights: list[float], start: int = 0) -> StaticStride:
    return StaticStride(fleet(weights=weights), weights, itertools.count(start))


def reported(at: float, qps: float = 100.0, cpu: float = 0.5, **fields: float) -> CallEnd:
    return CallEnd(Code.OK, round((DAY + at) * SECOND), 0.01, LoadReport(qps=qps, cpu_utilization=cpu, **fields))  # type: ignore[arg-type]


# --- the scheduler ---------------------------------------------------------------------------------


def test_shares_over_a_whole_period_are_exact() -> None:
    """A58: in 65,535 laps each is picked as often as its scaled weight says."""
    scheduler = stride([1.0, 2.0, 4.0])
    numbers = itertools.count()
    scheduler._numbers = iter(itertools.islice(numbers, 3 * MOST))
    counts: Counter[int] = Counter()
    with pytest.raises(StopIteration):
        while True:
            sub = scheduler.pick(ANY_CALL)
            assert sub is not None
            counts[sub.id] += 1

    assert counts == {1: round(MOST / 4), 2: round(MOST / 2), 3: MOST}


@given(st.lists(st.floats(0.05, 20.0), min_size=1, max_size=12), st.integers(0, 2**31))
@settings(deadline=None, max_examples=60)
def test_shares_are_the_weights_from_any_start(weights: list[float], start: int) -> None:
    scheduler = stride(weights, start)
    counts = Counter(picks(scheduler, 4_000))

    # Far closer than chance would bring them.
    assert chi_square(counts, dict(enumerate(weights, 1))) < critical(max(1, len(weights) - 1)) / 2


def test_equal_weights_make_a_round_robin() -> None:
    assert picks(stride([7.0] * 3), 9) == [1, 2, 3] * 3


def test_turns_of_one_are_spread() -> None:
    turns = [place for place, number in enumerate(picks(stride([1.0, 1.0, 2.0]), 400)) if number == 1]
    gaps = {later - earlier for earlier, later in itertools.pairwise(turns)}

    assert gaps <= {3, 4, 5}


@pytest.mark.parametrize("weights", [[1.0] * 99 + [1_000.0], [1.0, 10_000.0], [1e-9, 1.0]])
def test_a_pick_looks_at_three_entries_on_average_whatever_the_weights(weights: list[float]) -> None:
    numbers = itertools.count()
    scheduler = StaticStride(fleet(weights=weights), weights, numbers)
    picks(scheduler, 20_000)

    assert next(numbers) < 3.2 * 20_000


def test_a_weight_far_above_the_others_is_not_cut_off() -> None:
    """A58 would give at most ten times the mean."""
    weights = [1.0] * 99 + [1_000.0]
    counts = Counter(picks(stride(weights), 50_000))

    assert counts[100] / 50_000 == pytest.approx(1_000 / 1_099, rel=0.01)


def test_threads_share_one_rotation() -> None:
    picker = weighted().build(fleet(weights=[1.0, 3.0]))
    chosen: list[list[int]] = [[] for _ in range(4)]
    threads = [threading.Thread(target=lambda mine=mine: mine.extend(picks(picker, 1_000))) for mine in chosen]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(sub for mine in chosen for sub in mine)[2] == pytest.approx(3_000, abs=5)


# --- the picker ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [[1.0, 2.0, 3.0], [0.5, 0.5], [1.0, 100.0]])
def test_without_reports_the_endpoints_weights_decide(weights: list[float]) -> None:
    assert_shares(weighted().build(fleet(weights=weights)), weights)
    assert set(picks(weighted().build(fleet(weights=weights)), 400)) == set(range(1, len(weights) + 1))


def test_p14_the_rotation_survives_rebuilds() -> None:
    """P14."""
    made, ready = weighted(), fleet(4)

    assert [picks(made.build(ready), 1)[0] for _ in range(8)] == picks(weighted().build(ready), 8)


def test_what_was_tried_is_passed_over_by_weight() -> None:
    picker = weighted().build(fleet(weights=[1.0, 2.0, 4.0]))
    counts = Counter(picks(picker, 3_000, CallInfo(exclude={3})))

    assert counts[2] / counts[1] == pytest.approx(2.0, rel=0.1)


def test_what_was_tried_has_nearly_all_of_the_weight() -> None:
    picker = weighted().build(fleet(weights=[1.0, 1e6]))

    assert set(picks(picker, 20, CallInfo(exclude={2}))) == {1}


def fed(made: WeightedRoundRobin, loads: list[tuple[float, float]], until: float = 12.0) -> Counter[int]:
    """The shares after each of a fleet has reported (qps, utilization) since the beginning."""
    ready = fleet(len(loads))
    picker = made.build(ready)
    for at in (0.0, until):
        for sub, (qps, cpu) in zip(ready, loads, strict=True):
            made.call_ended(sub, reported(at, qps, cpu))
    made.call_ended(ready[0], reported(until + 1.0, *loads[0]))
    return Counter(picks(picker, 7_000))


def test_weight_is_queries_for_each_unit_of_utilization() -> None:
    """A58: 100/0.5, 100/0.25 and 200/0.25."""
    counts = fed(weighted(), [(100.0, 0.5), (100.0, 0.25), (200.0, 0.25)])

    assert [counts[sub] for sub in (1, 2, 3)] == pytest.approx([1_000, 2_000, 4_000], rel=0.01)


def test_reports_do_not_count_during_the_blackout() -> None:
    loads = [(100.0, 0.5), (100.0, 0.25)]

    assert set(fed(weighted(), loads, until=8.0).values()) == {3_500}
    assert fed(weighted(blackout_period=0.0), loads, until=0.5)[2] > 4_500


def test_whoever_has_no_weight_gets_the_mean() -> None:
    """A58; a report without queries or utilization is none."""
    counts = fed(weighted(), [(100.0, 1.0), (300.0, 1.0), (0.0, 0.9), (50.0, 0.0)])

    assert [counts[sub] for sub in (1, 2, 3, 4)] == pytest.approx([875, 2_625, 1_750, 1_750], rel=0.02)


def test_one_weight_alone_is_none() -> None:
    """A58."""
    assert set(fed(weighted(), [(100.0, 0.1), (0.0, 0.0)]).values()) == {3_500}


def test_errors_count_as_load() -> None:
    """A58: 100/(0.5 + 50/100) against 100/0.5."""
    made, ready = weighted(blackout_period=0.0), fleet(2)
    picker = made.build(ready)
    made.call_ended(ready[0], reported(0.0, eps=50.0))
    made.call_ended(ready[1], reported(2.0))
    counts = Counter(picks(picker, 3_000))

    assert [counts[1], counts[2]] == pytest.approx([1_000, 2_000], abs=5)


def test_the_applications_own_word_goes_before_the_cpu() -> None:
    made, ready = weighted(blackout_period=0.0), fleet(2)
    picker = made.build(ready)
    made.call_ended(ready[0], reported(0.0, application_utilization=0.1))
    made.call_ended(ready[1], reported(2.0, application_utilization=0.2))
    counts = Counter(picks(picker, 3_000))

    assert [counts[1], counts[2]] == pytest.approx([2_000, 1_000], abs=5)


def test_reported_and_own_weights_multiply() -> None:
    made, ready = weighted(blackout_period=0.0), fleet(weights=[1.0, 3.0])
    picker = made.build(ready)
    made.call_ended(ready[0], reported(0.0, qps=200.0))
    made.call_ended(ready[1], reported(2.0, qps=100.0))
    counts = Counter(picks(picker, 5_000))

    assert [counts[1], counts[2]] == pytest.approx([2_000, 3_000], abs=5)


def test_weights_expire_and_come_back_with_a_blackout() -> None:
    made, ready = weighted(), fleet(2)
    picker = made.build(ready)
    for at in (0.0, 11.0, 13.0):
        made.call_ended(ready[0], reported(at, 100.0))
        made.call_ended(ready[1], reported(at, 300.0))
    assert Counter(picks(picker, 400))[2] == pytest.approx(300, abs=3)

    made.call_ended(ready[0], CallEnd(Code.OK, round((DAY + 200.0) * SECOND)))
    assert Counter(picks(picker, 400))[2] == 200
    for at in (201.0, 205.0, 207.0):
        made.call_ended(ready[0], reported(at, 100.0))
        made.call_ended(ready[1], reported(at, 300.0))
    assert Counter(picks(picker, 400))[2] == 200
    made.call_ended(ready[0], reported(212.0, 100.0))
    assert Counter(picks(picker, 400))[2] == pytest.approx(300, abs=3)


def test_weights_are_chosen_once_in_a_period() -> None:
    made, ready = weighted(blackout_period=0.0, weight_update_period=0.0), fleet(2)
    picker = made.build(ready)
    schedules = []
    for at in (0.0, 0.01, 0.05, 0.09, 0.11, 0.15, 0.22):
        made.call_ended(ready[0], reported(at))
        schedules.append(picker.schedule)

    assert [schedules.index(one) for one in schedules] == [0, 0, 0, 0, 4, 4, 6]


def test_weights_survive_the_coming_and_going_of_others() -> None:
    made, ready = weighted(blackout_period=0.0), fleet(3)
    made.build(ready)
    made.call_ended(ready[0], reported(0.0, 100.0))
    made.call_ended(ready[1], reported(0.5, 300.0))
    made.call_ended(ready[2], reported(2.0, 900.0))

    assert Counter(picks(made.build(ready[:2]), 400))[2] == pytest.approx(300, abs=3)


def test_whoever_comes_back_has_its_blackout_again() -> None:
    """A58."""
    made, ready = weighted(), fleet(3)
    made.build(ready)
    for at in (0.0, 11.0, 13.0):
        for sub, qps in zip(ready, (100.0, 100.0, 800.0), strict=True):
            made.call_ended(sub, reported(at, qps))
    made.build(ready[:2])

    assert set(Counter(picks(made.build(ready), 300)).values()) == {100}


@pytest.mark.parametrize(
    "end",
    [
        reported(0.0, qps=float("inf")),
        reported(0.0, qps=float("nan")),
        reported(0.0, cpu=float("inf")),
        reported(0.0, cpu=-1.0),
        CallEnd(Code.OK, 1),
    ],
)
def test_a_report_that_makes_no_sense_is_none(end: CallEnd) -> None:
    made, ready = weighted(blackout_period=0.0), fleet(2)
    picker = made.build(ready)
    made.call_ended(ready[0], end)
    made.call_ended(fleet(1)[0], reported(1.0))
    made.call_ended(ready[1], reported(5.0))

    assert set(Counter(picks(picker, 100)).values()) == {50}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"application_utilization": 0.2, "named_metrics": {"queue": 9.0}}, 0.2),
        ({"named_metrics": {"queue": 0.25, "other": 9.0}, "mem_utilization": 0.1}, 0.25),
        ({"mem_utilization": 0.4, "named_metrics": {"queue": 0.25}}, 0.4),
        ({"named_metrics": {"queue": 0.0}}, 0.5),
        ({}, 0.5),
    ],
)
def test_a114_named_metrics_count_where_no_application_utilization_is_reported(
    fields: dict[str, Any], expected: float
) -> None:
    first = weighted(
        blackout_period=0, metric_names_for_computing_utilization=["named_metrics.queue", "mem_utilization"]
    )
    one, other = fleet(2)
    first.build([one, other])
    first.call_ended(other, reported(0, cpu=0.5))
    first.call_ended(one, reported(0, cpu=0.5, **fields))
    first.call_ended(one, reported(2, cpu=0.5, **fields))
    counts = Counter(picks(first._picker, 6000))

    assert counts[1] / counts[2] == pytest.approx(0.5 / expected, rel=0.01)
