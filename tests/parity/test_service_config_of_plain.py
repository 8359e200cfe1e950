"""Service configs beside a plain channel in the same run: what it calls with, ours calls with; what it refuses, ours too."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest

from healthlb import ConfigError, HealthAwareChannel
from tests.parity.face import METHODS, Face
from tests.parity.fleet import Fleet


def methods(**entry: Any) -> dict[str, Any]:
    return {"methodConfig": [{"name": [{}], **entry}]}


RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


def retrying(**fields: Any) -> dict[str, Any]:
    return methods(retryPolicy={**RETRY, **fields})


def throttling(tokens: Any, ratio: Any) -> dict[str, Any]:
    return {"retryThrottling": {"maxTokens": tokens, "tokenRatio": ratio}}


def scaling(most: Any) -> dict[str, Any]:
    return {"connectionScaling": {"maxConnectionsPerSubchannel": most}}


def policy(name: str, **arguments: Any) -> dict[str, Any]:
    return {"loadBalancingConfig": [{name: arguments}]}


def plain_call(address: str, config: str) -> None:
    """Make a call of a plain channel."""
    with grpc.insecure_channel(address, options=[("grpc.service_config", config)]) as channel:
        channel.unary_unary(METHODS["unary_unary"])(b"", timeout=20)


def plain_takes(address: str, config: str) -> bool:
    """Whether a plain channel with it makes a call."""
    try:
        plain_call(address, config)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error.details()
        return False
    return True


def ours_takes(address: str, config: str) -> bool:
    """Whether one of ours with it makes a call."""
    try:
        channel = HealthAwareChannel([address], "svc", service_config=config)
    except ConfigError:
        return False
    with channel:
        channel.unary_unary(METHODS["unary_unary"])(b"", timeout=20)
    return True


ALIKE: list[Any] = [
    # Null is absent.
    *(methods(**{key: None}) for key in ("timeout", "waitForReady", "retryPolicy", "hedgingPolicy")),
    *(methods(**{key: None}) for key in ("maxRequestMessageBytes", "maxResponseMessageBytes")),
    *({key: None} for key in ("healthCheckConfig", "retryThrottling", "connectionScaling", "loadBalancingPolicy")),
    *({key: None} for key in ("methodConfig", "loadBalancingConfig")),
    *(retrying(**{key: None}) for key in (*RETRY, "perAttemptRecvTimeout")),
    {"healthCheckConfig": {"serviceName": None}},
    {"methodConfig": [None]},
    {"methodConfig": [{"name": [None]}]},
    {"methodConfig": [{"name": [{"service": None, "method": None}]}]},
    throttling(None, 1),
    throttling(10, None),
    scaling(None),
    policy("pick_first", shuffleAddressList=None),
    policy("weighted_round_robin", blackoutPeriod=None, errorUtilizationPenalty=None),
    {"loadBalancingConfig": [{"round_robin": None}]},
    # Numbers as strings.
    *(throttling(tokens, "0.1") for tokens in ("10", " 10", "+10", "10.0", "1e1", "-1", "0", "x", "")),
    *(throttling("10", ratio) for ratio in ("1", " 1", "+1", "-1", "0", "0.0001", "1_0", "0x1", 2**32)),
    *(retrying(maxAttempts=attempts) for attempts in ("4", "1", "4.0", 2**31, True)),
    *(retrying(backoffMultiplier=multiplier) for multiplier in ("2", "1.5", "2e0", "0", "-1", "x", False)),
    *(scaling(most) for most in ("1", "0", 0, 1, -1, 1.5, 2**32, [])),
    *(methods(maxRequestMessageBytes=most) for most in ("1000", " 1000", "-1", "x")),
    *(policy("weighted_round_robin", errorUtilizationPenalty=penalty) for penalty in ("1.5", "-1", "x")),
    # Names.
    {"methodConfig": [{}, {}]},
    {"methodConfig": [{"timeout": "10s"}]},
    {"methodConfig": [{"timeout": "x"}]},
    {"methodConfig": [{"name": None}, {"name": []}]},
    {"methodConfig": [{"name": [{}, {}]}]},
    {"methodConfig": [{"name": [{"method": "Get"}]}]},
    # Durations.
    *(methods(timeout=time) for time in ("-0s", " 10s", "+10s", "-1s", ".5s", "10.s", "10", "1e1s", 10)),
    # Policies and statuses.
    {"loadBalancingConfig": []},
    {"loadBalancingConfig": [], "loadBalancingPolicy": "round_robin"},
    {"loadBalancingConfig": [{}]},
    policy("outlier_detection_experimental", childPolicy=[]),
    policy("outlier_detection_experimental", childPolicy=7),
    policy("grpclb"),
    *(policy("grpclb", childPolicy=children) for children in ([{"pick_first": {}}], [{"no_such": {}}], [], 7)),
    {"loadBalancingPolicy": "grpclb"},
    {"loadBalancingConfig": [{"grpclb": {"childPolicy": [{"pick_first": {}}]}}, {"round_robin": {}}]},
    *(retrying(retryableStatusCodes=codes) for codes in (["OK"], [], ["GONE"], ["UNAVAILABLE", "UNAVAILABLE"])),
    # JSON.
    *('{"a": 1, "a": 2}', '{"methodConfig": [{"name": [{}], "timeout": "10s", "timeout": "20s"}]}'),
    *('{"a": NaN}', '{"a": Infinity}', '{"a": "\\ud800"}', '{"a": 01}', "{/**/}", "", "[]", "null", '{"a": 1} '),
]

# Each stands in docs/compatibility.md.
TAKEN_HERE_ALONE: list[Any] = [
    retrying(retryableStatusCodes=[14]),
    retrying(retryableStatusCodes=["unavailable"]),
    *(retrying(**{key: "0.000000001s"}) for key in ("initialBackoff", "maxBackoff")),
    {"loadBalancingConfig": [{"rls_experimental": {}}, {"round_robin": {}}]},
    throttling(10, "1e0"),
    policy("outlier_detection_experimental"),
    policy("weighted_round_robin", enableOobLoadReport="x"),
]
TAKEN_BY_PLAIN_ALONE: list[Any] = [
    methods(hedgingPolicy={}),
    methods(retryPolicy=RETRY, hedgingPolicy={"maxAttempts": 2}),
    retrying(perAttemptRecvTimeout="0s"),
    throttling(1001, 1),
]


def text_of(config: Any) -> str:
    return config if isinstance(config, str) else json.dumps(config)


@pytest.mark.needs("grpcio", "1.84", reason="older ones have no connectionScaling, and others of these rules")
@pytest.mark.parametrize("config", [text_of(config) for config in ALIKE])
def test_what_plain_takes_is_taken_and_what_it_refuses_is_refused(fleet: Fleet, config: str) -> None:
    (backend,) = fleet.lend()

    assert ours_takes(backend.address, config) == plain_takes(backend.address, config)


@pytest.mark.needs("grpcio", "1.84", reason="older ones have other rules")
@pytest.mark.parametrize(
    ("config", "ours"),
    [
        *((text_of(config), True) for config in TAKEN_HERE_ALONE),
        *((text_of(config), False) for config in TAKEN_BY_PLAIN_ALONE),
    ],
)
def test_the_documented_differences_are_differences(fleet: Fleet, config: str, ours: bool) -> None:
    (backend,) = fleet.lend()

    assert (ours_takes(backend.address, config), plain_takes(backend.address, config)) == (ours, not ours)


def test_an_entry_without_a_name_limits_no_call(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.behave(sleep=0.3)
    config = json.dumps({"methodConfig": [{"timeout": "0.1s"}]})
    client = face.ready([backend.address], service_config=config)

    plain_call(backend.address, config)
    assert client.call() == "b0"


@pytest.mark.parametrize("timeout", ["0s", "0.0s", "0.000s"])
def test_a_timeout_of_zero_limits_no_call(face: Face, fleet: Fleet, timeout: str) -> None:
    (backend,) = fleet.lend()
    backend.behave(sleep=0.3)
    config = json.dumps(methods(timeout=timeout))
    client = face.ready([backend.address], service_config=config)

    plain_call(backend.address, config)
    assert client.call() == "b0"
