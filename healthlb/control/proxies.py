"""Which targets are on this machine: no proxy of the environment may stand in between, and grpcio would ask one.

grpcio knows two kinds: `http_proxy` and its like, by name, and `GRPC_ADDRESS_HTTP_PROXY`, by address, which heeds no
`grpc.enable_http_proxy` (1.85.3).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

# As files of hosts commonly call this machine.
_OWN_NAMES = frozenset(
    {"", "localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"}
)
_BY_NAME = ("grpc.enable_http_proxy", 0)
_BY_ADDRESS = ("grpc.address_http_proxy_enabled_addresses", "")  # no address goes by that proxy


def is_local(host: str) -> bool:
    """Whether a host, a name or an IP address without port, is this machine: loopback or unspecified."""
    host = host.strip("[]").rstrip(".").lower()
    if host in _OWN_NAMES or host.endswith(".localhost") or host == os.uname().nodename.lower():
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def without_proxies(options: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the arguments that keep the environment's proxies away, where the caller's own name none.

    Args:
        options: the caller's channel arguments.
    """
    given = dict(options)
    if given.get("grpc.enable_http_proxy"):
        return {}
    # Whoever names a proxy wants it.
    by_name = () if "grpc.http_proxy" in given else (_BY_NAME,)
    by_address = () if "grpc.address_http_proxy" in given else (_BY_ADDRESS,)
    return dict((*by_name, *by_address))


def without_proxy(target: str) -> tuple[tuple[str, Any], ...]:
    """Return the arguments that keep the environment's proxies away where a target is on this machine, else nothing.

    Args:
        target: as gRPC names targets.
    """
    is_socket = target.startswith(("unix:", "unix-abstract:"))
    is_on_this_machine = is_socket or any(is_local(_host(address)) for address in _addresses(target))
    return (_BY_NAME, _BY_ADDRESS) if is_on_this_machine else ()


def _addresses(target: str) -> list[str]:
    """Return `host:port` of each address in a target, whatever its scheme."""
    for scheme in ("ipv4:", "ipv6:"):
        target = target.removeprefix(scheme)
    return unquote(target.rpartition("/")[2].removeprefix("dns:")).split(",")


def _host(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address if address.count(":") > 1 else address.partition(":")[0]
