"""DNS servers for the tests of the resolvers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.dns_server import Dnsmasq, DnsServer, Records, ScriptedServer

Serve = Callable[..., DnsServer]


@pytest.fixture(params=["dnsmasq", "scripted"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Start a DNS server of each kind: `serve(records, ttl=0)`."""
    if request.param == "dnsmasq" and not Dnsmasq.is_installed():
        pytest.skip("dnsmasq is not installed")
    servers: list[DnsServer] = []

    def start(records: Records, *, ttl: int = 0) -> DnsServer:
        servers.append(Dnsmasq(records, ttl=ttl) if request.param == "dnsmasq" else ScriptedServer(records, ttl=ttl))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A DNS server that knows `svc.test` and can be told to fail."""
    server = ScriptedServer({"svc.test": ["10.0.0.1", "fd00::1"]})
    yield server
    server.close()
