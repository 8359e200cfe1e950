"""gRPC service configs: JSON in, checked values out.

The one rule: nothing is silently ignored. What is named and not known is an error.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from healthlb.config import Backoff, Failover, RetryThrottle, check_count, check_number, code_name, parse_duration
from healthlb.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """What `methodConfig` says of some methods.

    Attributes:
        names: `(service, method)` pairs; an empty method is all of a service, two empty ones are all.
        timeout: seconds at most, None for no limit.
        wait_for_ready: the default of calls, None where it is not said.
        retry: the `retryPolicy` or `hedgingPolicy` (gRFC A6), None for none.
    """

    names: tuple[tuple[str, str], ...]
    timeout: float | None = None
    wait_for_ready: bool | None = None
    retry: Failover | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What a gRPC service config says that healthlb knows.

    Attributes:
        policies: the entries of `loadBalancingConfig`, in order.
        service: `healthCheckConfig.serviceName`, None where it is not set.
        methods: the entries of `methodConfig`, in order.
        throttle: `retryThrottling`, None where it is not set.
    """

    policies: tuple[Mapping[str, Any], ...] = ()
    service: str | None = None
    methods: tuple[MethodConfig, ...] = ()
    throttle: RetryThrottle | None = None

    def method(self, full_name: str) -> MethodConfig | None:
        """Return what is said of `/package.Service/Method`, None for nothing: the closest name wins (gRFC A2)."""
        service, _, method = full_name.strip("/").rpartition("/")
        for wanted in ((service, method), (service, ""), ("", "")):
            for entry in self.methods:
                if wanted in entry.names:
                    return entry
        return None


def parse_service_config(text: str | Mapping[str, Any]) -> ServiceConfig:
    """Read a gRPC service config.

    Args:
        text: JSON text, or the mapping it stands for, with `loadBalancingConfig`, `healthCheckConfig`,
            `methodConfig` and `retryThrottling`.

    Raises:
        ConfigError: malformed, or it names what is not known.
    """
    try:
        config = json.loads(text) if isinstance(text, str) else text
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"service_config must be JSON: {error}") from error
    known = {"loadBalancingConfig", "healthCheckConfig", "methodConfig", "retryThrottling"}
    _check_object("service_config", config, known)
    return ServiceConfig(
        policies=_parse_policies(config.get("loadBalancingConfig", [])),
        service=_parse_health(config.get("healthCheckConfig", {})),
        methods=_parse_methods(config.get("methodConfig", [])),
        throttle=_parse_throttle(config.get("retryThrottling")),
    )


def _check_object(name: str, value: object, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be an object, not {value!r}")
    unknown = sorted(map(str, set(value) - known))
    if unknown:
        raise ConfigError(f"{name} may hold {', '.join(sorted(known))}, not {', '.join(unknown)}")
    return value


def _check_list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, not {value!r}")
    return list(value)


def _parse_policies(value: object) -> tuple[Mapping[str, Any], ...]:
    entries = _check_list("loadBalancingConfig", value)
    for entry in entries:
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ConfigError(f"loadBalancingConfig must hold objects with one policy each, not {entry!r}")
    return tuple(entries)


def _parse_health(value: object) -> str | None:
    service = _check_object("healthCheckConfig", value, {"serviceName"}).get("serviceName")
    if service is not None and not isinstance(service, str):
        raise ConfigError(f"healthCheckConfig.serviceName must be a string, not {service!r}")
    return service


def _parse_throttle(value: object) -> RetryThrottle | None:
    if value is None:
        return None
    throttle = _check_object("retryThrottling", value, {"maxTokens", "tokenRatio"})
    tokens, ratio = (_need("retryThrottling", throttle, key) for key in ("maxTokens", "tokenRatio"))
    check_count("retryThrottling.maxTokens", tokens, low=1, high=1000)
    check_number("retryThrottling.tokenRatio", ratio, low=0.001)
    return RetryThrottle(max_tokens=tokens, token_ratio=ratio)


def _need(name: str, value: Mapping[str, Any], key: str) -> Any:
    if key not in value:
        raise ConfigError(f"{name} must hold {key}")
    return value[key]


def _parse_methods(value: object) -> tuple[MethodConfig, ...]:
    methods = tuple(_parse_method(entry) for entry in _check_list("methodConfig", value))
    counts = Counter(name for method in methods for name in method.names)
    for (service, method), count in counts.items():
        # As in grpc-go and grpc-java: one of them would be ignored.
        if count > 1:
            raise ConfigError(f"methodConfig must name each method once, not {service!r}, {method!r} {count} times")
    return methods


def _parse_method(value: object) -> MethodConfig:
    known = {"name", "timeout", "waitForReady", "retryPolicy", "hedgingPolicy"}
    entry = _check_object("methodConfig", value, known)
    if "retryPolicy" in entry and "hedgingPolicy" in entry:
        raise ConfigError("methodConfig must hold retryPolicy or hedgingPolicy, not both (gRFC A6)")
    wait_for_ready = entry.get("waitForReady")
    if wait_for_ready is not None and not isinstance(wait_for_ready, bool):
        raise ConfigError(f"methodConfig.waitForReady must be true or false, not {wait_for_ready!r}")
    retry = _parse_retry(entry["retryPolicy"]) if "retryPolicy" in entry else None
    if "hedgingPolicy" in entry:
        retry = _parse_hedging(entry["hedgingPolicy"])
    timeout = parse_duration("methodConfig.timeout", entry["timeout"]) if "timeout" in entry else None
    names = tuple(_parse_name(name) for name in _check_list("methodConfig.name", _need("methodConfig", entry, "name")))
    return MethodConfig(names=names, timeout=timeout, wait_for_ready=wait_for_ready, retry=retry)


def _parse_name(value: object) -> tuple[str, str]:
    name = _check_object("methodConfig.name", value, {"service", "method"})
    service, method = ("" if name.get(key) is None else name[key] for key in ("service", "method"))
    if not isinstance(service, str) or not isinstance(method, str) or (method and not service):
        raise ConfigError(f"methodConfig.name must hold a service, or a service and a method, not {value!r}")
    return service, method


def _parse_retry(value: object) -> Failover:
    known = {"maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier", "retryableStatusCodes"}
    policy = _check_object("retryPolicy", value, known)
    initial = parse_duration("retryPolicy.initialBackoff", _need("retryPolicy", policy, "initialBackoff"))
    maximum = parse_duration("retryPolicy.maxBackoff", _need("retryPolicy", policy, "maxBackoff"))
    multiplier = _need("retryPolicy", policy, "backoffMultiplier")
    check_number("retryPolicy.initialBackoff", initial, above=0)
    check_number("retryPolicy.maxBackoff", maximum, above=0)
    check_number("retryPolicy.backoffMultiplier", multiplier, above=0)
    codes = _check_list("retryPolicy.retryableStatusCodes", _need("retryPolicy", policy, "retryableStatusCodes"))
    if not codes:
        raise ConfigError("retryPolicy.retryableStatusCodes must not be empty")
    return Failover(
        max_attempts=_max_attempts("retryPolicy", policy),
        codes=[code_name("retryPolicy.retryableStatusCodes", code) for code in codes],
        idempotent=True,
        backoff=Backoff(initial=min(initial, maximum), multiplier=max(1.0, multiplier), maximum=maximum),
    )


def _parse_hedging(value: object) -> Failover:
    policy = _check_object("hedgingPolicy", value, {"maxAttempts", "hedgingDelay", "nonFatalStatusCodes"})
    codes = _check_list("hedgingPolicy.nonFatalStatusCodes", policy.get("nonFatalStatusCodes", []))
    return Failover(
        max_attempts=_max_attempts("hedgingPolicy", policy),
        codes=[code_name("hedgingPolicy.nonFatalStatusCodes", code) for code in codes],
        idempotent=True,
        hedging_delay=parse_duration("hedgingPolicy.hedgingDelay", policy.get("hedgingDelay", "0s")),
    )


def _max_attempts(name: str, policy: Mapping[str, Any]) -> int:
    value = _need(name, policy, "maxAttempts")
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise ConfigError(f"{name}.maxAttempts must be a whole number of at least 2, not {value!r}")
    # A6: more than 5 counts as 5.
    return min(value, 5)
