"""READY subchannels for tests of pickers, and what of chance they need."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from healthlb.core.load import Subchannel
from healthlb.core.messages import Endpoint
from healthlb.core.pickers import ANY_CALL, CallInfo, Picker


def fleet(count: int = 0, weights: Sequence[float] = ()) -> list[Subchannel]:
    """Return subchannels numbered from 1."""
    weights = weights or [1.0] * count
    return [Subchannel(n, 1, Endpoint(f"10.0.0.{n}:1", weight)) for n, weight in enumerate(weights, 1)]


def picks(picker: Picker, count: int, call: CallInfo = ANY_CALL) -> list[int]:
    """Return the ids of so many picks."""
    chosen = [picker.pick(call) for _ in range(count)]
    return [sub.id for sub in chosen if sub is not None]


def chi_square(counts: Mapping[int, int], shares: Mapping[int, float]) -> float:
    """Return how far counts are from what was to be expected."""
    total, parts = sum(counts.values()), sum(shares.values())
    expected = {key: total * share / parts for key, share in shares.items()}
    assert counts.keys() <= shares.keys()
    return sum((counts.get(key, 0) - value) ** 2 / value for key, value in expected.items())


def critical(degrees: int) -> float:
    """Return what chi-square exceeds in one of 10,000 cases by chance (Wilson and Hilferty)."""
    return degrees * (1 - 2 / (9 * degrees) + 3.719 * math.sqrt(2 / (9 * degrees))) ** 3


def assert_shares(picker: Picker, weights: Sequence[float], count: int = 20_000, call: CallInfo = ANY_CALL) -> None:
    """Assert that picks are spread as the weights are."""
    shares = dict(enumerate(weights, 1))

    assert chi_square(Counter(picks(picker, count, call)), shares) < critical(len(weights) - 1)


def rng(seed: int = 1) -> random.Random:
    """Return a seeded stream."""
    return random.Random(seed)
