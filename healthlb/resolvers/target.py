"""What a user may give as `target`, and which resolver that means.

The one rule: whatever cannot work is refused here, before anything connects; the names are
gRPC's (its doc/naming.md).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote

from healthlb.errors import ConfigError
from healthlb.resolvers.addresses import (
    Malformed,
    bad_target,
    check_ip,
    join_port,
    parse_socket_name,
    split_port,
)
from healthlb.resolvers.base import Resolver
from healthlb.resolvers.dns import DnsResolver, parse_nameserver
from healthlb.resolvers.static import StaticResolver
from healthlb.text import short

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
# gRPC takes the port of https where a DNS target names none (its doc/naming.md).
_DEFAULT_PORT = 443

ResolverFactory = Callable[[str], Resolver]
_registered: dict[str, ResolverFactory] = {}


@dataclass(frozen=True, slots=True)
class Target:
    """A target, understood.

    Attributes:
        resolver: what says which endpoints there are.
        authority: the `:authority` of every endpoint, or None: each goes by its own address.
        text: the target in short, for errors and logs.
    """

    resolver: Resolver
    authority: str | None
    text: str


def register_resolver(scheme: str, factory: ResolverFactory) -> None:
    """Make targets of the form `scheme://...` resolve through `factory(target_uri)`.

    A scheme that was registered before is replaced for channels made from now on.

    Args:
        scheme: a lower-case URI scheme (letters, digits, `+`, `.`, `-`; a letter first), but none
            of gRPC's own.
        factory: takes the whole URI and returns a Resolver, without I/O; it raises ValueError for
            a URI that it cannot use.

    Raises:
        ConfigError: the scheme is malformed or built in, or the factory cannot be called.
    """
    if not isinstance(scheme, str) or _SCHEME.fullmatch(scheme) is None or scheme != scheme.lower():
        raise ConfigError(
            "register_resolver: scheme must be lower-case letters, digits, '+', '.' and '-', "
            f"a letter first, not {short(scheme)}"
        )
    if scheme in _BUILT_IN:
        raise ConfigError(f"register_resolver: the scheme {scheme!r} is built in ({', '.join(sorted(_BUILT_IN))})")
    if not callable(factory):
        raise ConfigError(f"register_resolver: factory must be callable, not {short(factory)}")
    _registered[scheme] = factory


def parse_target(target: object) -> Target:
    """Return the resolver and authority that a `target` stands for; does no I/O.

    Args:
        target: a URI or `host:port`, a sequence of addresses and Endpoints, or a Resolver.

    Raises:
        ConfigError: the target is malformed; the text names it and what is accepted.
    """
    if isinstance(target, str):
        return _parse_text(target)
    if hasattr(target, "resolve"):
        return _target_of(target, target)
    if isinstance(target, Sequence) and not isinstance(target, bytes | bytearray | memoryview):
        resolver = StaticResolver(target)
        return Target(resolver, None, str(resolver))
    raise bad_target(target, f"{type(target).__name__} is no type of target")


def _parse_text(text: str) -> Target:
    scheme, colon, rest = text.partition(":")
    has_scheme = colon and _SCHEME.fullmatch(scheme)
    try:
        if has_scheme and scheme.lower() in _BUILT_IN:
            return _BUILT_IN[scheme.lower()](scheme.lower(), rest)
        # Without the slashes it is a host and a port: a server may be called like a scheme.
        if has_scheme and rest.startswith("//"):
            return _from_registry(scheme.lower(), text)
        return _parse_dns("dns", f"///{text}")
    except Malformed as error:
        raise bad_target(text, str(error)) from None


def _parse_dns(_scheme: str, rest: str) -> Target:
    server = ""
    if rest.startswith("//"):
        server, slash, rest = rest.removeprefix("//").partition("/")
        if not slash:
            raise Malformed(f"a DNS name follows three slashes: dns:///{server}")
    else:
        rest = rest.removeprefix("/")
    name = unquote(rest)
    if "," in name:
        raise Malformed("several addresses are given as a list")
    host, port = split_port(name)
    if server:
        parse_nameserver(server)
    resolver = DnsResolver(host, port or _DEFAULT_PORT, nameserver=server or None)
    # As the user wrote it: without a port gRPC sends none either.
    return Target(resolver, name, f"dns://{server}/{name}")


def _parse_ip(scheme: str, rest: str) -> Target:
    if rest.startswith("//") and not rest.startswith("///"):
        raise Malformed(f"{scheme} takes no authority: {scheme}:{rest.removeprefix('//')}")
    addresses = []
    parts = unquote(rest.removeprefix("//").removeprefix("/")).split(",")
    for part in filter(None, parts) if any(parts) else parts:  # C-core passes over what is empty, too
        host, port = split_port(part)
        check_ip(host, int(scheme[-1]))
        if port is None:
            # gRPC's naming.md promises 443 here, but grpcio 1.85.1 refuses the target.
            raise Malformed(f"{short(part)} has no port")
        addresses.append(join_port(host, port))
    resolver = StaticResolver(addresses)
    return Target(resolver, None, str(resolver))


def _parse_socket(scheme: str, rest: str) -> Target:
    address = parse_socket_name(scheme, rest)
    return Target(StaticResolver([address]), None, address)


_BUILT_IN: Final[Mapping[str, Callable[[str, str], Target]]] = MappingProxyType(
    {
        "dns": _parse_dns,
        "ipv4": _parse_ip,
        "ipv6": _parse_ip,
        "unix": _parse_socket,
        "unix-abstract": _parse_socket,
    }
)


_OF_URLS = ("http", "https", "grpc", "grpcs", "tcp")


def _from_registry(scheme: str, uri: str) -> Target:
    factory = _registered.get(scheme)
    if factory is None:
        known = ", ".join(sorted({*_BUILT_IN, *_registered}))
        hint = f"; addresses of gRPC are no URLs: leave out '{scheme}://'" if scheme in _OF_URLS else ""
        raise Malformed(f"the scheme {short(scheme)} is unknown (known are {known}){hint}")
    try:
        resolver = factory(uri)
    except ConfigError:
        raise
    except ValueError as error:
        raise bad_target(uri, str(error)) from error
    return _target_of(resolver, uri)


def _target_of(resolver: Any, given: object) -> Target:
    if isinstance(resolver, type):
        raise bad_target(given, f"{resolver.__name__} is a class; an instance of it is a resolver")
    # Wrappers made with functools.wraps are looked through.
    method = getattr(resolver, "resolve", None)
    if not callable(method) or not inspect.iscoroutinefunction(inspect.unwrap(method)):
        raise bad_target(given, f"{type(resolver).__name__} has no coroutine method `async def resolve(update)`")
    authority = getattr(resolver, "authority", None)
    if not isinstance(authority, str | None):
        raise bad_target(given, f"a resolver's authority is a str or None, not {short(authority)}")
    return Target(resolver, authority, given if isinstance(given, str) else short(given))
