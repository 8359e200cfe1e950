from __future__ import annotations

import random
from collections import Counter

import pytest

from healthlb.core.messages import SECOND, Code
from healthlb.core.pickers import CallEnd, CallInfo
from healthlb.core.pickers.peak_ewma import PeakEwma
from tests.core.fleets import assert_shares, fleet, picks


def peak_ewma(seed: int = 1, **arguments: float) -> PeakEwma:
    made = PeakEwma(**arguments)
    made.seed(random.Random(seed))
    return made


def ended(seconds: float | None, at: float = 0.0, code: Code = Code.OK) -> CallEnd:
    return CallEnd(code, round(at * SECOND), seconds)


def test_equal_ones_are_picked_evenly() -> None:
    made, ready = peak_ewma(), fleet(4)
    picker = made.build(ready)
    assert_shares(picker, [1.0] * 4)
    for sub in ready:
        made.call_ended(sub, ended(0.01))

    assert_shares(picker, [1.0] * 4)


def test_the_slower_of_two_is_not_picked_until_the_quick_one_is_busy() -> None:
    made = peak_ewma()
    slow, quick = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(slow, ended(0.1))
    made.call_ended(quick, ended(0.01))

    assert set(picks(picker, 200)) == {2}
    quick.load.in_flight = 8
    assert set(picks(picker, 200)) == {2}
    quick.load.in_flight = 10
    assert set(picks(picker, 200)) == {1}
    slow.load.in_flight, quick.load.in_flight = 3_000, 1_000
    assert set(picks(picker, 200)) == {2}


def test_a_peak_is_taken_at_once_and_forgotten_with_time() -> None:
    made = peak_ewma(decay=10.0)
    one, two = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(one, ended(0.01))
    made.call_ended(two, ended(0.02))
    made.call_ended(one, ended(1.0, at=0.001))
    assert set(picks(picker, 100)) == {2}
    for second in range(1, 30):
        made.call_ended(one, ended(0.01, at=second))
        made.call_ended(two, ended(0.02, at=second))

    assert set(picks(picker, 100)) == {2}
    for second in range(30, 60):
        made.call_ended(one, ended(0.01, at=second))
        made.call_ended(two, ended(0.02, at=second))
    assert set(picks(picker, 100)) == {1}


def test_one_that_nobody_calls_is_tried_again() -> None:
    made = peak_ewma(decay=1.0)
    one, two = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(one, ended(1.0))
    for tenth in range(40):
        made.call_ended(two, ended(0.05, at=tenth / 10))

    assert set(picks(picker, 100)) == {1}


def test_one_that_has_never_answered_gets_one_call_at_a_time() -> None:
    made = peak_ewma()
    new, known = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(known, ended(0.01))
    assert set(picks(picker, 100)) == {1}
    new.load.in_flight = 1
    known.load.in_flight = 50

    assert set(picks(picker, 100)) == {2}


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INTERNAL, Code.RESOURCE_EXHAUSTED])
@pytest.mark.parametrize("seconds", [0.0001, None])
def test_p16_f8_a_failure_does_not_look_quick(code: Code, seconds: float | None) -> None:
    """P16, F8."""
    made = peak_ewma()
    bad, good = ready = fleet(2)
    picker = made.build(ready)
    for sub in ready:
        made.call_ended(sub, ended(0.05))
    made.call_ended(bad, ended(seconds, code=code))

    assert set(picks(picker, 100)) == {2}


def test_p16_failures_on_end_outgrow_the_slowest_service() -> None:
    made = peak_ewma()
    bad, good = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(good, ended(20.0))
    for _ in range(6):
        made.call_ended(bad, ended(0.0001, code=Code.UNKNOWN))

    assert set(picks(picker, 100)) == {2}
    for _ in range(2_000):
        made.call_ended(bad, ended(0.0001, code=Code.UNKNOWN))
    for second in range(30):
        made.call_ended(good, ended(20.0, at=second))
    assert set(picks(picker, 100)) == {1}


def test_answers_that_are_no_success_never_lower_the_average() -> None:
    made = peak_ewma()
    one, two = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(one, ended(0.1))
    made.call_ended(two, ended(0.05))
    for second in range(5):
        made.call_ended(one, ended(0.0001, at=second / 100, code=Code.NOT_FOUND))

    assert set(picks(picker, 100)) == {2}


def test_a_cancelled_call_took_at_least_as_long_as_it_had() -> None:
    made = peak_ewma()
    hung, good = ready = fleet(2)
    picker = made.build(ready)
    made.call_ended(hung, ended(0.01))
    made.call_ended(good, ended(0.05))
    made.call_ended(hung, ended(0.5, code=Code.CANCELLED))

    assert set(picks(picker, 100)) == {2}


def test_streams_and_strangers_say_nothing() -> None:
    made = peak_ewma()
    one, two = fleet(2)
    picker = made.build([one])
    made.call_ended(two, ended(9.0))
    made.call_ended(one, ended(None))

    assert picks(picker, 2) == [1, 1]
    assert_shares(made.build([one, two]), [1.0, 1.0], 4_000)


def test_latencies_survive_a_rebuild() -> None:
    made, ready = peak_ewma(), fleet(3)
    made.build(ready)
    made.call_ended(ready[0], ended(0.5))
    made.call_ended(ready[1], ended(0.01))

    assert set(picks(made.build(ready[:2]), 50)) == {2}


def test_what_was_tried_is_left_out() -> None:
    made, ready = peak_ewma(), fleet(3)
    picker = made.build(ready)

    assert set(Counter(picks(picker, 50, CallInfo(exclude={2})))) == {1, 3}


def test_hours_later_costs_still_compare() -> None:
    made = peak_ewma()
    one, two = ready = fleet(2)
    picker = made.build(ready)
    week = 7 * 24 * 3600.0
    made.call_ended(one, ended(0.0101, at=week))
    made.call_ended(two, ended(0.01, at=week))

    assert set(picks(picker, 100)) == {2}
