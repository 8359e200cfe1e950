"""Laws of service times: what is drawn has the moments that theory is told, from one number each."""

import math
import random
from pathlib import Path

import pytest

from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario.laws import Deterministic, Empirical, Exponential, Law, Lognormal, parse_law

MS = 1_000_000
LAWS = [
    "10ms",
    {"dist": "deterministic", "value": "10ms"},
    {"dist": "exponential", "mean": "10ms"},
    {"dist": "uniform", "low": "5ms", "high": "15ms"},
    {"dist": "lognormal", "mean": "10ms", "cv2": 3},
    {"dist": "lognormal", "mean": "10ms", "p99": "40ms"},
    {"dist": "bimodal", "short": "1ms", "long": "50ms", "share": 0.1},
    {"dist": "pareto", "low": "1ms", "high": "100ms", "alpha": 1.2},
    {"dist": "pareto", "low": "1ms", "high": "100ms", "alpha": 2},
    {"dist": "empirical", "values": ["1ms", 0.002, "9000us"]},
]


def law_of(value: object) -> Law:
    return parse_law("service", value)


@pytest.mark.parametrize("value", LAWS, ids=str)
def test_the_draws_have_the_moments(value: object) -> None:
    law = law_of(value)
    # Evenly spread numbers integrate the inverse: no noise, so no tolerance for it.
    count = 100_000
    points = iter((place + 0.5) / count for place in range(count))
    draws = [law.draw(points.__next__) for _ in range(count)]

    assert all(isinstance(draw, int) and draw >= 0 for draw in draws)
    assert sum(draws) / count == pytest.approx(law.mean, rel=2e-3)
    assert sum(draw**2 for draw in draws) / count == pytest.approx(law.mean_square, rel=2e-2)


@pytest.mark.parametrize("value", LAWS, ids=str)
def test_a_draw_takes_one_number_and_stands_the_ends(value: object) -> None:
    law = law_of(value)
    rng = random.Random(7)
    law.draw(rng.random)
    other = random.Random(7)
    other.random()

    assert rng.random() == other.random()
    assert 0 <= law.draw(lambda: 0.0) <= law.draw(lambda: 1 - 2**-53) or value == LAWS[6]


def test_a_lognormal_has_the_percentile_it_was_given() -> None:
    law = law_of({"dist": "lognormal", "mean": "10ms", "p99": "80ms"})

    assert law.draw(lambda: 0.99) == pytest.approx(80 * MS, rel=1e-6)
    assert law.mean == 10 * MS
    assert isinstance(law, Lognormal)
    assert Lognormal.with_cv2(10.0, 3.0).mean_square == pytest.approx(400)


def test_an_exponential_halves_at_its_median() -> None:
    assert Exponential(10 * MS).draw(lambda: 0.5) == round(10 * MS * math.log(2))


def test_measured_times_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("# measured on a Tuesday\n1ms\n\n2ms  # the slow one\n")

    law = parse_law("service", {"dist": "empirical", "file": "times.txt"}, tmp_path)

    assert law == Empirical((MS, 2 * MS))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10 parsecs", "service must be a duration like '10ms', '1.5s' or a number of seconds, not '10 parsecs'"),
        (True, "service must be a duration like '10ms', '1.5s' or a number of seconds, not True"),
        (-1, "service must be at least 0 ns and at most a year, not -1"),
        ({"dist": "gauss"}, "service.dist must be one of exponential, deterministic, uniform, lognormal, bimodal, pareto, empirical, not 'gauss'"),
        ({"mean": "1s"}, "service.dist must be one of exponential, deterministic, uniform, lognormal, bimodal, pareto, empirical, not None"),
        ({"dist": "exponential"}, "service (exponential) needs mean"),
        ({"dist": "exponential", "mean": 0}, "service.mean must be above 0 and at most a year, not 0"),
        ({"dist": "exponential", "mean": "1s", "p99": "2s"}, "service (exponential) has no p99; it takes mean"),
        ({"dist": "lognormal", "mean": "1s"}, "service (lognormal) needs one of cv2 and p99"),
        ({"dist": "lognormal", "mean": "1s", "p99": "2s", "cv2": 1}, "service (lognormal) needs one of cv2 and p99"),
        ({"dist": "lognormal", "mean": "1s", "p99": "20s"}, "service: p99 must be 1 to 15.0 times the mean of a lognormal law, not 20 times"),
        ({"dist": "lognormal", "mean": "1s", "cv2": -1}, "service.cv2 must be a number at least 0 and at most 1e+06, not -1"),
        ({"dist": "uniform", "low": "2s", "high": "1s"}, "service.high must be at least 2000000001 ns and at most a year, not '1s'"),
        ({"dist": "bimodal", "short": "1ms", "long": "2ms", "share": 2}, "service.share must be a number at least 0 and at most 1, not 2"),
        ({"dist": "pareto", "low": "1ms", "high": "2ms", "alpha": 0}, "service.alpha must be a number above 0, not 0"),
        ({"dist": "empirical", "values": []}, "service (empirical) must list at least one duration, not []"),
        ({"dist": "empirical", "values": ["x"]}, "service.values[0] must be a duration like '10ms', '1.5s' or a number of seconds, not 'x'"),
        ({"dist": "empirical", "file": 3}, "service.file must be a file's name, not 3"),
    ],
)  # fmt: skip
def test_what_is_no_law_is_refused(value: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        law_of(value)

    assert str(caught.value) == text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"service\.file: .*no-such.* cannot be read"):
        parse_law("service", {"dist": "empirical", "file": "no-such.txt"}, tmp_path)


@pytest.mark.parametrize(
    ("value", "ns"),
    [("250ns", 250), ("1.5s", 1_500 * MS), ("2m", 120_000 * MS), (0.01, 10 * MS), (".5us", 500), (0, 0)],
)
def test_durations_have_units(value: object, ns: int) -> None:
    assert parse_duration("wire", value) == ns
    assert Deterministic(ns).mean == ns
