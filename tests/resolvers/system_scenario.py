"""A program for a network namespace of its own, where it may be the DNS server of the whole system.

Prints as JSON what DnsResolver says there; test_system_resolver.py starts it and judges.
Its argument is "getaddrinfo" (as if dnspython were not installed) or "dnspython".
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from healthlb.resolvers import DnsResolver
from tests.dns_server import Dnsmasq, DnsServer, ScriptedServer
from tests.resolvers.following import follow

_FIRST = {"svc.prod.test": ["10.0.0.1", "fd00::1"], "pinned.prod.test": ["10.0.0.9"]}
_MIN_INTERVAL = 0.05


async def _follow_changes(server: DnsServer, interval: float) -> dict[str, Any]:
    async with follow(DnsResolver("svc", 50051, interval=interval, min_interval=_MIN_INTERVAL)) as following:
        await following.updated(1)
        server.publish({"svc.prod.test": ["10.0.0.2", "10.0.0.1"]})
        await following.updated(2)
        server.publish({"other.test": ["10.0.0.3"]})
        error = await following.failed()
    return {"updates": following.updates, "error": error}


async def _look_once(host: str) -> tuple[str, ...]:
    async with follow(DnsResolver(host, 1)) as following:
        return await following.updated(1)


async def _run(server: DnsServer, interval: float) -> dict[str, Any]:
    return {
        "pinned": await _look_once("pinned.prod.test"),
        "localhost": await _look_once("localhost"),
        "aliased": await _look_once("aliased"),
        **await _follow_changes(server, interval),
    }


def main() -> None:
    if sys.argv[1] == "getaddrinfo":
        sys.modules["dns"] = None  # type: ignore[assignment]
        interval = 0.1
    else:
        interval = 600.0  # the TTL of a second is what makes it look again
    server_type = Dnsmasq if Dnsmasq.is_installed() else ScriptedServer
    server = server_type(_FIRST, ttl=1, port=53)
    try:
        print(json.dumps(asyncio.run(_run(server, interval))))
    finally:
        server.close()


if __name__ == "__main__":
    main()
