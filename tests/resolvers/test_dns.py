"""DnsResolver against DNS servers whose records change."""

from __future__ import annotations

import asyncio
import time

import pytest

from healthlb.errors import ConfigError
from healthlb.resolvers import DnsResolver, Endpoint, parse_target
from healthlb.resolvers import _dnspython as dnspython_query
from healthlb.resolvers.dns import endpoints_of
from tests.dns_server import DnsServer, ScriptedServer
from tests.resolvers.conftest import Serve
from tests.resolvers.following import follow

_QUICK = {"interval": 0.05, "min_interval": 0.02}
_LONG = 600.0


def _resolver(server: DnsServer, *, interval: float, min_interval: float) -> DnsResolver:
    return DnsResolver("svc.test", 50051, interval=interval, min_interval=min_interval, nameserver=server.address)


def test_answer_is_sorted_by_number_and_free_of_duplicates() -> None:
    found = endpoints_of(["fd00::2", "10.0.0.10", "fd00:0:0::1", "10.0.0.9", "10.0.0.10", "fd00::1"], 5)

    assert found == tuple(map(Endpoint, ["10.0.0.9:5", "10.0.0.10:5", "[fd00::1]:5", "[fd00::2]:5"]))


async def test_every_record_is_an_endpoint(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.2", "fd00::2", "10.0.0.1", "fd00::1"]})

    async with follow(_resolver(server, **_QUICK)) as following:
        assert await following.updated(1) == ("10.0.0.1:50051", "10.0.0.2:50051", "[fd00::1]:50051", "[fd00::2]:50051")


_NO_HOSTS = ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:239.1.1.1"]


async def test_x12_addresses_that_cannot_be_hosts_are_dropped(serve: Serve) -> None:
    server = serve({"svc.test": [*_NO_HOSTS, "10.0.0.1", "127.0.0.1", "fd00::1"]})

    async with follow(_resolver(server, **_QUICK)) as following:
        assert await following.updated(1) == ("10.0.0.1:50051", "127.0.0.1:50051", "[fd00::1]:50051")
        server.publish({"svc.test": _NO_HOSTS})

        assert "cannot resolve 'svc.test': the answer has no addresses of hosts" in await following.failed()


async def test_a_target_that_is_such_an_address_is_taken_as_it_stands() -> None:
    async with follow(DnsResolver("0.0.0.0", 5, **_QUICK)) as following:
        assert await following.updated(1) == ("0.0.0.0:5",)


async def test_two_hundred_records_arrive_whole(serve: Serve) -> None:
    addresses = [f"10.0.{number // 100}.{number % 100}" for number in range(200)]
    server = serve({"svc.test": addresses})

    async with follow(_resolver(server, **_QUICK)) as following:
        assert set(await following.updated(1)) == {f"{address}:50051" for address in addresses}


async def test_added_and_removed_records_are_seen(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]})

    async with follow(_resolver(server, **_QUICK)) as following:
        await following.updated(1)
        server.publish({"svc.test": ["10.0.0.1", "fd00::1"]})
        await following.updated(2)
        server.publish({"svc.test": ["fd00::1"]})
        await following.updated(3)

        assert following.updates == [
            ("10.0.0.1:50051",),
            ("10.0.0.1:50051", "[fd00::1]:50051"),
            ("[fd00::1]:50051",),
        ]


async def test_unchanged_answer_is_no_update(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]})

    async with follow(_resolver(server, **_QUICK)) as following:
        await following.updated(1)
        await asyncio.to_thread(server.wait_for_queries, "svc.test", 6)

        assert len(following.updates) == 1


async def test_name_that_vanishes_raises_and_is_no_empty_update(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]})

    async with follow(_resolver(server, **_QUICK)) as following:
        await following.updated(1)
        server.publish({"other.test": ["10.0.0.2"]})
        text = await following.failed()

        assert "cannot resolve 'svc.test'" in text
        assert "does not exist" in text
        assert following.updates == [("10.0.0.1:50051",)]


async def test_resolve_works_again_after_it_raised(serve: Serve) -> None:
    server = serve({})
    resolver = _resolver(server, **_QUICK)
    async with follow(resolver) as following:
        await following.failed()
        server.publish({"svc.test": ["10.0.0.1"]})
        following.start(resolver)

        assert await following.updated(1) == ("10.0.0.1:50051",)


async def test_new_run_reports_the_list_anew(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]})
    resolver = _resolver(server, **_QUICK)
    for _ in range(2):
        async with follow(resolver) as following:
            assert await following.updated(1) == ("10.0.0.1:50051",)


@pytest.mark.parametrize(
    ("failure", "said"),
    [("SERVFAIL", "SERVFAIL"), ("REFUSED", "REFUSED"), ("NODATA", "not contain an answer"), ("SILENCE", "timed out")],
)
async def test_failing_server_raises_and_is_no_update(
    scripted: ScriptedServer, failure: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnspython_query, "_LIFETIME", 0.3)
    async with follow(_resolver(scripted, **_QUICK)) as following:
        await following.updated(1)
        scripted.script("A", failure)
        scripted.script("AAAA", failure)
        # The two take effect one after the other, so that an update in between may lack the one type.
        text = await following.failed()

        assert said in text
        assert () not in following.updates


async def test_dead_server_raises_within_its_patience(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnspython_query, "_LIFETIME", 0.3)
    server = serve({"svc.test": ["10.0.0.1"]})

    async with follow(_resolver(server, **_QUICK)) as following:
        await following.updated(1)
        server.close()
        await following.failed()

        assert following.updates == [("10.0.0.1:50051",)]


@pytest.mark.parametrize("failure", ["SERVFAIL", "NXDOMAIN", "NODATA", "SILENCE"])
@pytest.mark.parametrize(("failing", "left"), [("AAAA", "10.0.0.1:50051"), ("A", "[fd00::1]:50051")])
async def test_one_record_type_is_enough(
    scripted: ScriptedServer, failing: str, left: str, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnspython_query, "_LIFETIME", 0.3)
    scripted.script(failing, failure)

    async with follow(_resolver(scripted, **_QUICK)) as following:
        assert await following.updated(1) == (left,)


async def test_error_tells_of_the_type_that_could_not_be_asked(scripted: ScriptedServer) -> None:
    scripted.script("A", "NXDOMAIN")
    scripted.script("AAAA", "SERVFAIL")

    async with follow(_resolver(scripted, **_QUICK)) as following:
        assert "SERVFAIL" in await following.failed()


async def test_ttl_shorter_than_the_interval_is_followed(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]}, ttl=1)
    started = time.monotonic()

    async with follow(_resolver(server, interval=_LONG, min_interval=0.05)) as following:
        await following.updated(1)
        server.publish({"svc.test": ["10.0.0.2"]})

        assert await following.updated(2) == ("10.0.0.2:50051",)
        assert time.monotonic() - started > 0.99


async def test_ttl_longer_than_the_interval_is_not_waited_for(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]}, ttl=3600)

    async with follow(_resolver(server, interval=0.1, min_interval=0.05)) as following:
        await following.updated(1)
        server.publish({"svc.test": ["10.0.0.2"]})

        assert await following.updated(2) == ("10.0.0.2:50051",)


async def test_floor_holds_for_a_ttl_of_zero(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]}, ttl=0)
    started = time.monotonic()

    async with follow(_resolver(server, interval=_LONG, min_interval=0.2)):
        await asyncio.to_thread(server.wait_for_queries, "svc.test", 4)

        assert time.monotonic() - started > 0.59


async def test_refresh_looks_at_once_when_the_floor_allows(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]}, ttl=3600)
    resolver = _resolver(server, interval=_LONG, min_interval=0.01)

    async with follow(resolver) as following:
        await following.updated(1)
        server.publish({"svc.test": ["10.0.0.2"]})
        resolver.refresh()

        assert await following.updated(2) == ("10.0.0.2:50051",)


async def test_many_refreshes_do_not_break_the_floor(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]}, ttl=3600)
    resolver = _resolver(server, interval=_LONG, min_interval=0.4)
    started = time.monotonic()

    async with follow(resolver) as following:
        await following.updated(1)
        server.publish({"svc.test": ["10.0.0.2"]})
        while len(following.updates) < 2 and time.monotonic() < started + 10:
            resolver.refresh()
            await asyncio.sleep(0.01)

        assert following.updates[1:] == [("10.0.0.2:50051",)]
        assert time.monotonic() - started > 0.39
        assert server.queries("svc.test") <= 1 + (time.monotonic() - started) / 0.39


async def test_floor_holds_across_failures_and_new_runs(serve: Serve) -> None:
    server = serve({})
    resolver = _resolver(server, interval=_LONG, min_interval=0.2)
    started = time.monotonic()
    for _ in range(4):
        async with follow(resolver) as following:
            await following.failed()

    elapsed = time.monotonic() - started
    server.wait_for_queries("svc.test", 4)  # dnsmasq tells of them a little later

    assert elapsed > 0.59
    assert server.queries("svc.test") == 4


async def test_cancelling_does_not_wait_for_a_silent_server(scripted: ScriptedServer) -> None:
    scripted.script("A", "SILENCE")
    scripted.script("AAAA", "SILENCE")
    async with follow(_resolver(scripted, **_QUICK)):
        await asyncio.to_thread(scripted.wait_for_queries, "svc.test", 1)
        started = time.monotonic()

    assert time.monotonic() - started < 3.0  # a query is given up after 5 s


async def test_cancelling_right_after_a_refresh_ends_it(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]}, ttl=3600)
    resolver = _resolver(server, interval=_LONG, min_interval=0.01)
    async with follow(resolver) as following:
        await following.updated(1)
        await asyncio.sleep(0.01)  # into its wait
        resolver.refresh()


async def test_second_channel_is_refused(scripted: ScriptedServer) -> None:
    resolver = _resolver(scripted, **_QUICK)
    async with follow(resolver) as following:
        await following.updated(1)
        with pytest.raises(RuntimeError, match="give each channel its own"):
            await resolver.resolve(lambda endpoints: None)
        scripted.publish({"svc.test": ["10.0.0.2"]})

        assert await following.updated(2) == ("10.0.0.2:50051",)


async def test_named_server_of_a_uri_is_asked(serve: Serve) -> None:
    server = serve({"svc.test": ["10.0.0.1"]})
    target = parse_target(f"dns://{server.address}/svc.test:7")

    async with follow(target.resolver) as following:
        assert await following.updated(1) == ("10.0.0.1:7",)


@pytest.mark.parametrize(("host", "address"), [("10.0.0.1", "10.0.0.1:5"), ("fd00:0::1", "[fd00::1]:5")])
async def test_ip_address_needs_no_server(scripted: ScriptedServer, host: str, address: str) -> None:
    resolver = DnsResolver(host, 5, nameserver=scripted.address, **_QUICK)

    async with follow(resolver) as following:
        assert await following.updated(1) == (address,)
        resolver.refresh()

        assert scripted.queries(host) == 0


def test_refresh_without_a_run_is_harmless() -> None:
    DnsResolver("svc.test", 5).refresh()


def test_repr_and_authority() -> None:
    resolver = DnsResolver("::1", 5, nameserver="[::1]")

    assert repr(resolver) == "<DnsResolver dns://[::1]:53/[::1]:5>"
    assert resolver.authority == "[::1]:5"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"host": "a b"}, "'a b'"),
        ({"host": ""}, "host"),
        ({"host": None}, "None"),
        ({"host": "[::1]"}, "[::1]"),
        ({"port": 0}, "'0'"),
        ({"port": 65536}, "'65536'"),
        ({"port": "443"}, "'443'"),
        ({"port": True}, "True"),
        ({"interval": 0}, "DnsResolver.interval"),
        ({"interval": 4}, "at least 5"),
        ({"interval": float("nan")}, "nan"),
        ({"interval": "30"}, "'30'"),
        ({"min_interval": 0}, "DnsResolver.min_interval"),
        ({"min_interval": float("inf")}, "inf"),
        ({"min_interval": True}, "True"),
        ({"nameserver": "ns.test"}, "'ns.test'"),
        ({"nameserver": ""}, "empty"),
        ({"nameserver": "10.0.0.1:0"}, "'0'"),
        ({"nameserver": 53}, "53"),
    ],
)
def test_bad_options_are_config_errors(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match="DnsResolver") as raised:
        DnsResolver(**{"host": "svc.test", "port": 5, **arguments})  # type: ignore[arg-type]

    assert named in str(raised.value)
