"""Confidence from replications: Student's table, and intervals that hold as often as they say."""

import math
import random

import pytest

from healthlb.simulation.checks.estimates import Estimate, student


@pytest.mark.parametrize(
    ("freedom", "share", "value"),
    [(1, 0.975, 12.7062), (2, 0.975, 4.3027), (3, 0.975, 3.1824), (4, 0.975, 2.7764), (7, 0.975, 2.3646),
     (23, 0.975, 2.0687), (200, 0.975, 1.9719), (3, 0.995, 5.8409), (10, 0.9995, 4.5869), (5, 0.75, 0.7267)],
)  # fmt: skip
def test_students_table(freedom: int, share: float, value: float) -> None:
    assert student(freedom, share) == pytest.approx(value, rel=2e-4)


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = random.Random(5)
    held = 0
    for _ in range(2_000):
        estimate = Estimate.of([rng.gauss(3, 2) for _ in range(4)])
        held += abs(estimate.mean - 3) <= estimate.half_width()

    assert 0.935 < held / 2_000 < 0.965


def test_pairs_cancel_what_they_share() -> None:
    difference = Estimate.of_differences([10, 20, 30], [11, 21, 31])

    assert (difference.mean, difference.half_width(), difference.count) == (1, 0, 3)


def test_a_single_replication_is_not_sure_of_anything() -> None:
    alone = Estimate.of([2.0])

    assert alone.half_width() == math.inf
    assert (alone.z(2.0), alone.z(1.0)) == (0.0, math.inf)
    assert Estimate.of([1.0, 3.0]).z(4.0) == pytest.approx(-2)
