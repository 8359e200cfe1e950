from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.core.messages import Code
from healthlb.core.pickers import CallEnd, CallInfo
from healthlb.core.pickers.least_request import LeastRequest
from tests.core.fleets import assert_shares, fleet, picks, rng

FAILED = CallEnd(Code.UNAVAILABLE, 0)


def least_request(seed: int = 1, **arguments: int) -> LeastRequest:
    made = LeastRequest(**arguments)
    made.seed(random.Random(seed))
    return made


@pytest.mark.parametrize("weights", [[1.0] * 5, [1.0, 2.0, 3.0], [1.0, 1.0, 8.0], [0.1, 5.0, 0.4, 7.0]])
@pytest.mark.parametrize("choices", [2, 3, 10])
def test_idle_backends_are_picked_by_their_weights(weights: list[float], choices: int) -> None:
    assert_shares(least_request(choice_count=choices).build(fleet(weights=weights)), weights)


def test_weights_count_among_those_that_are_left() -> None:
    picker = least_request().build(fleet(weights=[1.0, 2.0, 3.0, 4.0]))
    chosen = Counter(picks(picker, 9_000, CallInfo(exclude={1, 4})))

    assert 3_300 < chosen[2] < 3_900
    assert set(chosen) == {2, 3}
    assert set(picks(picker, 20, CallInfo(exclude={1, 2, 3}))) == {4}
    assert set(picks(picker, 200, CallInfo(exclude={1, 2, 3, 4}))) == {1, 2, 3, 4}


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, 1.5]])
def test_p17_of_two_the_busier_one_is_never_picked(weights: list[float]) -> None:
    """P17: drawing with replacement would give it a quarter of all calls."""
    ready = fleet(weights=weights)
    ready[0].load.in_flight = 5

    assert set(picks(least_request().build(ready), 500)) == {2}


@pytest.mark.parametrize("weights", [[1.0] * 8, [1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 8.0]])
@pytest.mark.parametrize("choices", [2, 5])
def test_calls_that_stay_pile_up_by_the_weights(weights: list[float], choices: int) -> None:
    """The power of two choices: far more even than chance, which would be off by a few dozen."""
    ready = fleet(weights=weights)
    picker = least_request(choice_count=choices).build(ready)
    for _ in range(4_000):
        sub = picker.pick(CallInfo())
        assert sub is not None
        sub.load.start()

    for sub in ready:
        assert sub.load.in_flight == pytest.approx(4_000 * sub.weight / sum(weights), abs=8 * max(1.0, sub.weight))


def test_busy_is_by_weight() -> None:
    ready = fleet(weights=[1.0, 10.0])
    ready[0].load.in_flight, ready[1].load.in_flight = 1, 9

    assert set(picks(least_request().build(ready), 200)) == {2}


def test_more_choices_find_the_idle_one_more_often() -> None:
    ready = fleet(10)
    for sub in ready[1:]:
        sub.load.in_flight = 3
    shares = [picks(least_request(choice_count=count).build(ready), 4_000).count(1) / 4_000 for count in (2, 5, 10, 99)]

    assert shares[0] == pytest.approx(0.2, abs=0.03)
    assert shares[1] == pytest.approx(0.5, abs=0.04)
    assert shares[2:] == [1.0, 1.0]


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.integers(0, 99))
def test_the_busiest_of_all_is_only_picked_where_another_is_as_busy(in_flight: list[int], seed: int) -> None:
    ready = fleet(len(in_flight))
    for sub, count in zip(ready, in_flight, strict=True):
        sub.load.in_flight = count
    chosen = {in_flight[number - 1] for number in picks(least_request(seed).build(ready), 30)}

    assert max(chosen) < max(in_flight) or in_flight.count(max(in_flight)) > 1


def sinkhole_share(made: LeastRequest, size: int, calls: int = 4_000) -> float:
    """The share of a backend that fails at once, while calls on the others last as long as ten more of them."""
    picker, chance = made.build(fleet(size)), rng(7)
    under_way: list[object] = []
    taken = 0
    for _ in range(calls):
        sub = picker.pick(CallInfo())
        assert sub is not None
        if sub.id == 1:
            taken += 1
            made.call_ended(sub, FAILED)
            continue
        sub.load.start()
        under_way.append(sub)
        if len(under_way) > 10:
            under_way.pop(chance.randrange(10)).load.succeed(1)  # type: ignore[attr-defined]
    return taken / calls


@pytest.mark.parametrize("size", [2, 3, 10])
def test_p16_f8_a_backend_that_fails_fast_draws_no_calls(size: int) -> None:
    """P16, F8: without the penalty it would draw up to 2/N of them, all of them lost."""
    assert sinkhole_share(least_request(failure_penalty=0), size) > 1.2 / size
    assert sinkhole_share(least_request(), size) < 0.2 / size


def test_a_penalty_doubles_and_ends() -> None:
    made = least_request()
    one, two = fleet(2)
    picker = made.build([one, two])
    for _ in range(9):
        made.call_ended(one, FAILED)

    assert picks(picker, 64) == [2] * 64
    assert 1 in picks(picker, 200)
    assert 2 in picks(picker, 50)


def test_a_success_forgets_what_was_before() -> None:
    made = least_request()
    one, two = fleet(2)
    picker = made.build([one, two])
    for _ in range(9):
        made.call_ended(one, FAILED)
    one.load.start()
    one.load.succeed(1)
    made.call_ended(one, FAILED)

    assert picks(picker, 4) == [2] * 4
    assert 1 in picks(picker, 40)


def test_answers_and_strangers_cost_nothing() -> None:
    made = least_request()
    one, two = fleet(2)
    picker = made.build([one])
    made.call_ended(two, FAILED)
    made.call_ended(one, CallEnd(Code.NOT_FOUND, 0))

    assert picks(picker, 3) == [1, 1, 1]
    assert 1 in picks(made.build([one, two]), 50)


def test_penalties_survive_a_rebuild() -> None:
    made = least_request(failure_penalty=8)
    ready = fleet(3)
    made.build(ready)
    made.call_ended(ready[0], FAILED)
    picker = made.build(ready[:2])

    assert set(picks(picker, 8)) == {2}


def test_p16_weights_do_not_call_a_failing_backend_back() -> None:
    """P16, with weights."""
    made = least_request()
    bad, *others = ready = fleet(weights=[5.0, 1.0, 1.0])
    picker = made.build(ready)
    for _ in range(9):
        made.call_ended(bad, FAILED)

    assert set(picks(picker, 40)) == {2, 3}
    assert 1 in picks(picker, 100)
