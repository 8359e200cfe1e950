"""The channel arguments of a subchannel.

The one rule: what the caller gave wins, except for what would switch off what healthlb is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

from healthlb.config import Backoff
from healthlb.errors import ConfigError

ChannelOptions = tuple[tuple[str, Any], ...]

_INT_LIMIT = 2**31
_CONNECT_TIMEOUT_MS = 20_000
_DNS_MIN_TIME_MS = 5_000


def check_options(options: object) -> ChannelOptions:
    """Return the caller's channel arguments as a tuple of pairs.

    Raises:
        ConfigError: not pairs of a name and a value, or one that belongs elsewhere.
    """
    try:
        pairs = tuple((_to_text(key), value) for key, value in options or ())  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise ConfigError(f"options must be pairs of a name and a value, not {options!r}") from None
    for key, value in pairs:
        if not isinstance(key, str):
            raise ConfigError(f"options must have names that are str or bytes, not {key!r}")
        if not _is_value(key, value):
            raise ConfigError(f"options: {key!r} must be a str, bytes or an int of 32 bits, not {value!r}")
        if key == "grpc.service_config":
            raise ConfigError("options must not hold 'grpc.service_config': pass it as service_config=")
    return pairs


def _to_text(key: Any) -> Any:
    return key.decode() if isinstance(key, bytes) else key


def _is_value(key: str, value: object) -> bool:
    if isinstance(value, int):
        return -_INT_LIMIT <= value < _INT_LIMIT
    if isinstance(value, Number):
        # grpcio takes it for a pointer, and C-core ignores it; a unique name of the user's own may well be a float.
        return not key.startswith("grpc.") and hasattr(value, "__int__")
    return isinstance(value, str | bytes) or hasattr(value, "__int__")


def dial_target(address: str) -> str:
    """Return the grpcio target for one address; a host called `dns` must not be read as a scheme."""
    return address if address.startswith("unix") else f"dns:///{address}"


def subchannel_options(options: ChannelOptions, reconnect: Backoff, authority: str | None) -> ChannelOptions:
    """Return the arguments for a channel to one address.

    Args:
        options: the caller's.
        reconnect: bounds of the connection backoff, which C-core owns.
        authority: the name that TLS and `:authority` go by, None for the address's own.
    """
    defaults: dict[str, Any] = {
        # A fresh channel would inherit an old one's backoff through the global pool.
        "grpc.use_local_subchannel_pool": 1,
        "grpc.initial_reconnect_backoff_ms": max(1, round(reconnect.initial * 1000)),
        "grpc.max_reconnect_backoff_ms": max(1, round(reconnect.maximum * 1000)),
        # This one is also the time that a connection attempt is given.
        "grpc.min_reconnect_backoff_ms": _CONNECT_TIMEOUT_MS,
        "grpc.dns_min_time_between_resolutions_ms": _DNS_MIN_TIME_MS,
        # A proxy would stand between us and the address that was picked.
        "grpc.enable_http_proxy": 0,
    }
    if authority is not None:
        defaults["grpc.default_authority"] = authority
    given: Sequence[tuple[str, Any]] = [
        *options,
        # No retry policy from DNS beneath ours: retries multiply.
        ("grpc.service_config_disable_resolution", 1),
    ]
    return (*((key, value) for key, value in defaults.items() if key not in dict(given)), *given)
