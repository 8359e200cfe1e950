"""What `follow_state` tells, and how it logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

from healthlb.config import check_callable
from healthlb.text import printable

_log = logging.getLogger("healthlb")


class ConnectivityChange(NamedTuple):
    """A channel is in another state.

    Attributes:
        state: the new one.
        at: when that was noticed, in seconds since the epoch.
    """

    state: grpc.ChannelConnectivity
    at: float


Callback = Callable[[ConnectivityChange], object]


def check_callback(callback: object, channel: object) -> Callback:
    """Return the callback; where None was given, one that logs.

    Raises:
        ConfigError: it cannot be called, or is a coroutine function.
    """
    if callback is None:
        name = _name(channel)
        return lambda change: _log.info("channel %s: %s", name, change.state.name)
    return check_callable("callback", callback, "callable or None")


def core_channel(channel: Any) -> Any:
    """Return the `cygrpc` channel beneath a channel, None where this is none of grpcio's own channels."""
    while channel is not None and not hasattr(channel, "check_connectivity_state"):
        channel = getattr(channel, "_channel", None)
    return channel


def _name(channel: Any) -> str:
    inner = channel
    while inner is not None and not isinstance(getattr(inner, "_target", None), str | bytes):
        inner = getattr(inner, "_channel", None)
    return printable(repr(channel) if inner is None else inner._target)
