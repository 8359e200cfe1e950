"""What both faces make of the constructor's arguments: checked once, at construction."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.calls.defaults import DEFAULT_FAILOVER, DEFAULT_SERVICE
from healthlb.calls.policy import Policies
from healthlb.config import Failover, HealthCheck, SlowStart, Subset, check_callable, check_collection, check_number
from healthlb.config.outliers import Outliers
from healthlb.config.overload import Overload
from healthlb.config.service_config import ServiceConfig, parse_service_config
from healthlb.control.options import ChannelOptions, check_channel_credentials, check_options, subchannel_options
from healthlb.core.balancer import Balancer
from healthlb.core.call.overload import Admission
from healthlb.core.messages import Fact
from healthlb.core.pickers import PickerBuilder, PickerSource, flag, make_factory, service_config_picker
from healthlb.core.resolution import LONGEST_WAIT
from healthlb.core.subchannel.dialling import Pace
from healthlb.errors import ConfigError
from healthlb.resolvers import Target, parse_target
from healthlb.text import printable, short

Listener = Callable[[Fact], None]

_log = logging.getLogger("healthlb")

_NOT_AWAITED = "; a plain function may start a task (loop.create_task)"
_NO_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Settings:
    """One channel's checked settings.

    Attributes:
        target: the resolver, and the authority its endpoints go by.
        longest_wait: seconds in which a resolver that raised is run again at the latest.
        keep: seconds for which an address that is missing in a new list stays in use.
        service: the service name asked for, None for no health checking.
        credentials: None is plaintext.
        options: complete channel arguments for a subchannel.
        compression: the default of calls.
        health: how health is followed.
        factory: builds the pickers; this channel's own.
        seed: of the core's random streams.
        policies: how calls are tried.
        subset: to how many endpoints it connects, None for all.
        listeners: take facts from the start.
        outliers: who is ejected, None for nobody.
        overload: caps on calls, None for none.
        panic_threshold: the share of healthy subchannels below which all connected ones are picked.
        drain: seconds that calls have on an address that left, None for no limit.
        slow_start: how the weight of who comes in late grows, None for at once.
    """

    target: Target
    longest_wait: float
    keep: float
    service: str | None
    credentials: grpc.ChannelCredentials | None
    options: ChannelOptions
    compression: grpc.Compression | None
    health: HealthCheck
    factory: PickerBuilder
    seed: int
    policies: Policies
    subset: Subset | None
    listeners: tuple[Listener, ...]
    outliers: Outliers | None
    overload: Overload | None
    panic_threshold: float
    drain: float | None
    slow_start: SlowStart | None

    def make_balancer(self, pace: Pace, admission: Admission) -> Balancer:
        """Return the core of a channel.

        Args:
            pace: shared with the other channels of its thread or loop.
            admission: shared with the channel's calls.
        """
        return Balancer(
            self.service,
            self.health,
            self.seed,
            pace,
            self.subset,
            self.outliers,
            self.panic_threshold,
            self.slow_start,
            admission,
            self.credentials is not None,
            self.longest_wait,
            self.keep,
            self.drain,
        )


def make_settings(
    target: object,
    service: object,
    *,
    credentials: object,
    options: object,
    compression: object,
    picker: PickerSource | None,
    health: object,
    failover: Failover | None,
    outliers: object,
    overload: object,
    panic_threshold: float,
    drain: float | None,
    subset: Subset | None,
    slow_start: SlowStart | None,
    service_config: str | bytes | Mapping[str, Any] | None,
    listeners: Iterable[Listener],
) -> Settings:
    """Check the arguments of a channel; see `HealthAwareChannel` for what they mean.

    Raises:
        ConfigError: one of them cannot work.
    """
    config = parse_service_config(service_config) if service_config is not None else ServiceConfig()
    if not isinstance(health, HealthCheck):
        raise ConfigError(f"health must be a HealthCheck, not {health!r}")
    if outliers is not None and not isinstance(outliers, Outliers):
        raise ConfigError(f"outliers must be an Outliers or None, not {outliers!r}")
    if overload is not None and not isinstance(overload, Overload):
        raise ConfigError(f"overload must be an Overload or None, not {overload!r}")
    check_number("panic_threshold", panic_threshold, low=0, high=1)
    if drain is not None:
        check_number("drain", drain, low=0)
    parsed = parse_target(target)
    arguments = subchannel_options(check_options(options), health.reconnect, parsed.authority, config.passed_down)
    _check_refresh(parsed.resolver)
    ignored = list(config.ignored)
    factory = make_factory(_choose_picker(picker, config, ignored), random.Random())
    _tell_of_ignored(ignored)
    return Settings(
        target=parsed,
        longest_wait=_seconds(parsed.resolver, "interval", LONGEST_WAIT) or LONGEST_WAIT,
        keep=_seconds(parsed.resolver, "keep", 0.0),
        service=_check_service(config.service if service is DEFAULT_SERVICE and config.service else service),
        credentials=check_channel_credentials(credentials),
        options=arguments,
        compression=_check_compression(compression),
        health=health,
        factory=factory,
        seed=random.SystemRandom().getrandbits(64),
        policies=Policies(check_failover(failover), failover is not DEFAULT_FAILOVER, config),
        subset=_check_subset(subset),
        listeners=_check_listeners(listeners),
        outliers=outliers,
        overload=overload,
        panic_threshold=panic_threshold,
        drain=drain,
        slow_start=_check_slow_start(slow_start, factory),
    )


def _seconds(resolver: object, name: str, default: float) -> float:
    """Return what a resolver says in an optional attribute, in seconds; `default` where it says no such thing.

    Raises:
        ConfigError: it is no number of seconds.
    """
    value = getattr(resolver, name, None)
    if value is None:
        return default
    check_number(f"{type(resolver).__name__}.{name}", value, low=0)
    return float(value)


def _check_refresh(resolver: object) -> None:
    refresh = getattr(resolver, "refresh", None)
    if refresh is not None:
        check_callable(f"{type(resolver).__name__}.refresh", refresh)


def check_failover(failover: object) -> Failover | None:
    """Return the failover policy.

    Raises:
        ConfigError: it is none.
    """
    if failover is not None and not isinstance(failover, Failover):
        raise ConfigError(f"failover must be a Failover or None, not {failover!r}")
    return failover


def _check_subset(subset: object) -> Subset | None:
    if subset is not None and not isinstance(subset, Subset):
        raise ConfigError(f"subset must be a Subset or None, not {subset!r}")
    return subset


def _check_slow_start(slow_start: object, factory: PickerBuilder) -> SlowStart | None:
    if slow_start is not None and not isinstance(slow_start, SlowStart):
        raise ConfigError(f"slow_start must be a SlowStart or None, not {slow_start!r}")
    if slow_start is not None and not flag(factory, "reads_weight"):
        raise ConfigError(
            "slow_start needs a picker that reads the subchannels' weights (weighted_round_robin, least_request or one "
            f"of your own), not {type(factory).__name__}"
        )
    return slow_start


def _choose_picker(picker: PickerSource | None, config: ServiceConfig, ignored: list[str]) -> PickerSource:
    if picker is not None:
        return picker
    return service_config_picker(config.policies, ignored) if config.policies else "round_robin"


def _tell_of_ignored(ignored: list[str]) -> None:
    if ignored:
        names = printable(", ".join(dict.fromkeys(ignored)))
        _log.warning("service_config: fields that healthlb does not know are left out: %s", names)


def _check_compression(compression: object) -> grpc.Compression | None:
    if compression is None or isinstance(compression, grpc.Compression):
        return compression
    raise ConfigError(f"compression must be a grpc.Compression or None, not {compression!r}")


def _check_service(service: object) -> str | None:
    if service is None:
        return None
    if not isinstance(service, str) or _NO_SURROGATES.search(service):
        raise ConfigError(f'service must be a str ("" for the whole server) or None, not {short(service)}')
    return str(service)


def check_listener(listener: object) -> Listener:
    """Return the listener.

    Raises:
        ConfigError: it cannot be called, or is a coroutine function.
    """
    return check_callable("listeners", listener, "callables that take a fact", _NOT_AWAITED)


def _check_listeners(listeners: object) -> tuple[Listener, ...]:
    check_collection("listeners", listeners, "callables that take a fact")
    try:
        return tuple(check_listener(listener) for listener in listeners)  # type: ignore[attr-defined]
    except TypeError:
        raise ConfigError(f"listeners must be a sequence of callables, not {listeners!r}") from None
