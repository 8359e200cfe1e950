from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays, jittered
from healthlb.core.messages import SECOND


class Fixed(random.Random):
    """A stream that always draws the same."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def random(self) -> float:
        return self.value


def delays(policy: Backoff, count: int, rng: random.Random | None = None) -> list[int]:
    sequence = BackoffDelays(policy, rng or random.Random(1))
    return [sequence.next() for _ in range(count)]


def test_the_default_sequence_is_grpcs() -> None:
    mean = delays(Backoff(jitter=0.0), 13)

    expected = [1, 1.6, 2.56, 4.096, 6.5536, 10.48576, 16.777216, 26.8435456, 42.94967296, 68.719476736, 109.951162778]
    assert [round(delay / SECOND, 9) for delay in mean] == [*expected, 120, 120]


def test_jitter_reaches_both_bounds() -> None:
    assert delays(Backoff(), 2, Fixed(0.0)) == [800_000_000, 1_280_000_000]
    assert delays(Backoff(), 2, Fixed(1.0)) == [1_200_000_000, 1_920_000_000]


def test_the_first_delay_is_jittered() -> None:
    assert delays(Backoff(), 1, random.Random(1)) != delays(Backoff(), 1, random.Random(2))


def test_reset_begins_anew() -> None:
    sequence = BackoffDelays(Backoff(jitter=0.0), random.Random(1))
    before = [sequence.next(), sequence.next()]
    sequence.reset()

    assert [sequence.next(), sequence.next()] == before


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Backoff(initial=2.0, maximum=2.0, jitter=0.0), [2.0, 2.0, 2.0]),
        (Backoff(initial=0.5, multiplier=1.0, jitter=0.0), [0.5, 0.5, 0.5]),
        (Backoff(multiplier=1e15, jitter=0.0), [1.0, 120.0, 120.0]),
    ],
)
def test_extreme_policies(policy: Backoff, expected: list[float]) -> None:
    assert delays(policy, 3) == [round(seconds * SECOND) for seconds in expected]


@given(
    st.builds(
        Backoff,
        initial=st.floats(0.001, 10),
        multiplier=st.floats(1, 100),
        jitter=st.floats(0, 1),
        maximum=st.floats(10, 1000),
    ),
    st.integers(),
)
def test_every_delay_stays_within_its_bounds(policy: Backoff, seed: int) -> None:
    mean = policy.initial_ns * 1.0
    for delay in delays(policy, 30, random.Random(seed)):
        assert isinstance(delay, int)
        assert round(mean * (1 - policy.jitter)) - 1 <= delay <= round(mean * (1 + policy.jitter)) + 1
        mean = min(mean * policy.multiplier, policy.maximum_ns)


def test_no_delay_is_zero() -> None:
    tiny = Backoff(initial=1e-12, maximum=1e-12, jitter=1.0)

    assert min(delays(tiny, 20)) == 1
    assert jittered(1000, 1.0, Fixed(0.0)) == 1


def test_jittered_varies_either_way() -> None:
    assert [jittered(1000, 0.5, Fixed(draw)) for draw in (0.0, 0.5, 1.0)] == [500, 1000, 1500]
