"""How an address is written: one grammar for lists, URIs and resolvers.

The one rule: what passes here means the same to grpcio; everything else is refused with a reason.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterable, Mapping

from healthlb.config import check_number
from healthlb.core.messages import Endpoint
from healthlb.errors import ConfigError
from healthlb.text import short

_ACCEPTED = (
    "a target is a non-empty list of addresses ('host:port', '[::1]:50051', 'unix:/path', 'unix-abstract:name'), a URI "
    "('dns:///host:port', 'ipv4:...', 'ipv6:...', 'unix:...') or an object with `async def resolve(update)`"
)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")
_URI = re.compile("(dns|ipv4|ipv6):[^0-9]|ipv4:[^:]*:")  # no host of such a name, with a port
_LOOKS_LIKE_IPV4 = re.compile(r"[0-9.]+")
_ZONE = re.compile(r"[A-Za-z0-9._-]+")
# C-core refuses longer ones: struct sockaddr_un has 108 bytes on Linux, one of them for the NUL.
_LONGEST_SOCKET_NAME = 107
_COMMON = 1e9  # weights below are right without a closer look


class Malformed(Exception):
    """Why a text is no address; whoever knows the whole target turns it into a ConfigError."""


def bad_target(target: object, reason: str) -> ConfigError:
    """Return the error for a target that cannot work: its value, why, and what is accepted."""
    return ConfigError(f"target {short(target)}: {reason}; {_ACCEPTED}")


def parse_port(text: str) -> int:
    """Return the port that `text` names, 1 to 65535, or raise Malformed."""
    if _PORT.fullmatch(text) is None or int(text) > 65535:
        raise Malformed(f"a port is a number from 1 to 65535, not {short(text)}")
    return int(text)


def split_port(text: str) -> tuple[str, int | None]:
    """Split `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; the host comes without brackets.

    Raises:
        Malformed: the text is none of these.
    """
    if not text or any(character.isspace() for character in text):
        raise Malformed("an address must not contain white space" if text else "an address must not be empty")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Malformed("an IPv6 address with a port is written [::1]:50051")
        check_ip(host, 6)
        return host, parse_port(rest[1:]) if rest else None
    if text.count(":") > 1:
        raise Malformed(
            "several addresses are given as a list" if "," in text else "an IPv6 address needs brackets: [::1]:50051"
        )
    host, colon, port = text.partition(":")
    check_host(host)
    return host, parse_port(port) if colon else None


def check_host(host: str) -> None:
    """Raise Malformed unless `host` is a host name, an IPv4 or an IPv6 address (no brackets)."""
    if ":" in host:
        check_ip(host, 6)
    elif _LOOKS_LIKE_IPV4.fullmatch(host):
        check_ip(host, 4)
    elif not host:
        raise Malformed("the host is missing")
    elif len(host) > 253 or not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
        raise Malformed(
            f"{short(host)} is no host name (ASCII letters, digits, '-' and '_', with dots between; "
            "other scripts as xn--...)"
        )


def check_ip(text: str, version: int) -> None:
    """Raise Malformed unless `text` is an IP address of this version."""
    zone = text.partition("%")[2]
    try:
        is_right = ipaddress.ip_address(text).version == version
    except ValueError:
        is_right = False
    if not is_right or (zone and not _ZONE.fullmatch(zone)):
        raise Malformed(f"{short(text)} is no IPv{version} address")


def is_ip(host: str) -> bool:
    """Whether `host` (without brackets) is an IP address and needs no resolving."""
    return ":" in host or _LOOKS_LIKE_IPV4.fullmatch(host) is not None


def join_port(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@functools.lru_cache(maxsize=32768)
def parse_address(text: str) -> str:
    """Return an address as healthlb writes it (`unix:///path` becomes `unix:/path`), or raise Malformed."""
    for scheme in ("unix", "unix-abstract"):
        if text.startswith(f"{scheme}:"):
            return parse_socket_name(scheme, text.removeprefix(f"{scheme}:"))
    if "://" in text or _URI.match(text):
        raise Malformed("the entries of a list are addresses, not URIs")
    host, port = split_port(text)
    if port is None:
        raise Malformed("it has no port")
    # So that two spellings of an IPv6 address are one subchannel.
    return join_port(str(ipaddress.ip_address(host)) if ":" in host else host, port)


def parse_socket_name(scheme: str, name: str) -> str:
    """Return `unix:/path` or `unix-abstract:name`, or raise Malformed."""
    if name.startswith("//"):
        name = name.removeprefix("//")
        if scheme != "unix" or not name.startswith("/"):
            raise Malformed("a socket is written unix:/path, unix:///path or unix-abstract:name")
    # C-core reads the text as a URI: it would cut the path at a question mark or a hash.
    if not name or not name.isprintable() or any(character in " ?#" for character in name):
        raise Malformed("the name of a socket is not empty and has no white space, '?' or '#'")
    if len(name.encode()) > _LONGEST_SOCKET_NAME:
        raise Malformed(f"the name of a socket has at most {_LONGEST_SOCKET_NAME} bytes")
    return f"{scheme}:{name}"


def parse_endpoints(entries: Iterable[object]) -> tuple[Endpoint, ...]:
    """Return the endpoints of a list of addresses and Endpoints, the first of each address.

    Raises:
        ConfigError: the list is empty, or an entry is malformed.
    """
    if isinstance(entries, str | bytes | bytearray):
        raise bad_target(entries, f"a list of addresses is wanted, not the single string {short(entries)}")
    endpoints: dict[str, Endpoint] = {}
    for entry in entries:
        endpoint = _parse_entry(entry)
        endpoints.setdefault(endpoint.address, endpoint)
    if not endpoints:
        raise bad_target(entries, "it has no addresses")
    return tuple(endpoints.values())


def _parse_entry(entry: object) -> Endpoint:
    endpoint = Endpoint(entry) if isinstance(entry, str) else entry
    if not isinstance(endpoint, Endpoint) or not isinstance(endpoint.address, str):
        raise bad_target(entry, "an entry of a list is a str or an Endpoint with one")
    try:
        address = parse_address(endpoint.address)
    except Malformed as error:
        raise bad_target(entry, str(error)) from None
    if type(endpoint.weight) is not float or not 0 < endpoint.weight < _COMMON:
        check_number(f"target {short(address)}: Endpoint.weight", endpoint.weight, above=0)
    if not isinstance(endpoint.locality, str | None):
        raise bad_target(entry, "Endpoint.locality is a str or None")
    if not isinstance(endpoint.attributes, Mapping):
        raise bad_target(entry, "Endpoint.attributes is a mapping")
    return endpoint if address == endpoint.address else dataclasses.replace(endpoint, address=address)
