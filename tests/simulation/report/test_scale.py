"""Ticks are numbers a person would choose, and numbers are written as one would."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.simulation.report import scale
from healthlb.simulation.report.scale import clock, linear, logarithmic, moment, plain, seconds, share

SECOND = 1_000_000_000
REAL = st.floats(-1e12, 1e12, allow_nan=False)


def readable(words: str) -> str:
    """With plain spaces and hyphens."""
    return words.replace("\u00a0", " ").replace("\u202f", " ").replace("\u2212", "-")


@pytest.mark.parametrize(
    ("values", "low", "ticks"),
    [
        ([], 0.0, (0, 0.5, 1)),
        ([0.0], 0.0, (0, 0.5, 1)),
        ([397.0, 512.0], 0.0, (0, 200, 400, 600)),
        ([0.2, 0.99], 0.0, (0, 0.5, 1)),
        ([1.0, 2.1], 1.0, (1, 1.5, 2, 2.5)),
        ([-20.0, 35.0], None, (-20, 0, 20, 40)),
        ([5.0, 5.0], None, (5, 6, 7, 8, 9, 10)),
    ],
)
def test_linear_ticks(values: list[float], low: float | None, ticks: tuple[float, ...]) -> None:
    made = linear(values, low=low)

    assert made.ticks[0] <= min(values, default=0)
    assert made.ticks[-1] >= max(values, default=1)
    if values[:1] != [5.0]:
        assert made.ticks == ticks


@given(st.lists(REAL, max_size=5))
def test_a_linear_scale_holds_all_its_values(values: list[float]) -> None:
    made = linear(values)

    assert 2 <= len(made.ticks) <= 12
    assert list(made.ticks) == sorted(set(made.ticks))
    assert all(0 <= made.place(value) <= 1 for value in values)
    assert made.place(made.low) == 0
    assert made.place(made.high) == 1


@given(st.lists(st.floats(1e-9, 1e9), max_size=5))
def test_a_logarithmic_scale_holds_all_its_values(values: list[float]) -> None:
    made = logarithmic(values)

    assert 2 <= len(made.ticks) <= 20
    assert all(made.low <= value * (1 + 1e-6) and value <= made.high * (1 + 1e-6) for value in values)
    assert made.place(made.low) == 0
    assert made.place(made.high) == pytest.approx(1)


def test_zero_is_at_the_low_end_of_a_logarithmic_scale() -> None:
    assert logarithmic([0.0, 0.001, 1.0]).place(0.0) == 0
    assert logarithmic([]).ticks == (1, 2, 5, 10)


@pytest.mark.parametrize(
    ("duration", "words"),
    [
        (SECOND // 20, ["0 ms", "10 ms", "20 ms", "30 ms", "40 ms", "50 ms"]),
        (2 * SECOND, ["0 s", "0.5 s", "1 s", "1.5 s", "2 s"]),
        (30 * SECOND, ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]),
        (200 * SECOND, ["0 s", "30 s", "60 s", "90 s", "120 s", "150 s", "180 s"]),
        (1800 * SECOND, ["0 min", "5 min", "10 min", "15 min", "20 min", "25 min", "30 min"]),
        (6 * 3600 * SECOND, ["0:00 h", "1:00 h", "2:00 h", "3:00 h", "4:00 h", "5:00 h", "6:00 h"]),
    ],
)
def test_time_axes_read_as_a_clock_does(duration: int, words: list[str]) -> None:
    axis = clock(duration)
    step = axis.ticks[1] - axis.ticks[0]

    assert [readable(moment(tick, step)) for tick in axis.ticks] == words
    assert axis.high == duration / SECOND


@given(st.integers(1, 10**18))
def test_a_time_axis_of_any_length_has_few_ticks_that_differ(duration: int) -> None:
    axis = clock(duration)
    step = axis.ticks[1] - axis.ticks[0] if len(axis.ticks) > 1 else 1.0
    words = [moment(tick, step) for tick in axis.ticks]

    assert 1 <= len(words) <= 12
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 s"), (3e-9, "3 ns"), (2.5e-4, "250 µs"), (0.00099999, "1 ms"), (0.0123456, "12.3 ms"), (0.9999, "1 s"),
        (1.5, "1.5 s"), (119, "119 s"), (120, "2 min"), (9000, "2.5 h"), (-0.002, "-2 ms"), (math.nan, "\u2013"), (math.inf, "∞"),
    ],
)  # fmt: skip
def test_times_have_the_unit_that_suits_them(value: float, words: str) -> None:
    assert readable(seconds(value)) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (1, "1"), (1234567, "1 230 000"), (0.1234, "0.123"), (99.96, "100"), (-5.5, "-5.5"), (12e-6, "1.2e-5"),
        (2.5e10, "2.5e10"), (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "\u2013"), (1e-320, "1e-320"), (1.7951e308, "1.8e308"),
    ],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, words: str) -> None:
    assert readable(plain(value)) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0 %"), (1, "100 %"), (0.5, "50 %"), (0.9942, "99.42 %"), (0.9999, "99.99 %"), (0.999999, "99.9999 %"),
        (1 - 1e-8, "99.999999 %"), (1 - 1e-12, "99.99999999 %"), (0.00123, "0.123 %"), (1.2, "120 %"),
    ],
)  # fmt: skip
def test_what_is_not_all_is_not_written_as_all(value: float, words: str) -> None:
    assert readable(share(value)) == words


def test_decimals_are_kept_or_trimmed() -> None:
    assert [scale.decimal(value, 2) for value in (1, -0.001, 12.345)] == ["1.00", "0.00", "12.35"]
    assert scale.decimal(2.50, 2, is_trimmed=True) == "2.5"
