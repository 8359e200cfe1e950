"""What both faces make of the constructor's arguments: checked once, at construction."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.calls.policy import Policies
from healthlb.config import DEFAULT_SERVICE, DEFAULTS, ChannelConfig, check_callable, check_collection, check_number
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
        config: the options that the core and the calls go by.
        factory: builds the pickers; this channel's own.
        seed: of the core's random streams.
        policies: how calls are tried.
        listeners: take facts from the start.
    """

    target: Target
    longest_wait: float
    keep: float
    service: str | None
    credentials: grpc.ChannelCredentials | None
    options: ChannelOptions
    compression: grpc.Compression | None
    config: ChannelConfig
    factory: PickerBuilder
    seed: int
    policies: Policies
    listeners: tuple[Listener, ...]

    def make_balancer(self, pace: Pace, admission: Admission, *, is_shared: bool = True) -> Balancer:
        """Return the core of a channel.

        Args:
            pace: shared with the other channels of its thread or loop.
            admission: shared with the channel's calls.
            is_shared: whether health and calls share a connection.
        """
        return Balancer(
            self.service,
            self.config,
            self.seed,
            pace=pace,
            admission=admission,
            is_secure=self.credentials is not None,
            is_shared=is_shared,
            longest_wait=self.longest_wait,
            keep=self.keep,
        )


def make_settings(
    target: object,
    service: object,
    config: ChannelConfig,
    *,
    credentials: object,
    options: object,
    compression: object,
    picker: PickerSource | None,
    service_config: str | bytes | Mapping[str, Any] | None,
    listeners: Iterable[Listener],
) -> Settings:
    """Check what the arguments of a channel mean together; see `HealthAwareChannel` for each.

    Raises:
        ConfigError: one of them cannot work.
    """
    given = parse_service_config(service_config) if service_config is not None else ServiceConfig()
    parsed = parse_target(target)
    reconnect = config.health.reconnect
    arguments = subchannel_options(check_options(options), reconnect, parsed.authority, given.passed_down)
    _check_refresh(parsed.resolver)
    ignored = list(given.ignored)
    factory = make_factory(_choose_picker(picker, given, ignored), random.Random())
    _check_slow_start(config, factory)
    _log_ignored(ignored)
    return Settings(
        target=parsed,
        longest_wait=_seconds(parsed.resolver, "interval", LONGEST_WAIT) or LONGEST_WAIT,
        keep=_seconds(parsed.resolver, "keep", 0.0),
        service=_check_service(given.service if service is DEFAULT_SERVICE and given.service else service),
        credentials=check_channel_credentials(credentials),
        options=arguments,
        compression=_check_compression(compression),
        config=config,
        factory=factory,
        seed=random.SystemRandom().getrandbits(64),
        policies=Policies(config.failover, config.failover is not DEFAULTS.failover, given),
        listeners=_check_listeners(listeners),
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


def _check_slow_start(config: ChannelConfig, factory: PickerBuilder) -> None:
    if config.slow_start is not None and not flag(factory, "reads_weight"):
        raise ConfigError(
            "slow_start needs a picker that reads the subchannels' weights (weighted_round_robin, least_request or one "
            f"of your own), not {type(factory).__name__}"
        )


def _choose_picker(picker: PickerSource | None, given: ServiceConfig, ignored: list[str]) -> PickerSource:
    if picker is not None:
        return picker
    return service_config_picker(given.policies, ignored) if given.policies else "round_robin"


def _log_ignored(ignored: list[str]) -> None:
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
