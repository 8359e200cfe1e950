from __future__ import annotations

from typing import Any

import pytest

from healthlb import presets
from healthlb.config import Failover
from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
from healthlb.errors import ConfigError

WRONG = [
    (Outliers, {"consecutive_failures": 0}, "Outliers.consecutive_failures must be a number at least 1, not 0"),
    (Outliers, {"consecutive_failures": 2.5}, "Outliers.consecutive_failures must be a whole number, not 2.5"),
    (
        Outliers,
        {"consecutive_connection_failures": 0},
        "Outliers.consecutive_connection_failures must be a number at least 1, not 0",
    ),
    (Outliers, {"success_rate": 1}, "Outliers.success_rate must be a SuccessRate or None, not 1"),
    (Outliers, {"failure_percentage": 85}, "Outliers.failure_percentage must be a FailurePercentage or None, not 85"),
    (Outliers, {"latency_factor": 1}, "Outliers.latency_factor must be a number above 1, not 1"),
    (Outliers, {"latency_floor": 0}, "Outliers.latency_floor must be a number above 0, not 0"),
    (Outliers, {"interval": 0}, "Outliers.interval must be a number above 0, not 0"),
    (Outliers, {"base_ejection_time": 0}, "Outliers.base_ejection_time must be a number above 0, not 0"),
    (
        Outliers,
        {"base_ejection_time": 30, "max_ejection_time": 29},
        "Outliers.max_ejection_time must be a number at least 30, not 29",
    ),
    (
        Outliers,
        {"ejection_growth": 0.5},
        "Outliers.ejection_growth must be a number at least 1 and at most 10, not 0.5",
    ),
    (
        Outliers,
        {"max_ejection_percent": 101},
        "Outliers.max_ejection_percent must be a number at least 0 and at most 100, not 101",
    ),
    (Outliers, {"jitter": 1.5}, "Outliers.jitter must be a number at least 0 and at most 1, not 1.5"),
    (Outliers, {"codes": ["OK"]}, "Outliers.codes must hold names of gRPC status codes other than OK, not 'OK'"),
    (
        Outliers,
        {"codes": "UNKNOWN"},
        "Outliers.codes must be a collection of status codes, not 'UNKNOWN': "
        "a single string is no collection, write ['UNKNOWN']",
    ),
    (Outliers, {"codes": 2}, "Outliers.codes must be a collection of status codes, not 2"),
    (SuccessRate, {"stdev_factor": -1}, "SuccessRate.stdev_factor must be a number at least 0, not -1"),
    (SuccessRate, {"minimum_hosts": 0}, "SuccessRate.minimum_hosts must be a number at least 1, not 0"),
    (SuccessRate, {"request_volume": 0}, "SuccessRate.request_volume must be a number at least 1, not 0"),
    (
        FailurePercentage,
        {"enforcement": 101},
        "FailurePercentage.enforcement must be a number at least 0 and at most 100, not 101",
    ),
    (
        FailurePercentage,
        {"threshold": -1},
        "FailurePercentage.threshold must be a number at least 0 and at most 100, not -1",
    ),
]


@pytest.mark.parametrize(("kind", "arguments", "text"), WRONG)
def test_an_error_names_option_value_and_bound(kind: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**arguments)

    assert str(caught.value) == text


def test_codes_may_be_names_or_numbers() -> None:
    assert Outliers(codes=["unknown", 14]).codes == {"UNKNOWN", "UNAVAILABLE"}
    assert Outliers(codes=()).codes == frozenset()


def test_the_defaults_are_those_of_a50_but_for_the_first_ejection_and_its_growth() -> None:
    policy = Outliers()

    assert (policy.interval, policy.base_ejection_time, policy.max_ejection_time) == (10.0, 1.0, 300.0)
    assert policy.ejection_growth == 2.0
    assert policy.success_rate == SuccessRate(stdev_factor=1900, enforcement=100, minimum_hosts=5, request_volume=100)
    assert policy.failure_percentage == FailurePercentage(
        threshold=85, enforcement=100, minimum_hosts=5, request_volume=50
    )


def test_a_preset_is_what_a_user_could_write() -> None:
    made = presets.resilient(["/shop.Cart/Get*"], hedging_delay=None, attempt_timeout=None)

    assert set(made) == {"health", "failover", "outliers"}
    assert isinstance(made["failover"], Failover)
    assert made["failover"].idempotent == ("/shop.Cart/Get*",)
    assert (made["failover"].hedging_delay, made["failover"].attempt_timeout) == (None, None)
    with pytest.raises(ConfigError, match=r"Failover\.hedging_delay must be a number at least 0, not -1"):
        presets.resilient(hedging_delay=-1)
