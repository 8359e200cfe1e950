from __future__ import annotations

import json
from typing import Any

import pytest

from healthlb.config import Backoff, Failover, RetryThrottle
from healthlb.errors import ConfigError
from healthlb.service_config import MethodConfig, ServiceConfig, parse_service_config

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


def test_the_closest_name_wins() -> None:
    config = parse_service_config(WHOLE)
    names = ["/shop.Cart/Get", "/shop.Cart/Put", "/shop.Stock/Count", "/other/Get", "odd"]

    found = [config.method(name) for name in names]
    assert found == [config.methods[index] for index in (0, 1, 1, 2, 2)]
    assert parse_service_config({}).method("/shop.Cart/Get") is None


@pytest.mark.parametrize("text", [{}, "{}", {"healthCheckConfig": {}}])
def test_an_empty_config_says_nothing(text: Any) -> None:
    assert parse_service_config(text) == ServiceConfig()


def test_unset_is_off_and_empty_is_the_whole_server() -> None:
    """H31: `{}` is unset, as in A17 and C-core; grpc-go takes it for ""."""
    configs = [{}, {"serviceName": ""}, {"serviceName": None}]

    assert [parse_service_config({"healthCheckConfig": config}).service for config in configs] == [None, "", None]


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
        ("[]", r"service_config must be an object, not \[\]"),
        (7, "service_config must be an object, not 7"),
        ({"loadBalancingPolicy": "x"}, "service_config may hold healthCheckConfig, .*, not loadBalancingPolicy"),
        ({"loadBalancingConfig": {}}, r"loadBalancingConfig must be a list, not \{\}"),
        ({"loadBalancingConfig": ["x"]}, "loadBalancingConfig must hold objects with one policy each, not 'x'"),
        ({"loadBalancingConfig": [{}]}, r"loadBalancingConfig must hold objects with one policy each, not \{\}"),
        ({"loadBalancingConfig": [{"a": {}, "b": {}}]}, "loadBalancingConfig must hold objects with one policy each"),
        ({"healthCheckConfig": "svc"}, "healthCheckConfig must be an object, not 'svc'"),
        ({"healthCheckConfig": {"service": "x"}}, "healthCheckConfig may hold serviceName, not service"),
        ({"healthCheckConfig": {"serviceName": 7}}, "healthCheckConfig.serviceName must be a string, not 7"),
        ({"retryThrottling": {"maxTokens": 10}}, "retryThrottling must hold tokenRatio"),
        ({"retryThrottling": {"tokenRatio": 1}}, "retryThrottling must hold maxTokens"),
        ({"retryThrottling": {"maxTokens": 0, "tokenRatio": 1}}, "retryThrottling.maxTokens must be .*, not 0"),
        ({"retryThrottling": 1}, "retryThrottling must be an object, not 1"),
        ({"methodConfig": {}}, r"methodConfig must be a list, not \{\}"),
        ({"methodConfig": [{}]}, "methodConfig must hold name"),
        ({"methodConfig": [{"name": {}}]}, "methodConfig.name must be a list"),
        ({"methodConfig": [{"name": [7]}]}, "methodConfig.name must be an object, not 7"),
        ({"methodConfig": [{"name": [{"method": "Get"}]}]}, "methodConfig.name must hold a service"),
        ({"methodConfig": [{"name": [{"service": 7}]}]}, "methodConfig.name must hold a service"),
        (method(maxRequestMessageBytes=1), "methodConfig may hold .*, not maxRequestMessageBytes"),
        (method(timeout="1"), "methodConfig.timeout must be a duration like '1.5s', not '1'"),
        (method(timeout=1), "methodConfig.timeout must be a duration like '1.5s', not 1"),
        (method(timeout="-1s"), "methodConfig.timeout must be a duration like '1.5s', not '-1s'"),
        (method(waitForReady="yes"), "methodConfig.waitForReady must be true or false, not 'yes'"),
        (method(retryPolicy=RETRY, hedgingPolicy={"maxAttempts": 2}), "retryPolicy or hedgingPolicy, not both"),
        (method(retryPolicy={**RETRY, "maxAttempts": 1}), "retryPolicy.maxAttempts must be .* at least 2, not 1"),
        (method(retryPolicy={**RETRY, "maxAttempts": "4"}), "retryPolicy.maxAttempts must be .* at least 2, not '4'"),
        (method(retryPolicy={**RETRY, "maxAttempts": True}), "retryPolicy.maxAttempts must be .*, not True"),
        (method(retryPolicy={**RETRY, "retryableStatusCodes": []}), "retryableStatusCodes must not be empty"),
        (method(retryPolicy={**RETRY, "retryableStatusCodes": "x"}), "retryableStatusCodes must be a list, not 'x'"),
        (method(retryPolicy={**RETRY, "retryableStatusCodes": ["GONE"]}), "status codes other than OK, not 'GONE'"),
        (method(retryPolicy={**RETRY, "initialBackoff": "0s"}), "must be a number above 0, not 0"),
        (method(retryPolicy={**RETRY, "jitter": 1}), "retryPolicy may hold .*, not jitter"),
        (method(retryPolicy={"maxAttempts": 2}), "retryPolicy must hold initialBackoff"),
        (method(retryPolicy=[]), r"retryPolicy must be an object, not \[\]"),
        (method(hedgingPolicy={}), "hedgingPolicy must hold maxAttempts"),
        (method(hedgingPolicy={"maxAttempts": 2, "hedgingDelay": "x"}), "hedgingDelay must be a duration"),
        (method(hedgingPolicy={"maxAttempts": 2, "delay": "1s"}), "hedgingPolicy may hold .*, not delay"),
    ],
)
def test_what_is_malformed_or_unknown_is_named(config: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse_service_config(config)


@pytest.mark.parametrize("multiplier", ["2", None, [], float("nan"), -1, 0])
def test_a_backoff_multiplier_must_be_a_positive_number(multiplier: Any) -> None:
    """R5."""
    with pytest.raises(ConfigError, match="ultiplier must be a number"):
        parse_service_config(method(retryPolicy={**RETRY, "backoffMultiplier": multiplier}))
