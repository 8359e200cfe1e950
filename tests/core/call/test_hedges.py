"""A late call goes elsewhere as well only while most backends answer in time."""

from __future__ import annotations

import threading

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.core.call.budget import make_budget
from healthlb.core.call.hedges import HedgeGate
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Endpoint

T = 1_000 * SECOND


def gate_of(most: float) -> HedgeGate:
    return HedgeGate(most, threading.Lock())


def fleet(size: int) -> list[Subchannel]:
    return [Subchannel(number, 1, Endpoint(f"{number}:1")) for number in range(1, size + 1)]


def answered(subs: list[Subchannel], times: int) -> None:
    for sub in subs:
        for _ in range(times):
            sub.load.start()
            sub.load.succeed(T)


def late(gate: HedgeGate, sub: Subchannel, ready: list[Subchannel], times: int, now: int = T) -> bool:
    """Return what the last one of so many late calls is told."""
    return [gate.allows(sub.id, ready, now) for _ in range(times)][-1]


def test_one_of_three_may_hang() -> None:
    gate, subs = gate_of(0.05), fleet(3)

    assert late(gate, subs[0], subs, 500)


def test_where_most_are_late_nothing_is_sent_twice() -> None:
    gate, subs = gate_of(0.05), fleet(3)

    assert late(gate, subs[0], subs, 3)
    assert late(gate, subs[1], subs, 2)
    assert not late(gate, subs[1], subs, 1)


def test_two_late_calls_are_chance() -> None:
    gate, subs = gate_of(0.05), fleet(2)

    assert late(gate, subs[0], subs, 1)
    assert late(gate, subs[1], subs, 1)
    assert not late(gate, subs[1], subs, 1)


def test_a_few_late_ones_among_many_calls_are_in_time() -> None:
    gate, subs = gate_of(0.05), fleet(2)
    late(gate, subs[0], subs, 1)
    answered(subs, 100)

    assert late(gate, subs[0], subs, 4)
    assert late(gate, subs[1], subs, 5)
    assert not late(gate, subs[0], subs, 1)


def test_most_are_looked_at_together() -> None:
    """No backend alone has more late calls than two, and yet the fleet is slow."""
    gate, subs = gate_of(0.05), fleet(5)

    assert [late(gate, sub, subs, 1) for sub in subs] == [True, True, True, True, False]


def test_two_of_five_that_are_slow_shut_nothing() -> None:
    gate, subs = gate_of(0.05), fleet(5)
    late(gate, subs[0], subs, 1)
    answered(subs[2:], 40)

    assert late(gate, subs[0], subs, 200)
    assert late(gate, subs[1], subs, 200)
    assert [late(gate, sub, subs, 2) for sub in subs[2:]] == [True] * 3


def test_the_gate_stays_shut_for_ten_seconds_after_the_last_look_at_a_slow_fleet() -> None:
    gate, subs = gate_of(0.05), fleet(1)
    assert not late(gate, subs[0], subs, 3)

    answered(subs, 1_000)
    assert not late(gate, subs[0], subs, 1, T + 10 * SECOND - 1)
    assert late(gate, subs[0], subs, 1, T + 10 * SECOND)


def test_what_was_late_two_windows_ago_is_forgotten() -> None:
    gate, subs = gate_of(0.05), fleet(1)

    assert late(gate, subs[0], subs, 2, T)
    assert late(gate, subs[0], subs, 2, T + 2 * SECOND)
    assert not late(gate, subs[0], subs, 1, T + 3 * SECOND)


def test_calls_of_a_connection_that_is_gone_are_not_those_of_the_new_one() -> None:
    gate, old = gate_of(0.05), fleet(1)
    answered(old, 1_000)
    assert late(gate, old[0], old, 1)
    new = fleet(1)
    answered(new, 10)

    assert not late(gate, new[0], new, 2, T + SECOND // 2)


def test_a_budget_knows_a_gate_where_it_has_a_ratio() -> None:
    assert make_budget(RetryBudget(ratio=0.1)).hedges is not None
    assert make_budget(RetryThrottle(max_tokens=10, token_ratio=0.1)).hedges is None
    assert make_budget(None).hedges is None
