"""The channel arguments of a subchannel.

The one rule: what the caller gave wins, except for what would switch off what healthlb is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import grpc

from healthlb.config import Backoff, check_collection
from healthlb.control.proxies import without_proxies
from healthlb.errors import ConfigError

ChannelOptions = tuple[tuple[str, Any], ...]

# What harms: the values that do not, and what to do instead.
_Refused = dict[str, tuple[tuple[object, ...], str]]
_ANY_VALUE_HARMS: tuple[object, ...] = ()
_ON_ANY_CHANNEL: _Refused = {
    "grpc.enable_deadline_checking": ((1,), "leave it out: calls and health checks would never end"),
    "grpc.minimal_stack": ((0,), "leave it out: deadlines and grpcio's own retries would be off"),
    # C-core takes whatever stands there for a pointer, and the process crashes (1.85.3).
    "grpc.experimental.event_engine": (_ANY_VALUE_HARMS, "it is grpcio's own"),
}
_ON_A_BALANCED_ONE: _Refused = {
    "grpc.service_config": (_ANY_VALUE_HARMS, "pass it as service_config="),
    "grpc.lb_policy_name": (
        _ANY_VALUE_HARMS,
        "pass picker=; beneath a subchannel, a policy would call addresses whose health nobody has asked for",
    ),
    "grpc.service_config_disable_resolution": (
        (1,),
        "pass service_config=: a config from DNS would retry beneath this channel's failover",
    ),
    "grpc.enable_retries": (
        (1,),
        "pass failover=None; without grpcio's own retries, calls that never left are lost when a connection goes",
    ),
    "grpc.use_local_subchannel_pool": (
        (1,),
        "leave it out: a connection that replaces a dead one would be the dead one",
    ),
    "grpc.dns_enable_srv_queries": (
        (0,),
        "use a Resolver: servers that SRV records name would be called behind this channel's back",
    ),
    "grpc.http2.initial_sequence_number": (
        _ANY_VALUE_HARMS,
        "leave it out: a connection would run out of streams, and its Watch take the last one",
    ),
}
_PREFIXES_ON_ANY_CHANNEL = {
    "grpc.internal.": "it is grpcio's own",
    # C-core aborts the process over some of their values, on a client, too (1.85.3).
    "grpc.http.tarpit": "it is a server's",
}
_PREFIXES_ON_A_BALANCED_ONE = {
    "grpc.xds": "healthlb knows no xDS; use a list, DNS or a Resolver",
    "grpc.grpclb": "healthlb knows no grpclb; use a list, DNS or a Resolver",
}

# What C-core expects of each; of another type it is ignored without a word, or nearly so.
_STRINGS = frozenset(
    f"grpc.{name}"
    for name in (
        *("default_authority", "primary_user_agent", "secondary_user_agent", "ssl_target_name_override"),
        *("http_proxy", "http_connect_server", "http_connect_headers", "http2_scheme", "preferred_transport_protocols"),
        *("address_http_proxy", "address_http_proxy_enabled_addresses"),
    )
)
_INTEGER = re.compile(
    r"grpc\.(\w+_(ms|percent|size|length|proxy_enabled|bitset|level|algorithm)|dscp|dns_ares_query_timeout"
    r"|enable_(channelz|http_proxy|retries)|disable_client_authority_filter|keepalive_permit_without_calls"
    r"|max_\w+|http2\.\w+|experimental\.tcp_\w+)"
)

LOCAL_POOL = "grpc.use_local_subchannel_pool"
_INT_LIMIT = 2**31
_CONNECT_TIMEOUT_MS = 20_000
_DNS_MIN_TIME_MS = 5_000


def check_channel_credentials(credentials: object) -> grpc.ChannelCredentials | None:
    """Return credentials that a channel can be made with, or raise `ConfigError`."""
    if credentials is None or isinstance(credentials, grpc.ChannelCredentials):
        return credentials
    hint = ""
    if isinstance(credentials, grpc.CallCredentials):
        hint = "; these are of calls: pass grpc.composite_channel_credentials(grpc.ssl_channel_credentials(...), them)"
    raise ConfigError(f"credentials must be grpc.ChannelCredentials or None, not {credentials!r}{hint}")


def check_options(options: object) -> ChannelOptions:
    """Return the caller's channel arguments as a tuple of pairs.

    Raises:
        ConfigError: as `check_arguments`, or one that would undo the channel.
    """
    pairs = check_arguments(options)
    for key, value in pairs:
        _check_harmless(key, value, _ON_A_BALANCED_ONE, _PREFIXES_ON_A_BALANCED_ONE)
    return pairs


def check_arguments(options: object) -> ChannelOptions:
    """Return channel arguments of any channel as a tuple of pairs.

    Raises:
        ConfigError: not pairs of a name and a value, or a value that C-core ignores or that breaks any channel.
    """
    check_collection("options", options or (), "pairs of a name and a value")
    try:
        pairs = tuple((_to_text(key), value) for key, value in options or ())  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ConfigError(f"options must be pairs of a name and a value, not {options!r}") from None
    for key, value in pairs:
        if not isinstance(key, str):
            raise ConfigError(f"options must have names that are str or bytes, not {key!r}")
        if "\0" in key:
            # C-core reads as far as that, which may be the name of another argument.
            raise ConfigError(f"options must have names without null characters, not {key!r}")
        _check_harmless(key, value, _ON_ANY_CHANNEL, _PREFIXES_ON_ANY_CHANNEL)
        if not _is_value(key, value):
            raise ConfigError(f"options: {key!r} must be {_kind(key)}, not {value!r}")
    return pairs


def _check_harmless(key: str, value: object, refused: _Refused, prefixes: dict[str, str]) -> None:
    harmless, remedy = refused.get(key, ((value,), ""))
    remedy = "" if value in harmless else remedy
    for prefix, text in prefixes.items():
        remedy = text if key.startswith(prefix) else remedy
    if remedy:
        shown = repr(key) if harmless == _ANY_VALUE_HARMS else f"{key!r} as {value!r}"
        raise ConfigError(f"options must not hold {shown}: {remedy}")


def _to_text(key: Any) -> Any:
    return key.decode() if isinstance(key, bytes) else key


def _kind(key: str) -> str:
    if key in _STRINGS:
        return "a str or bytes"
    return "an int of 32 bits" if _INTEGER.fullmatch(key) else "a str, bytes or an int of 32 bits"


def _is_value(key: str, value: object) -> bool:
    if key in _STRINGS:
        return isinstance(value, str | bytes)
    if _INTEGER.fullmatch(key) and not isinstance(value, int):
        return False
    if isinstance(value, int):
        return -_INT_LIMIT <= value < _INT_LIMIT
    if isinstance(value, Number):
        # grpcio takes it for a pointer, and C-core ignores it; a unique name of the user's own may well be a float.
        return not key.startswith("grpc.") and hasattr(value, "__int__")
    return isinstance(value, str | bytes) or hasattr(value, "__int__")


def dial_target(address: str) -> str:
    """Return the grpcio target for one address; a host called `dns` must not be read as a scheme."""
    return address if address.startswith("unix") else f"dns:///{address}"


def can_share(credentials: grpc.ChannelCredentials | None, options: ChannelOptions) -> bool:
    """Whether health and calls of a sync channel share a connection.

    Args:
        credentials: the caller's; C-core compares those of TLS by their place in memory, so they are never equal.
        options: the caller's.
    """
    return credentials is None and not any(key == LOCAL_POOL and value for key, value in options)


def unshared(options: ChannelOptions) -> ChannelOptions:
    """Return the arguments of a channel with a connection of its own.

    Through the global pool a fresh channel would inherit an old one's backoff.
    """
    return (*options, (LOCAL_POOL, 1))


def control_options(options: ChannelOptions) -> ChannelOptions:
    """Return the arguments of a channel that carries health checks alone.

    Where a server sends GOAWAY as a call begins, C-core may try that call again without end, inside grpc.aio's call and
    with the interpreter's lock held (1.85.3). Watches and Checks are begun again by the core in any case.
    """
    return (*((key, value) for key, value in options if key != "grpc.enable_retries"), ("grpc.enable_retries", 0))


def subchannel_options(
    options: ChannelOptions,
    reconnect: Backoff,
    authority: str | None,
    service_config: Mapping[str, Any] | None = None,
) -> ChannelOptions:
    """Return the arguments for a channel to one address.

    Args:
        options: the caller's.
        reconnect: bounds of the connection backoff, which C-core owns.
        authority: the name that TLS and `:authority` go by, None for the address's own.
        service_config: what of the service config is C-core's to keep.
    """
    defaults: dict[str, Any] = {
        "grpc.initial_reconnect_backoff_ms": max(1, round(reconnect.initial * 1000)),
        "grpc.max_reconnect_backoff_ms": max(1, round(reconnect.maximum * 1000)),
        # This one is also the time that a connection attempt is given.
        "grpc.min_reconnect_backoff_ms": _CONNECT_TIMEOUT_MS,
        "grpc.dns_min_time_between_resolutions_ms": _DNS_MIN_TIME_MS,
        **without_proxies(options),
    }
    if authority is not None:
        defaults["grpc.default_authority"] = authority
    if service_config:
        defaults["grpc.service_config"] = json.dumps(service_config)
    given: Sequence[tuple[str, Any]] = [
        *options,
        # No retry policy from DNS beneath ours: retries multiply.
        ("grpc.service_config_disable_resolution", 1),
    ]
    return (*((key, value) for key, value in defaults.items() if key not in dict(given)), *given)
