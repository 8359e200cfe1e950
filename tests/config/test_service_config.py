from __future__ import annotations

import json
from typing import Any

import pytest

from healthlb.config import Backoff, Failover, RetryThrottle
from healthlb.config.service_config import MethodConfig, ServiceConfig, parse_service_config
from healthlb.errors import ConfigError

RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", 8],
}
WHOLE = {
    "loadBalancingConfig": [{"grpclb": {}}, {"round_robin": {}}],
    "healthCheckConfig": {"serviceName": "shop"},
    "methodConfig": [
        {"name": [{"service": "shop.Cart", "method": "Get"}], "timeout": "1.5s", "retryPolicy": RETRY},
        {
            "name": [{"service": "shop.Cart"}, {"service": "shop.Stock"}],
            "waitForReady": True,
            "hedgingPolicy": {"maxAttempts": 9, "hedgingDelay": "0.05s", "nonFatalStatusCodes": ["unavailable"]},
        },
        {"name": [{}], "timeout": "30s"},
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


def method(**entry: Any) -> dict[str, Any]:
    return {"methodConfig": [{"name": [{}], **entry}]}


def test_a_whole_config() -> None:
    cart, some, all_methods = (
        MethodConfig(
            names=(("shop.Cart", "Get"),),
            timeout=1.5,
            retry=Failover(
                max_attempts=4,
                codes=("UNAVAILABLE", "RESOURCE_EXHAUSTED"),
                idempotent=True,
                backoff=Backoff(initial=0.1, multiplier=2, maximum=1.0),
            ),
        ),
        MethodConfig(
            names=(("shop.Cart", ""), ("shop.Stock", "")),
            wait_for_ready=True,
            # A6: more than 5 attempts count as 5.
            retry=Failover(max_attempts=5, codes=("UNAVAILABLE",), idempotent=True, hedging_delay=0.05),
        ),
        MethodConfig(names=(("", ""),), timeout=30.0),
    )
    expected = ServiceConfig(
        policies=({"grpclb": {}}, {"round_robin": {}}),
        service="shop",
        methods=(cart, some, all_methods),
        throttle=RetryThrottle(max_tokens=10, token_ratio=0.1),
    )

    assert parse_service_config(WHOLE) == expected
    assert parse_service_config(json.dumps(WHOLE)) == expected
    assert parse_service_config(json.dumps(WHOLE).encode()) == expected


def test_the_closest_name_wins() -> None:
    config = parse_service_config(WHOLE)
    # As in C-core, what does not begin with a slash is of no service.
    names = ["/shop.Cart/Get", "/shop.Cart/Put", "/shop.Stock/Count", "/other/Get", "odd", "shop.Cart/Get", ""]

    found = [config.method(name) for name in names]
    assert found == [config.methods[index] for index in (0, 1, 1, 2, 2, 2, 2)]
    assert parse_service_config({}).method("/shop.Cart/Get") is None


@pytest.mark.parametrize("text", [{}, "{}", {"healthCheckConfig": {}}])
def test_an_empty_config_says_nothing(text: Any) -> None:
    assert parse_service_config(text) == ServiceConfig()


def test_unset_is_off_and_empty_is_the_whole_server() -> None:
    """H31: `{}` is unset, as in A17 and C-core; grpc-go takes it for ""."""
    configs = [{}, {"serviceName": ""}, {"serviceName": None}]

    assert [parse_service_config({"healthCheckConfig": config}).service for config in configs] == [None, "", None]


@pytest.mark.parametrize("zero", ["0s", "0.0s"])
def test_a_timeout_of_zero_is_none(zero: str) -> None:
    assert parse_service_config(method(timeout=zero)).methods[0].timeout is None


def test_a_shorter_maximum_than_initial_backoff_is_as_in_grpc() -> None:
    config = parse_service_config(method(retryPolicy={**RETRY, "initialBackoff": "5s", "backoffMultiplier": 0.5}))
    retry = config.methods[0].retry

    assert retry is not None
    assert retry.backoff == Backoff(initial=1.0, multiplier=1.0, maximum=1.0)


def test_hedging_without_a_delay_is_at_once() -> None:
    retry = parse_service_config(method(hedgingPolicy={"maxAttempts": 2})).methods[0].retry

    assert retry == Failover(max_attempts=2, codes=(), idempotent=True, hedging_delay=0.0)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("{", "service_config must be JSON"),
        (b"{", "service_config must be JSON"),
        (b"\xff", "service_config must be JSON: .*codec can't decode"),
        ({"retryThrottling": 10**5000}, "service_config must hold no number that cannot be written"),
        (
            {"retryThrottling": {"maxTokens": 10**5000, "tokenRatio": 1}},
            "maxTokens must be .*, not a number of 16610 bits",
        ),
        ({"methodConfig": [{"name": [{"service": "", "method": "Get"}]}]}, "methodConfig.name must hold a service"),
        ("[]", r"service_config must be an object, not \[\]"),
        (7, "service_config must be an object, not 7"),
        ({"loadBalancingConfig": {}}, r"loadBalancingConfig must be a list, not \{\}"),
        ({"loadBalancingConfig": ["x"]}, "loadBalancingConfig must hold objects with one policy each, not 'x'"),
        ({"loadBalancingConfig": [{}]}, r"loadBalancingConfig must hold objects with one policy each, not \{\}"),
        ({"loadBalancingConfig": [{"a": {}, "b": {}}]}, "loadBalancingConfig must hold objects with one policy each"),
        ({"healthCheckConfig": "svc"}, "healthCheckConfig must be an object, not 'svc'"),
        ({"healthCheckConfig": {"serviceName": 7}}, "healthCheckConfig.serviceName must be a string, not 7"),
        ({"retryThrottling": {"maxTokens": 10}}, "retryThrottling must hold tokenRatio"),
        ({"retryThrottling": {"tokenRatio": 1}}, "retryThrottling must hold maxTokens"),
        ({"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}, "retryThrottling.maxTokens must be .*, not 0"),
        ({"retryThrottling": 1}, "retryThrottling must be an object, not 1"),
        ({"methodConfig": {}}, r"methodConfig must be a list, not \{\}"),
        ({"loadBalancingConfig": []}, r"loadBalancingConfig must hold a policy, not \[\]"),
        ({"loadBalancingConfig": None}, "loadBalancingConfig must be a list, not None"),
        ({"methodConfig": None}, "methodConfig must be a list, not None"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "service_config must be JSON: duplicate key 'b'"),
        ('{"a": NaN}', "service_config must be JSON: NaN is no number of JSON"),
        ('{"a": "\\ud800"}', "service_config must be JSON: .*surrogates not allowed"),
        ({"methodConfig": [{"name": {}}]}, "methodConfig.name must be a list"),
        ({"methodConfig": [{"name": [7]}]}, "methodConfig.name must be an object, not 7"),
        ({"methodConfig": [{"name": [{"method": "Get"}]}]}, "methodConfig.name must hold a service"),
        ({"methodConfig": [{"name": [{"service": 7}]}]}, "methodConfig.name must hold a service"),
        ({"loadBalancingPolicy": 7}, "loadBalancingPolicy must be a string, not 7"),
        (method(maxRequestMessageBytes=-1), "methodConfig.maxRequestMessageBytes must be .* at least 0 .*, not -1"),
        (
            method(maxResponseMessageBytes="1 MB"),
            "methodConfig.maxResponseMessageBytes must be a whole number, not '1 MB'",
        ),
        ({"connectionScaling": 2}, "connectionScaling must be an object, not 2"),
        ({"connectionScaling": {"maxConnectionsPerSubchannel": -1}}, "maxConnectionsPerSubchannel must be .*, not -1"),
        (method(retryPolicy={**RETRY, "perAttemptRecvTimeout": "0s"}), "perAttemptRecvTimeout must be .* above 0"),
        (method(timeout="1"), "methodConfig.timeout must be a duration like '1.5s', not '1'"),
        (method(timeout=1), "methodConfig.timeout must be a duration like '1.5s', not 1"),
        (method(timeout="-1s"), "methodConfig.timeout must be a duration like '1.5s', not '-1s'"),
        (method(waitForReady="yes"), "methodConfig.waitForReady must be true or false, not 'yes'"),
        (method(retryPolicy=RETRY, hedgingPolicy={"maxAttempts": 2}), "retryPolicy or hedgingPolicy, not both"),
        (method(retryPolicy={**RETRY, "maxAttempts": 1}), "retryPolicy.maxAttempts must be .* at least 2, not 1"),
        (method(retryPolicy={**RETRY, "maxAttempts": "4.0"}), "maxAttempts must be .* at least 2, not '4.0'"),
        (method(retryPolicy={**RETRY, "maxAttempts": True}), "retryPolicy.maxAttempts must be .*, not True"),
        (method(retryPolicy={**RETRY, "retryableStatusCodes": []}), "retryableStatusCodes must not be empty"),
        (method(retryPolicy={**RETRY, "retryableStatusCodes": "x"}), "retryableStatusCodes must be a list, not 'x'"),
        (method(retryPolicy={**RETRY, "retryableStatusCodes": ["GONE"]}), "status codes other than OK, not 'GONE'"),
        (method(retryPolicy={**RETRY, "initialBackoff": "0s"}), "must be a number above 0, not 0"),
        (method(retryPolicy={"maxAttempts": 2}), "retryPolicy must hold initialBackoff"),
        (method(retryPolicy=[]), r"retryPolicy must be an object, not \[\]"),
        (method(hedgingPolicy={}), "hedgingPolicy must hold maxAttempts"),
        (method(hedgingPolicy={"maxAttempts": 2, "hedgingDelay": "x"}), "hedgingDelay must be a duration"),
    ],
)
def test_what_is_malformed_is_named(config: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_service_config(config)


@pytest.mark.parametrize("multiplier", ["x", "", True, [], float("nan"), -1, 0])
def test_a_backoff_multiplier_must_be_a_positive_number(multiplier: Any) -> None:
    """R5."""
    with pytest.raises(ConfigError, match="ultiplier must be a number"):
        parse_service_config(method(retryPolicy={**RETRY, "backoffMultiplier": multiplier}))


def test_numbers_may_be_strings() -> None:
    config = parse_service_config(
        {
            **method(
                retryPolicy={**RETRY, "maxAttempts": " 3", "backoffMultiplier": "15e-1"}, maxRequestMessageBytes="+7"
            ),
            "retryThrottling": {"maxTokens": "10", "tokenRatio": "0.1"},
            "connectionScaling": {"maxConnectionsPerSubchannel": "0"},
        }
    )
    retry = config.methods[0].retry

    assert retry is not None
    assert (retry.max_attempts, retry.backoff) == (3, Backoff(initial=0.1, multiplier=1.5, maximum=1.0))
    assert config.throttle == RetryThrottle(max_tokens=10, token_ratio=0.1)
    assert config.passed_down["connectionScaling"] == {"maxConnectionsPerSubchannel": 0}
    assert config.passed_down["methodConfig"][0]["maxRequestMessageBytes"] == 7


def test_what_is_null_is_absent() -> None:
    names = ("timeout", "waitForReady", "retryPolicy", "hedgingPolicy", "maxRequestMessageBytes")
    fields = ("healthCheckConfig", "retryThrottling", "connectionScaling", "loadBalancingPolicy")
    config = parse_service_config({**method(**dict.fromkeys(names)), **dict.fromkeys(fields)})

    assert config == ServiceConfig(methods=(MethodConfig(names=(("", ""),)),))
    assert parse_service_config({"connectionScaling": {"maxConnectionsPerSubchannel": None}}) == ServiceConfig()


@pytest.mark.parametrize("entry", [{}, {"name": None}, {"name": []}])
def test_an_entry_without_a_name_is_of_no_method(entry: dict[str, Any]) -> None:
    config = parse_service_config({"methodConfig": [{**entry, "timeout": "1s"}] * 2})

    assert config.method("/shop.Cart/Get") is None


def test_ok_is_no_status_to_retry() -> None:
    retry = parse_service_config(method(retryPolicy={**RETRY, "retryableStatusCodes": ["OK"]})).methods[0].retry

    assert retry is not None
    assert retry.codes == frozenset()


def test_unknown_fields_are_left_out_and_named() -> None:
    config = parse_service_config(
        {
            "a": 1,
            "healthCheckConfig": {"service": "x"},
            "methodConfig": [{"name": [{"b": 2}], "c": 3, "retryPolicy": {**RETRY, "jitter": 1}}],
            "retryThrottling": {"maxTokens": 10, "tokenRatio": 1, "d": 4},
        }
    )

    assert config.ignored == (
        *("a", "methodConfig.c", "retryPolicy.jitter", "methodConfig.name.b", "healthCheckConfig.service"),
        "retryThrottling.d",
    )
    assert config.service is None
    assert config.methods[0].retry is not None


def test_the_older_name_of_a_policy_counts_where_the_newer_is_not_given() -> None:
    older = {"loadBalancingPolicy": "ROUND_ROBIN"}

    assert parse_service_config(older).policies == ({"round_robin": {}},)
    assert parse_service_config({"loadBalancingPolicy": ""}) == ServiceConfig()
    assert parse_service_config({**older, "loadBalancingConfig": [{"random": {}}]}).policies == ({"random": {}},)


def test_an_attempt_may_have_a_time_of_its_own_and_needs_no_codes_then() -> None:
    policy = {**RETRY, "perAttemptRecvTimeout": "0.25s"}
    del policy["retryableStatusCodes"]
    retry = parse_service_config(method(retryPolicy=policy)).methods[0].retry

    assert retry is not None
    assert (retry.attempt_timeout, retry.codes) == (0.25, frozenset())


def test_what_c_core_keeps_is_passed_down() -> None:
    scaling = {"connectionScaling": {"maxConnectionsPerSubchannel": 4, "a": 1}}
    limited = {
        "methodConfig": [
            {"name": [{"service": "s", "method": "m"}], "timeout": "1s"},
            {"name": [{"service": "s"}, {}], "maxRequestMessageBytes": 10, "maxResponseMessageBytes": "20"},
        ]
    }

    assert parse_service_config(WHOLE).passed_down == {}
    assert parse_service_config(scaling).passed_down == {"connectionScaling": {"maxConnectionsPerSubchannel": 4}}
    assert parse_service_config(limited).passed_down == {
        "methodConfig": [
            {"name": [{"service": "s", "method": "m"}]},
            {"name": [{"service": "s"}, {}], "maxRequestMessageBytes": 10, "maxResponseMessageBytes": 20},
            {"name": [{"service": "grpc.health.v1.Health"}]},
        ]
    }


def test_health_has_limits_only_where_it_is_named() -> None:
    entry = {"name": [{"service": "grpc.health.v1.Health"}], "maxResponseMessageBytes": 100}

    assert parse_service_config({"methodConfig": [entry]}).passed_down == {"methodConfig": [entry]}
