"""Following a name in DNS while connections are healthy, which gRPC itself does not do.

The one rule: between two looks at a name there are at least `min_interval` seconds, whatever
happens in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterable

from healthlb.config import check_number
from healthlb.core.messages import Endpoint
from healthlb.errors import ConfigError
from healthlb.resolvers._answer import Answer
from healthlb.resolvers._lookup import has_dnspython, look_up
from healthlb.resolvers.addresses import (
    Malformed,
    check_host,
    is_ip,
    join_port,
    parse_port,
    split_port,
)
from healthlb.resolvers.base import Update
from healthlb.text import short

_DNS_PORT = 53


def endpoints_of(addresses: Iterable[str], port: int) -> tuple[Endpoint, ...]:
    """Return one endpoint per IP address: each once, IPv4 first, in numerical order."""
    found = {ipaddress.ip_address(address) for address in addresses}
    ordered = sorted(found, key=lambda ip: (ip.version, int(ip), str(ip)))
    return tuple(Endpoint(join_port(str(ip), port)) for ip in ordered)


def hosts_of(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that may be hosts: not 0.0.0.0 or ::, by which name servers block, nor any of many hosts."""
    return tuple(address for address in addresses if _is_host(ipaddress.ip_address(address)))


def _is_host(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return not (ip.is_unspecified or ip.is_multicast or str(ip) == "255.255.255.255")


def parse_nameserver(text: str) -> tuple[str, int]:
    """Return the address and port of a DNS server given as `ip` or `ip:port`.

    Raises:
        Malformed: it is no IP address, or dnspython is not installed.
    """
    host, port = split_port(text)
    if not is_ip(host):
        raise Malformed(f"a DNS server is given by its IP address, not by a name: {short(text)}")
    if not has_dnspython():
        raise Malformed("to ask a DNS server by its address, install dnspython (the extra `dns` of healthlb)")
    return host, port or _DNS_PORT


class DnsResolver:
    """Resolves a host name: every A and AAAA record is an endpoint.

    After each look the next one is due in `interval` seconds, or after the answer's TTL where
    that is known and shorter, or at once on `refresh`; but never sooner than `min_interval`
    seconds after the last look ended, failures and new runs of `resolve` included.

    Args:
        host: a host name, or an IP address (without brackets), which is never looked up.
        port: of every endpoint; 1 to 65535.
        interval: seconds from one look to the next; default 30, at least `min_interval`.
        min_interval: the floor between looks in seconds; default 5, above 0.
        keep: seconds for which an address that is missing in an answer stays in use while it is connected and healthy;
            default 0, at least 0.
        nameserver: the only DNS server to ask, as `ip` or `ip:port` (needs the extra `dns`), or
            None for the system's. It gets the name as it stands: no search domains, no hosts file.

    Attributes:
        keep: seconds, as given.
        authority: what endpoints are called in `:authority` and TLS: `host:port`.

    Raises:
        ConfigError: a value is out of its bounds, or dnspython is needed and missing.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        interval: float = 30.0,
        min_interval: float = 5.0,
        keep: float = 0.0,
        nameserver: str | None = None,
    ) -> None:
        check_number("DnsResolver.min_interval", min_interval, above=0)
        check_number("DnsResolver.interval", interval, low=min_interval)
        check_number("DnsResolver.keep", keep, low=0)
        self.keep = keep
        try:
            _check_type("host", host, str)
            check_host(host)
            _check_type("port", port, int)
            parse_port(str(port))
            if nameserver is not None:
                _check_type("nameserver", nameserver, str)
            self._nameserver = None if nameserver is None else parse_nameserver(nameserver)
        except Malformed as error:
            raise ConfigError(f"DnsResolver: {error}") from None
        self._host = host
        self._port = port
        self._interval = interval
        self._min_interval = min_interval
        self._looked_at: float | None = None
        self._wake: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<DnsResolver {self}>"

    def __str__(self) -> str:
        server = "" if self._nameserver is None else join_port(*self._nameserver)
        return f"dns://{server}/{self.authority}"

    @property
    def authority(self) -> str:
        """The host and port, as gRPC names the servers of a `dns:///` target."""
        return join_port(self._host, self._port)

    @property
    def interval(self) -> float:
        """Seconds from one look to the next, and in which one that failed is repeated at the latest."""
        return self._interval

    def refresh(self) -> None:
        """Look again as soon as the floor between looks allows."""
        if self._wake is not None:
            self._wake.set()

    async def resolve(self, update: Update) -> None:
        """Call `update` with the first answer and with each that differs, until cancelled.

        Raises:
            OSError: the name could not be resolved, or has no addresses.
            RuntimeError: it runs already; a resolver serves one channel.
        """
        if self._wake is not None:
            raise RuntimeError(f"{self!r} serves another channel; give each channel its own")
        self._wake = asyncio.Event()
        try:
            await self._follow(update, self._wake)
        finally:
            self._wake = None

    async def _follow(self, update: Update, wake: asyncio.Event) -> None:
        known: tuple[Endpoint, ...] | None = None
        while True:
            await asyncio.sleep(self._until_floor())
            wake.clear()
            answer = await self._look()
            # What the target itself names is connected to as it stands; 0.0.0.0 is this machine on Linux.
            hosts = answer.addresses if is_ip(self._host) else hosts_of(answer.addresses)
            endpoints = endpoints_of(hosts, self._port)
            if not endpoints:
                lack = "addresses of hosts" if answer.addresses else "addresses"
                raise OSError(f"cannot resolve {self._host!r}: the answer has no {lack}")
            if endpoints != known:
                known = endpoints
                update(endpoints)
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next(answer.ttl)):
                    await wake.wait()

    async def _look(self) -> Answer:
        if is_ip(self._host):
            return Answer((self._host,))
        try:
            return await look_up(self._host, self._nameserver)
        finally:
            # The end counts, not the start: a server that is slow to answer gets its rest too.
            self._looked_at = asyncio.get_running_loop().time()

    def _until_floor(self) -> float:
        if self._looked_at is None:
            return 0.0
        elapsed = asyncio.get_running_loop().time() - self._looked_at
        return self._min_interval - max(elapsed, 0.0)  # another loop's clock may be behind

    def _until_next(self, ttl: float | None) -> float | None:
        if is_ip(self._host):
            return None
        return self._interval if ttl is None else min(self._interval, ttl)


def _check_type(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise Malformed(f"{name} is of type {kind.__name__}, not {short(value)}")
