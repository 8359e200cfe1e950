"""What one look at a name does apart from DNS: threads, the hosts file, a missing dnspython."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from healthlb.errors import ConfigError
from healthlb.resolvers import DnsResolver, parse_target
from healthlb.resolvers._answer import in_daemon_thread
from healthlb.resolvers._lookup import is_in_hosts_file
from tests.resolvers.following import follow


async def test_thread_returns_and_raises() -> None:
    assert await in_daemon_thread(lambda: 5) == 5

    with pytest.raises(ZeroDivisionError):
        await in_daemon_thread(lambda: 1 // 0)


def test_unfinished_lookup_does_not_hold_up_the_end_of_the_loop() -> None:
    started, release = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        release.wait(30)

    async def main() -> None:
        task = asyncio.create_task(in_daemon_thread(hang))
        await asyncio.to_thread(started.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    lookups = [thread for thread in threading.enumerate() if thread.name == "healthlb-lookup"]
    assert any(thread.is_alive() for thread in lookups)
    release.set()
    for thread in lookups:  # they find their loop closed, and say nothing
        thread.join(10)


@pytest.mark.parametrize(
    ("name", "is_in"),
    [
        ("db", True),
        ("DB.prod.test", True),
        ("db.prod.test.", True),
        ("prod.test", False),
        ("10.0.0.1", False),
        ("old", False),
        ("10.0.0.9", False),
    ],
)
def test_hosts_file_is_read_by_whole_names(tmp_path: Path, name: str, is_in: bool) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# 10.0.0.9 old\n10.0.0.1\tdb.prod.test  Db # old\n\n10.0.0.2 \xe9\n", encoding="latin-1")

    assert is_in_hosts_file(name, hosts) is is_in


def test_missing_hosts_file_names_nothing(tmp_path: Path) -> None:
    assert not is_in_hosts_file("localhost", tmp_path / "none")


async def test_localhost_resolves_without_dnspython(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns", None)

    async with follow(DnsResolver("localhost", 5)) as following:
        assert "127.0.0.1:5" in await following.updated(1)


async def test_localhost_resolves_with_dnspython() -> None:
    async with follow(DnsResolver("localhost", 5)) as following:
        assert "127.0.0.1:5" in await following.updated(1)


def test_named_server_without_dnspython_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns", None)

    with pytest.raises(ConfigError, match=r"target 'dns://10\.0\.0\.53/svc:1'.*install dnspython"):
        parse_target("dns://10.0.0.53/svc:1")
    with pytest.raises(ConfigError, match=r"DnsResolver.*install dnspython"):
        DnsResolver("svc", 1, nameserver="10.0.0.53")
