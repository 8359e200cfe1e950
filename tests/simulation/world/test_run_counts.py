"""What is counted while a world runs."""

from __future__ import annotations

from healthlb.config import RetryThrottle
from healthlb.core.call.budget import Throttle
from healthlb.core.messages import Code
from healthlb.simulation.scenario.scenario import SECOND
from healthlb.simulation.world.record import BIN
from healthlb.simulation.world.run_counts import RunCounts


def test_calls_count_at_their_end_and_belong_to_their_beginning() -> None:
    tally = RunCounts(SECOND, 3 * SECOND)
    tally.succeeded(SECOND - 1, SECOND + 9)
    tally.succeeded(SECOND, SECOND + 20)
    tally.failed(SECOND - 1, Code.UNAVAILABLE)
    tally.failed(SECOND, Code.INTERNAL)
    tally.next_bin(BIN)
    tally.succeeded(SECOND, SECOND + 40)
    tally.next_bin(2 * BIN)

    assert tally.ok[:3] == [2, 1, 0]
    assert tally.latency().count == 2
    assert tally.latency().total == 60
    assert tally.failures == {"INTERNAL": 1}
    assert {name: sum(bins) for name, bins in tally.errors.items()} == {"UNAVAILABLE": 1, "INTERNAL": 1}
    assert [one.count for one in tally.latencies()[:2]] == [3, 0]


def test_a_latency_counts_in_the_second_in_which_it_ended() -> None:
    tally = RunCounts(0, 5 * SECOND)
    tally.next_bin(SECOND + 3 * BIN)
    tally.succeeded(0, SECOND + 3 * BIN + 5)
    tally.next_bin(SECOND + 4 * BIN)

    assert [one.count for one in tally.latencies()] == [0, 1, 0, 0, 0, 0, 0]


def test_a_budget_is_followed_from_its_first_failure_until_it_is_whole() -> None:
    tally = RunCounts(0, SECOND)
    throttle = Throttle(RetryThrottle(max_tokens=10, token_ratio=0.5))
    throttle.attempt_failed()
    throttle.attempt_failed()
    tally.attempt_failed(throttle, 0)
    throttle.call_succeeded()
    tally.next_bin(BIN)
    for _ in range(3):
        throttle.call_succeeded()
    tally.next_bin(2 * BIN)
    throttle.attempt_failed()
    tally.next_bin(3 * BIN)

    assert tally.tokens[:4] == [0.8, 0.85, 1.0, 1.0]
