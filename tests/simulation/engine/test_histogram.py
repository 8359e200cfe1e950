"""Percentiles to within 1 %, however the counts were gathered."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.simulation.engine.histogram import Histogram

DURATIONS = st.lists(st.integers(0, 10**13), min_size=1, max_size=60)


def filled(durations: list[int]) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.add(duration)
    return histogram


@given(DURATIONS, st.floats(0, 1))
def test_a_percentile_is_right_to_within_one_percent(durations: list[int], share: float) -> None:
    exact = sorted(durations)[max(0, -int(-share * len(durations) // 1) - 1)]

    assert filled(durations).quantile(share) == pytest.approx(exact, rel=0.0101, abs=1)


@given(DURATIONS, DURATIONS)
def test_parts_that_are_added_are_the_whole(first: list[int], second: list[int]) -> None:
    merged = filled(first)
    merged.merge(filled(second))
    merged.merge(Histogram())

    whole = filled(first + second)
    assert merged == whole
    assert (merged.count, merged.total, merged.mean) == (whole.count, whole.total, whole.mean)


@given(DURATIONS)
def test_it_survives_a_file(durations: list[int]) -> None:
    histogram = filled(durations)

    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_the_ends_and_the_mean_are_exact() -> None:
    histogram = filled([3, 1_000_000, 7_000_001])

    assert (histogram.least, histogram.quantile(1), histogram.mean) == (3, 7_000_001, 8_000_004 / 3)


def test_of_nothing_everything_is_0() -> None:
    empty = Histogram()

    assert (empty.quantile(0.5), empty.mean, empty.share_above(3), empty.least) == (0, 0, 0, 0)
    assert repr(empty) == "<Histogram of nothing>"
    assert Histogram.from_json(empty.to_json()) == empty


def test_how_many_took_longer() -> None:
    histogram = filled([10, 20, 30, 1000])

    assert histogram.share_above(25) == 0.5
    assert repr(filled([5_000_000])) == "<Histogram of 1, p50 5.000 ms, p99 5.000 ms>"


def test_a_million_latencies_are_a_few_hundred_numbers() -> None:
    rng = random.Random(1)
    histogram = filled([int(rng.expovariate(1e-7)) for _ in range(20_000)])

    assert len(histogram.buckets) < 700
