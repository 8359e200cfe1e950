"""What the health service asks of a call's context.

One rule: nothing is needed that grpcio-health-checking's servicers do not use. Contexts of tests and of other servers
have no more, so whatever else is missing, or raises, is done without.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Any
from urllib.parse import unquote

import grpc

from healthlb.text import printable

UNKNOWN_CLIENT = "an unknown client"

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def peer_of(context: Any) -> str:
    """Return what `context.peer()` says, "" where it says nothing."""
    try:
        peer = context.peer()
    except Exception:
        return ""
    return printable(peer) if isinstance(peer, str) else ""


def client_of(peer: str) -> str:
    """Return the client that a grpcio peer ("ipv4:10.0.0.7:50514") belongs to, as `WatchLimits` counts them."""
    if peer.startswith("ipv4:"):
        return peer.rpartition(":")[0]
    if peer.startswith("ipv6:"):
        return _ipv6_client(peer)
    return peer or UNKNOWN_CLIENT


def _ipv6_client(peer: str) -> str:
    host = unquote(peer).removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return f"ipv6:{host}"
    if address.ipv4_mapped is not None:
        return f"ipv4:{address.ipv4_mapped}"
    # In these two networks each address is a host of its own.
    if address.is_link_local or ipaddress.IPv6Address(int(address)) in _NAT64:
        return f"ipv6:{address}"
    return f"ipv6:{ipaddress.IPv6Network((int(address) >> 64 << 64, 64))}"


def is_aio(context: Any) -> bool:
    """Return whether a context is one of `grpc.aio`: its methods are coroutines, and it has no `add_callback`."""
    return hasattr(context, "write") and not hasattr(context, "add_callback")


def set_status(context: Any, code: grpc.StatusCode, details: str) -> None:
    """Set what a call ends with."""
    context.set_code(code)
    with contextlib.suppress(Exception):
        context.set_details(details)
