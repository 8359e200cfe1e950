"""Every option, with its unit, default, bound and source.

The one rule: a value is checked where it is given, and the error names the option, the value
and the bound. Seconds are floats here; the `*_ns` properties are what the core reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from healthlb.errors import ConfigError

_SECOND = 1_000_000_000


def _ns(seconds: float) -> int:
    return round(seconds * _SECOND)


def check_number(option: str, value: object, *, above: float | None = None, low: float | None = None,
                 high: float | None = None) -> None:
    """Raise ConfigError unless `value` is a finite number within the bounds."""
    bounds = []
    if above is not None:
        bounds.append(f"above {above:g}")
    if low is not None:
        bounds.append(f"at least {low:g}")
    if high is not None:
        bounds.append(f"at most {high:g}")
    wanted = "a number " + " and ".join(bounds)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")
    too_low = (above is not None and value <= above) or (low is not None and value < low)
    if too_low or (high is not None and value > high):
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter; the defaults are gRPC's connection backoff.

    Unlike grpc-go and C-core, the first delay is jittered too, so that clients whose Watches
    fail together do not come back together.

    Attributes:
        initial: the first delay, in seconds; above 0.
        multiplier: the growth from one delay to the next; at least 1.
        jitter: the share by which a delay varies either way; 0 to 1.
        maximum: no delay is longer than this before jitter, in seconds; at least `initial`.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    initial: float = 1.0
    multiplier: float = 1.6
    jitter: float = 0.2
    maximum: float = 120.0

    def __post_init__(self) -> None:
        check_number("Backoff.initial", self.initial, above=0)
        check_number("Backoff.multiplier", self.multiplier, low=1)
        check_number("Backoff.jitter", self.jitter, low=0, high=1)
        check_number("Backoff.maximum", self.maximum, low=self.initial)

    @property
    def initial_ns(self) -> int:
        """The first delay in nanoseconds."""
        return _ns(self.initial)

    @property
    def maximum_ns(self) -> int:
        """The longest delay in nanoseconds."""
        return _ns(self.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """How a backend is noticed that hangs or is cut off without a reset.

    A Watch cannot tell: it stays open and silent. So a `Health/Check` goes out now and then over
    the same connection, and any answer at all, an error status included, is a sign of life.

    Attributes:
        interval: seconds of silence before a Check is sent; above 0. With more than 200
            subchannels in a process it stretches to their number / 20 s.
        timeout: seconds to wait for an answer; above 0.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    interval: float = 10.0
    timeout: float = 3.0

    def __post_init__(self) -> None:
        check_number("Heartbeat.interval", self.interval, above=0)
        check_number("Heartbeat.timeout", self.timeout, above=0)

    @property
    def interval_ns(self) -> int:
        """The interval in nanoseconds."""
        return _ns(self.interval)

    @property
    def timeout_ns(self) -> int:
        """The timeout in nanoseconds."""
        return _ns(self.timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """How the health of each subchannel is followed (gRFC A17 and where we go further).

    Attributes:
        backoff: between Watches that ended without an answer (gRFC A17).
        reconnect: of the connections; shorter than gRPC's own default, which leaves a backend
            out for 14 s after 30 s down.
        metadata: pairs that go with every Watch and Check.
        first_response_timeout: seconds until a Watch that says nothing counts as failed; above 0.
            A17 has none, so one stuck health service could hold up a whole channel.
        min_restart_interval: seconds; the floor under the "immediate" restart of a Watch that
            answered and ended. Grows with each quick end, forgotten after 10 s of a stable stream.
        heartbeat: a `Heartbeat`, or None for none.
        on_unimplemented: "healthy" (gRFC A17) or "unhealthy", for servers without health service.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    backoff: Backoff = field(default_factory=Backoff)
    reconnect: Backoff = field(default_factory=lambda: Backoff(initial=0.2, maximum=1.0))
    metadata: Sequence[tuple[str, str | bytes]] = ()
    first_response_timeout: float = 10.0
    min_restart_interval: float = 0.1
    heartbeat: Heartbeat | None = field(default_factory=Heartbeat)
    on_unimplemented: str = "healthy"

    def __post_init__(self) -> None:
        check_number("HealthCheck.first_response_timeout", self.first_response_timeout, above=0)
        check_number("HealthCheck.min_restart_interval", self.min_restart_interval, above=0)
        for name, kind in (("backoff", Backoff), ("reconnect", Backoff)):
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"HealthCheck.{name} must be a {kind.__name__}, not {getattr(self, name)!r}")
        if self.heartbeat is not None and not isinstance(self.heartbeat, Heartbeat):
            raise ConfigError(f"HealthCheck.heartbeat must be a Heartbeat or None, not {self.heartbeat!r}")
        if self.on_unimplemented not in ("healthy", "unhealthy"):
            raise ConfigError(
                f"HealthCheck.on_unimplemented must be 'healthy' or 'unhealthy', not {self.on_unimplemented!r}"
            )
        object.__setattr__(self, "metadata", _checked_metadata(self.metadata))

    @property
    def first_response_timeout_ns(self) -> int:
        """The first-response timeout in nanoseconds."""
        return _ns(self.first_response_timeout)

    @property
    def min_restart_interval_ns(self) -> int:
        """The floor between restarts in nanoseconds."""
        return _ns(self.min_restart_interval)


def _checked_metadata(metadata: Sequence[tuple[str, str | bytes]]) -> tuple[tuple[str, str | bytes], ...]:
    pairs = []
    try:
        for key, value in metadata:
            if not isinstance(key, str) or not isinstance(value, str | bytes):
                raise TypeError
            pairs.append((key, value))
    except (TypeError, ValueError):
        raise ConfigError(
            f"HealthCheck.metadata must be pairs of a name and a str or bytes value, not {metadata!r}"
        ) from None
    return tuple(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceConfig:
    """What a gRPC service config says that healthlb knows.

    Attributes:
        policies: the entries of `loadBalancingConfig`, in order.
        service: `healthCheckConfig.serviceName`, None where it is not set.
    """

    policies: tuple[Mapping[str, Any], ...] = ()
    service: str | None = None


def parse_service_config(text: str | Mapping[str, Any]) -> ServiceConfig:
    """Read a gRPC service config.

    Args:
        text: JSON text, or the mapping it stands for. `loadBalancingConfig` and
            `healthCheckConfig` are known.

    Raises:
        ConfigError: malformed, or it names what is not known: nothing is silently ignored.
    """
    try:
        config = json.loads(text) if isinstance(text, str) else text
    except ValueError as error:
        raise ConfigError(f"service_config must be JSON: {error}") from error
    if not isinstance(config, Mapping):
        raise ConfigError(f"service_config must be a JSON object, not {config!r}")
    known = ("loadBalancingConfig", "healthCheckConfig")
    for key in config:
        if key not in known:
            raise ConfigError(f"service_config may hold {' and '.join(known)}, not {key!r}")
    return ServiceConfig(
        policies=_parse_policies(config.get("loadBalancingConfig", [])),
        service=_parse_health(config.get("healthCheckConfig", {})),
    )


def _parse_policies(value: object) -> tuple[Mapping[str, Any], ...]:
    is_list = isinstance(value, list | tuple)
    if not is_list or not all(isinstance(entry, Mapping) and len(entry) == 1 for entry in value):  # type: ignore[attr-defined]
        raise ConfigError(f"loadBalancingConfig must be a list of objects with one policy each, not {value!r}")
    return tuple(value)  # type: ignore[arg-type]


def _parse_health(value: object) -> str | None:
    if not isinstance(value, Mapping) or set(value) - {"serviceName"}:
        raise ConfigError(f"healthCheckConfig must be an object with serviceName, not {value!r}")
    service = value.get("serviceName")
    if service is not None and not isinstance(service, str):
        raise ConfigError(f"healthCheckConfig.serviceName must be a string, not {service!r}")
    return service
