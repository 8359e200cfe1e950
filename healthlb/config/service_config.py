"""gRPC service configs: JSON in, checked values out.

The one rule: nothing is silently ignored. A field that healthlb knows is honoured, or passed down to each backend's
channel, or wrong; what it does not know it leaves out, as gRPC does, and says so. A field that is null is absent, and a
number may be a string, as in C-core.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from healthlb.config.backoff import Backoff
from healthlb.config.bounds import check_count, check_number, code_name, parse_duration
from healthlb.config.failover import Failover, RetryThrottle
from healthlb.config.json_values import number, read_json, whole_number
from healthlb.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodConfig:
    """What `methodConfig` says of some methods.

    Attributes:
        names: `(service, method)` pairs; an empty method is all of a service, two empty ones are all.
        timeout: seconds at most, None for no limit, as a `timeout` of 0 s asks for too.
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
        passed_down: the service config of each backend's channel: `connectionScaling` (gRFC A105) and the limits of
            messages, which C-core keeps; empty for none.
        ignored: the fields that were left out, each with its place, such as `methodConfig.jitter`.
    """

    policies: tuple[Mapping[str, Any], ...] = ()
    service: str | None = None
    methods: tuple[MethodConfig, ...] = ()
    throttle: RetryThrottle | None = None
    passed_down: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def method(self, full_name: str) -> MethodConfig | None:
        """Return what is said of `/package.Service/Method`, None for nothing: the closest name wins (gRFC A2)."""
        # As in C-core: what does not begin with a slash is of no service.
        service, _, method = full_name[1:].rpartition("/") if full_name.startswith("/") else ("", "", "")
        for wanted in ((service, method), (service, ""), ("", "")):
            for entry in self.methods:
                if wanted in entry.names:
                    return entry
        return None


def parse_service_config(text: str | bytes | Mapping[str, Any]) -> ServiceConfig:
    """Read a gRPC service config.

    Args:
        text: JSON text, or its bytes in UTF-8, or the mapping it stands for, with `loadBalancingConfig` (or the older
            `loadBalancingPolicy`), `healthCheckConfig`, `methodConfig`, `retryThrottling` and `connectionScaling`.
            Other fields are left out.

    Raises:
        ConfigError: malformed, or a field that is known has a wrong value.
    """
    try:
        return _parsed(read_json(text) if isinstance(text, str | bytes) else text)
    except ConfigError:
        raise
    except ValueError as error:  # Of a whole number of thousands of digits Python writes no text.
        raise ConfigError(f"service_config must hold no number that cannot be written: {error}") from error


def _parsed(value: object) -> ServiceConfig:
    reader = _Reader()
    config = reader.fields("", value, _TOP)
    methods, limits = reader.methods(config.get("methodConfig", []))
    scaling = reader.connection_scaling(config.get("connectionScaling"))
    return ServiceConfig(
        policies=reader.policies(config),
        service=reader.health_service(config.get("healthCheckConfig", {})),
        methods=methods,
        throttle=reader.throttle(config.get("retryThrottling")),
        passed_down={
            **({"connectionScaling": scaling} if scaling else {}),
            # The limits are for the application's calls, not for health's.
            **({"methodConfig": [*limits, *_unlimited(methods)]} if limits else {}),
        },
        ignored=tuple(reader.ignored),
    )


_TOP = frozenset(
    {
        *("loadBalancingConfig", "loadBalancingPolicy", "healthCheckConfig", "methodConfig"),
        *("retryThrottling", "connectionScaling"),
    }
)
# A null is as good as no such field, but for these lists.
_LISTS = frozenset({"loadBalancingConfig", "methodConfig"})
_LIMITS = ("maxRequestMessageBytes", "maxResponseMessageBytes")
_METHOD = frozenset({"name", "timeout", "waitForReady", "retryPolicy", "hedgingPolicy", *_LIMITS})
_RETRY = frozenset(
    {
        *("maxAttempts", "initialBackoff", "maxBackoff", "backoffMultiplier"),
        *("retryableStatusCodes", "perAttemptRecvTimeout"),
    }
)
_HEDGING = frozenset({"maxAttempts", "hedgingDelay", "nonFatalStatusCodes"})
_HEALTH = "grpc.health.v1.Health"
_UINT32 = 2**32 - 1
_INT32 = 2**31 - 1


class _Reader:
    """Reads one config.

    Attributes:
        ignored: places of the fields that were left out so far.
    """

    def __init__(self) -> None:
        self.ignored: list[str] = []

    def fields(self, name: str, value: object, known: frozenset[str]) -> dict[str, Any]:
        """Return those fields of an object that are known and said."""
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name or 'service_config'} must be an object, not {value!r}")
        prefix = f"{name}." if name else ""
        self.ignored += sorted(f"{prefix}{key}" for key in value if key not in known)
        return {key: value[key] for key in value if key in known and (value[key] is not None or key in _LISTS)}

    def policies(self, config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Return the load balancing policies in their order, `{name: its config}` each; an empty tuple for none."""
        entries = _check_list("loadBalancingConfig", config.get("loadBalancingConfig", []))
        if not entries and "loadBalancingConfig" in config:
            raise ConfigError("loadBalancingConfig must hold a policy, not []")
        for entry in entries:
            if not isinstance(entry, Mapping) or len(entry) != 1:
                raise ConfigError(f"loadBalancingConfig must hold objects with one policy each, not {entry!r}")
        name = config.get("loadBalancingPolicy")
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"loadBalancingPolicy must be a string, not {name!r}")
        # The older field counts where the newer one is not given, and in any case of letters, as in C-core.
        return tuple(entries) if entries or not name else ({name.lower(): {}},)

    def health_service(self, value: object) -> str | None:
        """Return the service name of `healthCheckConfig`, None where it is not set."""
        service = self.fields("healthCheckConfig", value, frozenset({"serviceName"})).get("serviceName")
        if service is not None and not isinstance(service, str):
            raise ConfigError(f"healthCheckConfig.serviceName must be a string, not {service!r}")
        return service

    def throttle(self, value: object) -> RetryThrottle | None:
        """Return what `retryThrottling` says: `maxTokens` is 1 to 1,000, `tokenRatio` at least 0.001 (gRFC A6)."""
        if value is None:
            return None
        throttle = self.fields("retryThrottling", value, frozenset({"maxTokens", "tokenRatio"}))
        tokens = whole_number(_need("retryThrottling", throttle, "maxTokens"))
        ratio = number(_need("retryThrottling", throttle, "tokenRatio"))
        check_count("retryThrottling.maxTokens", tokens, low=1, high=1000)
        check_number("retryThrottling.tokenRatio", ratio, low=0.001, high=_UINT32)
        return RetryThrottle(max_tokens=tokens, token_ratio=ratio)

    def connection_scaling(self, value: object) -> dict[str, Any]:
        """Return the fields of `connectionScaling`, checked, for C-core to keep (gRFC A105); empty for none."""
        if value is None:
            return {}
        scaling = self.fields("connectionScaling", value, frozenset({"maxConnectionsPerSubchannel"}))
        scaling = {key: whole_number(count) for key, count in scaling.items()}
        for key, count in scaling.items():
            check_count(f"connectionScaling.{key}", count, low=0, high=_UINT32)
        return scaling

    def methods(self, value: object) -> tuple[tuple[MethodConfig, ...], list[dict[str, Any]]]:
        """Return what is said of methods, and which limits of messages C-core is to keep."""
        entries = [self.fields("methodConfig", entry, _METHOD) for entry in _check_list("methodConfig", value)]
        methods = tuple(self.method(entry) for entry in entries)
        counts = Counter(name for method in methods for name in method.names)
        for (service, method), count in counts.items():
            # As in grpc-go and grpc-java: one of them would be ignored.
            if count > 1:
                raise ConfigError(f"methodConfig must name each method once, not {service!r}, {method!r} {count} times")
        limits = [
            # An entry without limits hides those of a wider name, so it goes with the others.
            {"name": [_named(*name) for name in method.names], **_limits(entry)}
            for method, entry in zip(methods, entries, strict=True)
        ]
        return methods, limits if any(len(limit) > 1 for limit in limits) else []

    def method(self, entry: Mapping[str, Any]) -> MethodConfig:
        """Return what one entry of `methodConfig` says, the limits of messages apart."""
        if "retryPolicy" in entry and "hedgingPolicy" in entry:
            raise ConfigError("methodConfig must hold retryPolicy or hedgingPolicy, not both (gRFC A6)")
        wait_for_ready = entry.get("waitForReady")
        if wait_for_ready is not None and not isinstance(wait_for_ready, bool):
            raise ConfigError(f"methodConfig.waitForReady must be true or false, not {wait_for_ready!r}")
        retry = self.retry(entry["retryPolicy"]) if "retryPolicy" in entry else None
        if "hedgingPolicy" in entry:
            retry = self.hedging(entry["hedgingPolicy"])
        # C-core: a timeout of 0 s is none.
        timeout = parse_duration("methodConfig.timeout", entry["timeout"]) or None if "timeout" in entry else None
        # Without a name it is of no method.
        named = _check_list("methodConfig.name", entry.get("name", []))
        names = tuple(self.name(name) for name in named)
        return MethodConfig(names=names, timeout=timeout, wait_for_ready=wait_for_ready, retry=retry)

    def name(self, value: object) -> tuple[str, str]:
        """Return the service and the method that a `name` of `methodConfig` stands for; "" is all of them."""
        name = self.fields("methodConfig.name", value, frozenset({"service", "method"}))
        service, method = ("" if name.get(key) is None else name[key] for key in ("service", "method"))
        if not isinstance(service, str) or not isinstance(method, str) or (method and not service):
            raise ConfigError(f"methodConfig.name must hold a service, or a service and a method, not {value!r}")
        return service, method

    def retry(self, value: object) -> Failover:
        """Return a `retryPolicy` as options of failover; calls under it may be repeated whatever they do (gRFC A6)."""
        policy = self.fields("retryPolicy", value, _RETRY)
        initial = parse_duration("retryPolicy.initialBackoff", _need("retryPolicy", policy, "initialBackoff"))
        maximum = parse_duration("retryPolicy.maxBackoff", _need("retryPolicy", policy, "maxBackoff"))
        multiplier = number(_need("retryPolicy", policy, "backoffMultiplier"))
        check_number("retryPolicy.initialBackoff", initial, above=0)
        check_number("retryPolicy.maxBackoff", maximum, above=0)
        check_number("retryPolicy.backoffMultiplier", multiplier, above=0)
        return Failover(
            max_attempts=_max_attempts("retryPolicy", policy),
            codes=_retried_codes(policy),
            idempotent=True,
            backoff=Backoff(initial=min(initial, maximum), multiplier=max(1.0, multiplier), maximum=maximum),
            attempt_timeout=_attempt_timeout(policy),
        )

    def hedging(self, value: object) -> Failover:
        """Return a `hedgingPolicy` as options of failover; its `hedgingDelay` is 0 s where it is not set (gRFC A6)."""
        policy = self.fields("hedgingPolicy", value, _HEDGING)
        codes = _check_list("hedgingPolicy.nonFatalStatusCodes", policy.get("nonFatalStatusCodes", []))
        return Failover(
            max_attempts=_max_attempts("hedgingPolicy", policy),
            codes=_code_names("hedgingPolicy.nonFatalStatusCodes", codes),
            idempotent=True,
            hedging_delay=parse_duration("hedgingPolicy.hedgingDelay", policy.get("hedgingDelay", "0s")),
        )


def _retried_codes(policy: Mapping[str, Any]) -> list[str]:
    name = "retryPolicy.retryableStatusCodes"
    if "perAttemptRecvTimeout" in policy:
        # C-core asks for codes only where there is no such time.
        codes = _check_list(name, policy.get("retryableStatusCodes", []))
    else:
        codes = _check_list(name, _need("retryPolicy", policy, "retryableStatusCodes"))
        if not codes:
            raise ConfigError(f"{name} must not be empty")
    return _code_names(name, codes)


def _code_names(name: str, codes: list[Any]) -> list[str]:
    # C-core takes OK as well: it is no failure, so that it asks for nothing.
    return [code_name(name, code) for code in codes if code != "OK"]


def _attempt_timeout(policy: Mapping[str, Any]) -> float | None:
    if "perAttemptRecvTimeout" not in policy:
        return None
    name = "retryPolicy.perAttemptRecvTimeout"
    seconds = parse_duration(name, policy["perAttemptRecvTimeout"])
    check_number(name, seconds, above=0)
    return seconds


def _unlimited(methods: tuple[MethodConfig, ...]) -> list[dict[str, Any]]:
    is_named = any(service == _HEALTH for method in methods for service, _ in method.names)
    return [] if is_named else [{"name": [_named(_HEALTH, "")]}]


def _named(service: str, method: str) -> dict[str, str]:
    return {key: value for key, value in (("service", service), ("method", method)) if value}


def _limits(entry: Mapping[str, Any]) -> dict[str, int]:
    limits = {key: whole_number(entry[key]) for key in _LIMITS if key in entry}
    for key, value in limits.items():
        check_count(f"methodConfig.{key}", value, low=0, high=_UINT32)
    return limits


def _check_list(name: str, value: object) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{name} must be a list, not {value!r}")
    return list(value)


def _need(name: str, value: Mapping[str, Any], key: str) -> Any:
    if key not in value:
        raise ConfigError(f"{name} must hold {key}")
    return value[key]


def _max_attempts(name: str, policy: Mapping[str, Any]) -> int:
    value = whole_number(_need(name, policy, "maxAttempts"))
    if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= _INT32:
        raise ConfigError(f"{name}.maxAttempts must be a whole number of at least 2, not {value!r}")
    # A6: more than 5 counts as 5.
    return min(value, 5)
