from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from healthlb.config import FlapDamping, HealthCheck, SlowStart
from healthlb.errors import ConfigError

WRONG = [
    (FlapDamping, {"penalty": 0}, "FlapDamping.penalty must be a number above 0, not 0"),
    (FlapDamping, {"half_life": 0}, "FlapDamping.half_life must be a number above 0, not 0"),
    (FlapDamping, {"suppress": 1000}, "FlapDamping.suppress must be a number above 1000, not 1000"),
    (FlapDamping, {"reuse": 0}, "FlapDamping.reuse must be a number above 0, not 0"),
    (FlapDamping, {"reuse": 2000}, "FlapDamping.reuse must be below FlapDamping.suppress (2000), not 2000"),
    (
        FlapDamping,
        {"max_suppress": 1501},
        "FlapDamping.max_suppress must be a number above 0 and at most 1500, not 1501",
    ),
    (
        FlapDamping,
        {"max_suppress": 15, "suppress": 1500},
        "FlapDamping.max_suppress must be above 15, in which a penalty falls from suppress to reuse, not 15",
    ),
    (SlowStart, {"window": 0}, "SlowStart.window must be a number above 0, not 0"),
    (SlowStart, {"window": 10, "aggression": 0}, "SlowStart.aggression must be a number above 0, not 0"),
    (SlowStart, {"window": 10, "min_weight": 0}, "SlowStart.min_weight must be a number above 0 and at most 1, not 0"),
    (SlowStart, {"window": 10, "min_weight": 2}, "SlowStart.min_weight must be a number above 0 and at most 1, not 2"),
    (HealthCheck, {"rise": 0}, "HealthCheck.rise must be a number at least 1, not 0"),
    (HealthCheck, {"fall": 0}, "HealthCheck.fall must be a number at least 1, not 0"),
    (HealthCheck, {"rise": 1.5}, "HealthCheck.rise must be a whole number, not 1.5"),
    (HealthCheck, {"confirm_interval": 0}, "HealthCheck.confirm_interval must be a number above 0, not 0"),
    (HealthCheck, {"damping": 1000}, "HealthCheck.damping must be a FlapDamping or None, not 1000"),
]


@pytest.mark.parametrize(("kind", "arguments", "text"), WRONG)
def test_an_error_names_option_value_and_bound(kind: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**arguments)

    assert str(caught.value) == text


def test_the_defaults_are_the_documented_ones() -> None:
    assert dataclasses.astuple(FlapDamping()) == (1000.0, 15.0, 2000.0, 750.0, 60.0)
    assert dataclasses.astuple(SlowStart(window=10)) == (10, 1.0, 0.1)
    assert (HealthCheck().rise, HealthCheck().fall, HealthCheck().confirm_interval) == (1, 1, 1.0)
    assert HealthCheck().damping is None


def test_the_ceiling_falls_to_reuse_within_max_suppress() -> None:
    assert FlapDamping().ceiling == 750 * 2**4
    assert FlapDamping(half_life=10, max_suppress=20).ceiling == 3000


def test_seconds_become_nanoseconds() -> None:
    assert HealthCheck(confirm_interval=0.5).confirm_interval_ns == 500_000_000
    assert (FlapDamping(half_life=1.5).half_life_ns, SlowStart(window=0.5).window_ns) == (1_500_000_000, 500_000_000)
