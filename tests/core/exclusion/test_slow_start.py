"""Slow start's formula, and the shares that pickers make of it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.config import HealthCheck, SlowStart
from healthlb.core.balancer import Balancer
from healthlb.core.exclusion.slow_start import share
from healthlb.core.messages import (
    SECOND,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Endpoint,
    HealthReported,
    Resolved,
    Tick,
)
from healthlb.core.pickers import ANY_CALL
from healthlb.pickers import LeastRequest, WeightedRoundRobin
from tests.core.configs import config_of

policies = st.builds(
    SlowStart, window=st.floats(0.1, 1000.0), aggression=st.floats(0.1, 10.0), min_weight=st.floats(0.01, 1.0)
)


@pytest.mark.parametrize(
    ("policy", "seconds", "expected"),
    [
        (SlowStart(window=60.0), 0.0, 0.1),
        (SlowStart(window=60.0), 3.0, 0.1),
        (SlowStart(window=60.0), 30.0, 0.5),
        (SlowStart(window=60.0, aggression=2.0), 15.0, 0.5),
        (SlowStart(window=60.0, aggression=0.5), 30.0, 0.25),
        (SlowStart(window=60.0, min_weight=0.4), 15.0, 0.4),
        (SlowStart(window=60.0), 60.0, 1.0),
        (SlowStart(window=60.0), 1e6, 1.0),
    ],
)
def test_the_formula_is_envoys(policy: SlowStart, seconds: float, expected: float) -> None:
    assert share(policy, round(seconds * SECOND)) == pytest.approx(expected)


@given(policies, st.lists(st.floats(0.0, 1.2), min_size=2))
def test_a_share_only_grows_from_the_least_to_the_whole(policy: SlowStart, parts: list[float]) -> None:
    shares = [share(policy, round(part * policy.window_ns)) for part in sorted(parts)]

    assert shares == sorted(shares)
    assert policy.min_weight <= shares[0] <= shares[-1] <= 1.0
    assert share(policy, policy.window_ns) == 1.0


def warming(age: int) -> Balancer:
    """A channel of four, the first of which came back so many nanoseconds ago; its window is 100 s."""
    balancer = Balancer("svc", config_of(HealthCheck(heartbeat=None), slow_start=SlowStart(window=100.0)), seed=1)
    balancer.handle(Resolved(tuple(Endpoint(address) for address in "abcd")), SECOND)
    for sub in range(1, 5):
        balancer.handle(ConnectivityChanged(sub, ConnectivityState.READY), SECOND)
        balancer.handle(DataReady(sub, sub), SECOND)
        balancer.handle(HealthReported(sub, 1, 1), SECOND)
    for status in (2, 1):
        balancer.handle(HealthReported(1, 1, status), SECOND)
    while (deadline := balancer.deadline) is not None and deadline <= SECOND + age:
        balancer.handle(Tick(), deadline)
    return balancer


@pytest.mark.parametrize("seconds", [0, 25, 50, 100])
def test_r4_its_share_of_the_calls_is_w_of_n_less_1_and_w(seconds: int) -> None:
    ready = warming(seconds * SECOND).snapshot.ready
    weight = max(0.1, seconds / 100)
    expected = weight / (3 + weight)

    for factory, allowed in ((WeightedRoundRobin(), 0.001), (LeastRequest(), 0.02)):
        picker = factory.build(ready)
        picks = Counter(sub.address for _ in range(20_000) if (sub := picker.pick(ANY_CALL)) is not None)
        assert picks["a"] / picks.total() == pytest.approx(expected, abs=allowed)
