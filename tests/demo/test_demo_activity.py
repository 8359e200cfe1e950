from __future__ import annotations

from healthlb.core.messages import SECOND, Code
from healthlb.demo.activity import CELL, CELLS, Activity, Cell
from healthlb.demo.records import CallRecord

START = 50 * SECOND


def call(ended: float, backend: int | None = 0, code: Code = Code.OK, took: float = 0.002) -> CallRecord:
    ended_at = START + round(ended * SECOND)
    return CallRecord(ended_at - round(took * SECOND), ended_at, backend, code)


def filled(*calls: CallRecord) -> Activity:
    activity = Activity(2, START)
    for each in calls:
        activity.add(each)
    return activity


def test_calls_are_counted_by_lane() -> None:
    activity = filled(call(0.1), call(0.2), call(0.3, 1), call(0.4, 1, Code.UNAVAILABLE))

    assert (activity.totals(0), activity.totals(1)) == ((2, 0), (2, 1))
    assert (activity.calls, activity.errors) == (4, 1)


def test_an_error_of_no_known_backend_is_in_the_totals_only() -> None:
    activity = filled(call(0.1, None, Code.UNAVAILABLE))

    assert (activity.calls, activity.errors) == (1, 1)
    assert (activity.totals(0), activity.totals(1)) == ((0, 0), (0, 0))


def test_the_strip_holds_complete_half_seconds_only() -> None:
    activity = filled(call(0.1), call(0.4), call(1.2, code=Code.UNAVAILABLE), call(1.6))

    assert activity.strip(0, START + 3 * CELL) == (Cell(2, 0), Cell(0, 0), Cell(0, 1))


def test_the_strip_ends_after_half_a_minute() -> None:
    activity = filled(*(call(second + 0.1) for second in range(100)))
    strip = activity.strip(0, START + 100 * SECOND)

    assert strip == (Cell(1, 0), Cell(0, 0)) * (CELLS // 2)


def test_the_rate_is_of_the_last_complete_second() -> None:
    activity = filled(call(0.1), call(1.1), call(1.4), call(1.8), call(2.1))

    assert activity.rate(0, START + round(2.3 * SECOND)) == 3


def test_the_median_is_of_answered_calls() -> None:
    slow_error = call(9, code=Code.DEADLINE_EXCEEDED, took=1.0)

    assert filled(call(1, took=0.001), call(2, took=0.003), call(3, took=0.004), slow_error).p50 == 0.003
    assert filled().p50 is None
