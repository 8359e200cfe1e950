from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.core.call.budget import Budget, NoBudget, RatioBudget, Throttle, make_budget
from healthlb.core.messages import SECOND

START = 1_000 * SECOND


def granted(budget: Budget, now: int, most: int = 100_000) -> int:
    """How many further attempts it pays for now."""
    count = 0
    while count < most and budget.withdraw(now):
        count += 1
    return count


def in_threads(count: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_policy_makes_its_budget() -> None:
    made = [make_budget(policy) for policy in (RetryBudget(), RetryThrottle(max_tokens=10, token_ratio=0.1), None)]

    assert [type(budget) for budget in made] == [RatioBudget, Throttle, NoBudget]


def test_no_budget_never_ends() -> None:
    budget = make_budget(None)
    budget.call_started(START)
    budget.call_succeeded()
    budget.attempt_failed()

    assert granted(budget, START, most=1000) == 1000


# --- Finagle's ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("calls", "expected"), [(0, 100), (100, 120), (10_000, 2_100)])
def test_a_share_of_the_calls_and_a_few_in_any_case(calls: int, expected: int) -> None:
    budget = RatioBudget(RetryBudget(ratio=0.2, min_per_second=10.0, ttl=10.0))
    for number in range(calls):
        budget.call_started(START + number * 8 * SECOND // max(calls, 1))

    assert granted(budget, START + 9 * SECOND) == expected


def test_neither_results_nor_failures_change_it() -> None:
    budget = RatioBudget(RetryBudget(min_per_second=1.0))
    for _ in range(100):
        budget.call_succeeded()
        budget.attempt_failed()

    assert granted(budget, START) == 10


def test_calls_and_withdrawals_are_forgotten_after_the_ttl() -> None:
    budget = RatioBudget(RetryBudget(ratio=1.0, min_per_second=1.0, ttl=10.0))
    for _ in range(50):
        budget.call_started(START)
    assert granted(budget, START) == 60
    assert granted(budget, START + 9 * SECOND) == 0

    assert granted(budget, START + 12 * SECOND) == 10


def test_what_was_taken_from_older_calls_is_not_given_twice() -> None:
    budget = RatioBudget(RetryBudget(ratio=1.0, min_per_second=0.0, ttl=10.0))
    for _ in range(10):
        budget.call_started(START)
    assert granted(budget, START + 9 * SECOND) == 10
    budget.call_started(START + 12 * SECOND)

    assert granted(budget, START + 12 * SECOND) == 0
    assert granted(budget, START + 21 * SECOND) == 1


@given(
    st.lists(st.tuples(st.integers(0, 3 * SECOND), st.booleans()), max_size=300),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from([0.0, 1.0]),
)
def test_no_window_pays_for_more_than_its_share(
    script: list[tuple[int, bool]], ratio: float, min_per_second: float
) -> None:
    budget = RatioBudget(RetryBudget(ratio=ratio, min_per_second=min_per_second, ttl=10.0))
    now = START
    calls: list[int] = []
    taken: list[int] = []
    for pause, is_call in script:
        now += pause
        if is_call:
            budget.call_started(now)
            calls.append(now)
        elif budget.withdraw(now):
            taken.append(now)

        # A slice is a tenth of the ttl, so the window may be that much longer.
        recent = sum(at > now - 11 * SECOND for at in calls)
        assert sum(at > now - 9 * SECOND for at in taken) <= ratio * recent + 10 * min_per_second + 1e-6


def test_a_steady_outage_costs_the_ratio_and_the_reserve() -> None:
    budget = RatioBudget(RetryBudget(ratio=0.2, min_per_second=10.0, ttl=10.0))
    attempts = 0
    for number in range(60_000):
        now = START + number * SECOND // 1000
        budget.call_started(now)
        attempts += budget.withdraw(now)

    assert 60 * (200 + 10) * 0.95 <= attempts <= 60 * (200 + 10) * 1.05 + 100


def test_threads_take_no_more_than_there_is() -> None:
    budget = RatioBudget(RetryBudget(ratio=1.0, min_per_second=0.0))
    in_threads(4, lambda: [budget.call_started(START) for _ in range(1000)])
    taken: list[int] = []
    in_threads(4, lambda: taken.append(granted(budget, START)))

    assert sum(taken) == 4000


# --- gRPC's ---------------------------------------------------------------------------------------


def test_half_of_the_tokens_must_be_left() -> None:
    """R12: with 10 tokens the 5th failure in a row stops retries."""
    throttle = Throttle(RetryThrottle(max_tokens=10, token_ratio=0.1))
    allowed = []
    for _ in range(6):
        throttle.attempt_failed()
        allowed.append(throttle.withdraw(START))

    assert allowed == [True] * 4 + [False] * 2


def test_a_retry_is_earned_by_ten_successes() -> None:
    throttle = Throttle(RetryThrottle(max_tokens=10, token_ratio=0.1))
    for _ in range(5):
        throttle.attempt_failed()
    throttle.call_started(START)
    assert not throttle.withdraw(START)
    throttle.call_succeeded()
    assert throttle.withdraw(START)
    throttle.attempt_failed()
    for _ in range(9):
        throttle.call_succeeded()
    assert not throttle.withdraw(START)
    throttle.call_succeeded()

    assert throttle.withdraw(START)


def test_tokens_stay_between_none_and_all() -> None:
    throttle = Throttle(RetryThrottle(max_tokens=2, token_ratio=0.5))
    for _ in range(10):
        throttle.call_succeeded()
    throttle.attempt_failed()
    assert not throttle.withdraw(START)
    for _ in range(10):
        throttle.attempt_failed()
    throttle.call_succeeded()
    throttle.call_succeeded()
    assert not throttle.withdraw(START)
    throttle.call_succeeded()

    assert throttle.withdraw(START)


def test_a_ratio_of_three_decimals_counts_exactly() -> None:
    throttle = Throttle(RetryThrottle(max_tokens=1, token_ratio=0.001))
    throttle.attempt_failed()
    for _ in range(500):
        throttle.call_succeeded()
    assert not throttle.withdraw(START)
    throttle.call_succeeded()

    assert throttle.withdraw(START)


def test_what_is_left_is_told_as_a_share() -> None:
    ratio = RatioBudget(RetryBudget(ratio=0.0, min_per_second=1.0, ttl=4.0))
    throttle = Throttle(RetryThrottle(max_tokens=4, token_ratio=0.5))
    assert (ratio.left(START), throttle.left(START), make_budget(None).left(START)) == (1.0, 1.0, 1.0)
    ratio.withdraw(START)
    throttle.attempt_failed()

    assert (ratio.left(START), throttle.left(START)) == (0.75, 0.75)
    assert ratio.left(START + 5 * SECOND) == 1.0
