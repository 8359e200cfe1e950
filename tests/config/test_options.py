from __future__ import annotations

import dataclasses
import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.config import (
    Backoff,
    Failover,
    HealthCheck,
    Heartbeat,
    RetryBudget,
    RetryThrottle,
    check_count,
    check_number,
)
from healthlb.errors import ConfigError

NUMBERS = [
    (Backoff, "initial", "above 0", [0, -1]),
    (Backoff, "multiplier", "at least 1", [0.99]),
    (Backoff, "jitter", "at least 0 and at most 1", [-0.1, 1.1]),
    (Backoff, "maximum", "at least 1", [0.5]),
    (Heartbeat, "interval", "above 0", [0, -1]),
    (Heartbeat, "timeout", "above 0", [0, -1]),
    (HealthCheck, "first_response_timeout", "above 0", [0, -1]),
    (HealthCheck, "min_restart_interval", "above 0", [0, -1]),
    (RetryBudget, "ratio", "at least 0 and at most 1000", [-0.1, 1001]),
    (RetryBudget, "min_per_second", "at least 0", [-1]),
    (RetryBudget, "ttl", "above 0", [0]),
    (Failover, "attempt_timeout", "above 0", [0, -1]),
    (Failover, "hedging_delay", "at least 0", [-0.1]),
]
NEVER = [float("nan"), float("inf"), float("-inf"), 10**400, True, "1", [1], 1j]

Grpc = enum.Enum("Grpc", {"UNAVAILABLE": (14, "unavailable"), "OK": (0, "ok")})


@pytest.mark.parametrize(
    ("kind", "option", "bound", "value"),
    [(kind, option, bound, value) for kind, option, bound, values in NUMBERS for value in [*values, *NEVER]],
)
def test_a_number_out_of_bounds_names_option_value_and_bound(kind: Any, option: str, bound: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**{option: value})

    text = str(caught.value)
    assert text.startswith(f"{kind.__name__}.{option} must be a number {bound}")
    assert text.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        (Backoff, {"initial": 3.0, "maximum": 2.0}, "Backoff.maximum must be a number at least 3, not 2.0"),
        (Backoff, {"initial": 1e16}, "Backoff.initial must be a number above 0 and at most 1e+15, not 1e+16"),
        (HealthCheck, {"backoff": 1.0}, "HealthCheck.backoff must be a Backoff, not 1.0"),
        (HealthCheck, {"reconnect": None}, "HealthCheck.reconnect must be a Backoff, not None"),
        (HealthCheck, {"heartbeat": 10.0}, "HealthCheck.heartbeat must be a Heartbeat or None, not 10.0"),
        (
            HealthCheck,
            {"on_unimplemented": "ready"},
            "HealthCheck.on_unimplemented must be 'check', 'healthy' or 'unhealthy', not 'ready'",
        ),
        (
            RetryThrottle,
            {"max_tokens": 0, "token_ratio": 0.1},
            "RetryThrottle.max_tokens must be a number above 0 and at most 1000, not 0",
        ),
        (
            RetryThrottle,
            {"max_tokens": 1001, "token_ratio": 0.1},
            "RetryThrottle.max_tokens must be a number above 0 and at most 1000, not 1001",
        ),
        (
            RetryThrottle,
            {"max_tokens": 10, "token_ratio": 0},
            "RetryThrottle.token_ratio must be a number at least 0.001, not 0",
        ),
        (
            Failover,
            {"max_attempts": 0},
            "Failover.max_attempts must be a number at least 1 and at most 20, not 0",
        ),
        (
            Failover,
            {"max_attempts": 21},
            "Failover.max_attempts must be a number at least 1 and at most 20, not 21",
        ),
        (Failover, {"max_attempts": 2.5}, "Failover.max_attempts must be a whole number, not 2.5"),
        (Failover, {"max_attempts": True}, "Failover.max_attempts must be a whole number, not True"),
        (Failover, {"buffer_limit": -1}, "Failover.buffer_limit must be a number at least 0, not -1"),
        (
            Failover,
            {"codes": "UNAVAILABLE"},
            "Failover.codes must be a collection of status codes, not 'UNAVAILABLE': "
            "a single string is no collection, write ['UNAVAILABLE']",
        ),
        (Failover, {"codes": 14}, "Failover.codes must be a collection of status codes, not 14"),
        (Failover, {"codes": ["OK"]}, "Failover.codes must hold names of gRPC status codes other than OK, not 'OK'"),
        (Failover, {"codes": [0]}, "Failover.codes must hold names of gRPC status codes other than OK, not 0"),
        (Failover, {"codes": [17]}, "Failover.codes must hold names of gRPC status codes other than OK, not 17"),
        (Failover, {"codes": [True]}, "Failover.codes must hold names of gRPC status codes other than OK, not True"),
        (
            Failover,
            {"codes": ["UNAVAILIBLE"]},
            "Failover.codes must hold names of gRPC status codes other than OK, not 'UNAVAILIBLE'",
        ),
        (
            Failover,
            {"codes": [Grpc.OK]},
            f"Failover.codes must hold names of gRPC status codes other than OK, not {Grpc.OK!r}",
        ),
        (
            Failover,
            {"budget": 0.2},
            "Failover.budget must be a RetryBudget, a RetryThrottle or None, not 0.2",
        ),
        (Failover, {"backoff": 1.0}, "Failover.backoff must be a Backoff or None, not 1.0"),
        (
            Failover,
            {"idempotent": "/shop.Cart/Get"},
            "Failover.idempotent must be a bool, None or a collection of method names, not '/shop.Cart/Get': "
            "a single string is no collection, write ['/shop.Cart/Get']",
        ),
        (
            Failover,
            {"idempotent": [7]},
            "Failover.idempotent must be a bool, None or a collection of method names, not [7]",
        ),
        (
            Failover,
            {"idempotent": ["Cart.Get"]},
            "Failover.idempotent must hold full method names like '/package.Service/Method', not 'Cart.Get'",
        ),
    ],
)
def test_what_cannot_work_is_named(kind: Any, arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**arguments)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        7,
        "authorization",
        {"a": "b"},
        [("a",)],
        [("a", "b", "c")],
        [("a", 1)],
        [(1, "a")],
        [("A", "b")],
        [("", "b")],
        [("a b", "c")],
        [("a", "new\nline")],
        [("a", b"\xff")],
        [("a-bin", "b")],
    ],
)
def test_metadata_that_grpc_would_refuse_is_named(metadata: Any) -> None:
    with pytest.raises(ConfigError, match=r"HealthCheck\.metadata must be pairs of a .*name") as caught:
        HealthCheck(metadata=metadata)

    assert "t0ken" not in str(caught.value)


def test_metadata_is_kept_as_pairs() -> None:
    pairs = [("authorization", "Bearer x"), ("trace-bin", b"\x00\xff"), ["x.y_z-1", b"bytes"]]

    assert HealthCheck(metadata=pairs).metadata == tuple((key, value) for key, value in pairs)


def test_codes_are_names_numbers_or_grpcs_own() -> None:
    assert Failover(codes=["unavailable", 8, Grpc.UNAVAILABLE]).codes == {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}


def test_idempotent_takes_patterns() -> None:
    given = [Failover(idempotent=value).idempotent for value in (True, False, None, {"/a.B/Get*"}, ["*"])]

    assert given == [True, False, None, ("/a.B/Get*",), ("*",)]


def test_a_config_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"Backoff\.initial"):
        Backoff(initial=0)


def test_the_defaults_are_the_documented_ones() -> None:
    assert dataclasses.astuple(Backoff()) == (1.0, 1.6, 0.2, 120.0)
    assert dataclasses.astuple(Heartbeat()) == (10.0, 3.0, True)
    assert HealthCheck() == HealthCheck(
        backoff=Backoff(),
        reconnect=Backoff(initial=0.2, maximum=1.0),
        metadata=(),
        first_response_timeout=10.0,
        min_restart_interval=0.1,
        heartbeat=Heartbeat(interval=10.0, timeout=3.0),
        watch=True,
        on_unimplemented="check",
    )
    assert Failover() == Failover(
        max_attempts=3,
        codes=("UNAVAILABLE", "CANCELLED"),
        idempotent=None,
        strict=False,
        budget=RetryBudget(ratio=0.2, min_per_second=10.0, ttl=10.0),
        backoff=None,
        attempt_timeout=None,
        hedging_delay=None,
        buffer_limit=262144,
    )


def test_seconds_become_nanoseconds() -> None:
    health = HealthCheck(first_response_timeout=1.5, min_restart_interval=0.25)
    heartbeat, backoff = Heartbeat(interval=0.1, timeout=2), Backoff(initial=0.2, maximum=3)

    assert (health.first_response_timeout_ns, health.min_restart_interval_ns) == (1_500_000_000, 250_000_000)
    assert (heartbeat.interval_ns, heartbeat.timeout_ns) == (100_000_000, 2_000_000_000)
    assert (backoff.initial_ns, backoff.maximum_ns) == (200_000_000, 3_000_000_000)
    assert RetryBudget(ttl=0.5).ttl_ns == 500_000_000


@given(st.floats(), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_check_number_lets_through_what_is_in_bounds_and_nothing_else(value: float, one: float, two: float) -> None:
    low, high = sorted((one, two))
    try:
        check_number("x", value, low=low, high=high)
    except ConfigError:
        assert not low <= value <= high
    else:
        assert low <= value <= high


def test_check_count_wants_whole_numbers() -> None:
    check_count("x", 3, low=1)

    with pytest.raises(ConfigError, match=r"x must be a whole number, not 3\.0"):
        check_count("x", 3.0, low=1)
