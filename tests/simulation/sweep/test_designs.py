from __future__ import annotations

import pytest

from healthlb.simulation.sweep import sobol
from healthlb.simulation.sweep.designs import Axis, in_seconds, latin, points

RHO = Axis(name="rho", paths=("rho",), low=0.1, high=0.9, steps=5)
SLOTS = Axis(name="slots", paths=("slots",), low=1, high=64, steps=7, is_log=True, is_whole=True)
PICKER = Axis(name="picker", paths=("picker",), values=("rr", "p2c"))


def test_a_grid_has_every_combination_once_and_clean_numbers() -> None:
    assert points("grid", (RHO, PICKER), 0, 1) == [
        (0.1, "rr"), (0.1, "p2c"), (0.3, "rr"), (0.3, "p2c"), (0.5, "rr"), (0.5, "p2c"),
        (0.7, "rr"), (0.7, "p2c"), (0.9, "rr"), (0.9, "p2c"),
    ]  # fmt: skip


def test_a_logarithmic_axis_has_equal_ratios() -> None:
    assert SLOTS.grid == (1, 2, 4, 8, 16, 32, 64)


def test_whole_numbers_come_once() -> None:
    assert Axis(name="n", paths=("n",), low=1, high=3, steps=9, is_whole=True).grid == (1, 2, 3)


def test_between_is_the_middle_until_nothing_is_left() -> None:
    assert RHO.between(0.1, 0.2) == 0.15
    assert SLOTS.between(4, 16) == 8
    assert SLOTS.between(4, 5) is None


@pytest.mark.parametrize("dimension", range(sobol.MOST_DIMENSIONS))
@pytest.mark.parametrize("seed", [1, 7])
def test_sobol_has_one_point_in_each_interval_of_each_dimension(dimension: int, seed: int) -> None:
    found = sobol.points(256, sobol.MOST_DIMENSIONS, seed)

    assert sorted(int(point[dimension] * 256) for point in found) == list(range(256))


@pytest.mark.parametrize(("columns", "rows"), [(1, 64), (4, 16), (8, 8), (16, 4), (64, 1)])
def test_sobol_has_one_point_in_each_box_of_its_first_two_dimensions(columns: int, rows: int) -> None:
    boxes = {(int(x * columns), int(y * rows)) for x, y in sobol.points(64, 2)}

    assert len(boxes) == 64


def test_sobol_unshifted_is_the_published_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first points of Joe and Kuo's program for three dimensions.
    monkeypatch.setattr(sobol, "_shift", lambda dimension, seed: 0)

    assert sobol.points(6, 3) == [
        (0, 0, 0), (0.5, 0.5, 0.5), (0.75, 0.25, 0.25), (0.25, 0.75, 0.75), (0.375, 0.375, 0.625), (0.875, 0.875, 0.125),
    ]  # fmt: skip


def test_latin_has_one_point_in_each_interval_of_each_dimension() -> None:
    found = latin(30, 3, 5)

    for dimension in range(3):
        assert sorted(int(point[dimension] * 30) for point in found) == list(range(30))


@pytest.mark.parametrize("design", ["sobol", "lhs"])
def test_the_same_seed_gives_the_same_points(design: str) -> None:
    axes = (RHO, SLOTS, PICKER)

    assert points(design, axes, 50, 3) == points(design, axes, 50, 3)
    assert points(design, axes, 50, 3) != points(design, axes, 50, 4)
    assert {point[2] for point in points(design, axes, 50, 3)} == {"rr", "p2c"}


@pytest.mark.parametrize(
    ("value", "seconds"), [("10ms", 0.01), (2, 2.0), (True, 1.0), ("p2c", None), ("30%", 0.3), ("%", None)]
)
def test_durations_are_seconds_and_percents_shares(value: object, seconds: float | None) -> None:
    assert in_seconds(value) == seconds
