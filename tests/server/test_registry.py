"""The registry alone: no server, no thread but where a race is the point."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

import pytest

from healthlb.errors import ConfigError
from healthlb.server.contexts import client_of
from healthlb.server.limits import WatchCounts, WatchLimits, WatchRefused
from healthlb.server.registry import Registry

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)


class Announced(list[str]):
    """A courier that collects what was announced."""

    __hash__ = object.__hash__

    def announce(self, name: str) -> None:
        self.append(name)


COURIER = Announced()


def make(**limits: int) -> tuple[Registry, Announced]:
    COURIER.clear()
    return Registry(WatchLimits(**limits)), COURIER


def test_the_server_as_a_whole_is_serving_at_first() -> None:
    registry, _ = make()

    assert registry.statuses() == {"": SERVING}
    assert registry.get("svc") is None


def test_a_watcher_takes_each_status_once() -> None:
    registry, _ = make()
    watcher = registry.watch("svc", client_of("unix:"), COURIER)

    assert [watcher.take(), watcher.take()] == [SERVICE_UNKNOWN, None]
    registry.set("svc", SERVING)
    registry.set("svc", SERVING)
    assert watcher.has_news
    assert [watcher.take(), watcher.take()] == [SERVING, None]
    assert not watcher.has_news


def test_the_latest_status_wins() -> None:
    registry, _ = make()
    watcher = registry.watch("svc", client_of("unix:"), COURIER)
    for status in (SERVING, UNKNOWN, NOT_SERVING):
        registry.set("svc", status)

    assert [watcher.take(), watcher.take()] == [NOT_SERVING, None]


def test_a_status_that_came_back_is_not_told_again() -> None:
    registry, _ = make()
    watcher = registry.watch("", client_of("unix:"), COURIER)
    watcher.take()
    registry.set("", NOT_SERVING)
    registry.set("", SERVING)

    assert watcher.take() is None


def test_changes_are_announced_once_until_somebody_asks() -> None:
    registry, announced = make()
    watcher = registry.watch("svc", client_of("unix:"), COURIER)
    registry.set("other", SERVING)
    registry.set("svc", SERVING)
    registry.set("svc", NOT_SERVING)

    assert announced == ["svc"]
    assert registry.watchers("svc", COURIER) == (watcher,)
    registry.set("svc", SERVING)
    assert announced == ["svc", "svc"]


def test_shutting_down_hides_what_is_set_until_resume() -> None:
    registry, announced = make()
    registry.set("a", SERVING)
    watcher = registry.watch("a", client_of("unix:"), COURIER)
    watcher.take()
    registry.shut_down()

    assert registry.statuses() == {"": NOT_SERVING, "a": NOT_SERVING}
    assert (announced, watcher.take()) == (["a"], NOT_SERVING)
    registry.set("a", UNKNOWN)
    registry.set("new", SERVING)
    assert (registry.get("a"), registry.get("new"), registry.get("never")) == (NOT_SERVING, NOT_SERVING, None)
    registry.resume()
    assert registry.statuses() == {"": SERVING, "a": UNKNOWN, "new": SERVING}
    assert watcher.take() == UNKNOWN


def test_sets_during_a_shutdown_do_not_show() -> None:
    registry, _ = make()
    threads = [threading.Thread(target=registry.set, args=("svc", SERVING)) for _ in range(100)]
    for thread in threads:
        thread.start()
    registry.shut_down()
    for thread in threads:
        thread.join()

    assert registry.get("svc") == NOT_SERVING


def test_closing_ends_watchers_after_their_last_status() -> None:
    registry, announced = make()
    known, unknown = (
        registry.watch("", client_of("unix:"), COURIER),
        registry.watch("never", client_of("unix:"), COURIER),
    )
    known.take(), unknown.take()
    registry.close()

    assert announced == ["", "never"]
    assert (known.take(), known.take(), known.is_ended) == (NOT_SERVING, None, True)
    assert (unknown.take(), unknown.is_ended, unknown.has_news) == (None, True, True)
    unknown.leave()
    assert (unknown.is_ended, unknown.has_news) == (False, False)
    with pytest.raises(WatchRefused) as refused:
        registry.watch("", client_of("unix:"), COURIER)
    assert refused.value.code == "UNAVAILABLE"


def test_leaving_leaves_nothing_behind() -> None:
    registry, _ = make()
    watchers = [
        registry.watch(f"name {number % 7}", client_of(f"ipv4:10.0.0.1:{number}"), COURIER) for number in range(50)
    ]
    registry.set("name 3", SERVING)
    for watcher in watchers * 2:
        watcher.leave()

    assert registry.watcher_count() == 0
    assert repr(registry) == "<Registry open, 2 services, <WatchCounts 0 watchers of 0 clients, 0 unknown names>>"
    assert registry._watchers == {}
    assert registry._counts._names_of == {}


@pytest.mark.parametrize(
    ("limits", "peers", "names", "details"),
    [
        ({"watchers": 2}, "ab c", "xxx", "too many watchers: the limit is 2"),
        ({"watchers_per_client": 2}, "aaa", "xxx", "too many watchers of ipv4:a: the limit is 2"),
        ({"unknown_names": 2}, "abc", "xyz", "too many unknown names: the limit is 2"),
        ({"unknown_names_per_client": 2}, "aaa", "xyz", "too many unknown names of ipv4:a: the limit is 2"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(limits: dict[str, int], peers: str, names: str, details: str) -> None:
    registry, _ = make(**limits)
    *fine, (peer, name) = zip(peers.replace(" ", ""), names, strict=True)
    watchers = [
        registry.watch(name, client_of(f"ipv4:{peer}:{port}"), COURIER) for port, (peer, name) in enumerate(fine)
    ]
    with pytest.raises(WatchRefused) as refused:
        registry.watch(name, client_of(f"ipv4:{peer}:9"), COURIER)

    assert (refused.value.code, str(refused.value)) == ("RESOURCE_EXHAUSTED", details)
    watchers[0].leave()
    assert registry.watch(name, client_of(f"ipv4:{peer}:9"), COURIER).name == name


def test_known_names_and_names_that_others_watch_are_no_new_names() -> None:
    registry, _ = make(unknown_names=1, unknown_names_per_client=1)
    registry.set("known", SERVING)
    for _ in range(3):
        registry.watch("known", client_of("ipv4:a:1"), COURIER)
        registry.watch("unknown", client_of("ipv4:a:1"), COURIER)
        registry.watch("unknown", client_of("ipv4:b:1"), COURIER)

    assert registry.watcher_count() == 9


def test_names_that_nobody_could_watch_are_not_set() -> None:
    registry, _ = make()
    registry.set("ü" * 512, SERVING)
    with pytest.raises(ConfigError, match=r"at most 1024 bytes \(WatchLimits.name_length\), not one of 1025, 'xü"):
        registry.set("x" + "ü" * 512, SERVING)
    longer, _ = make(name_length=5000)
    longer.set("x" * 5000, SERVING)

    assert set(registry.statuses()) == {"", "ü" * 512}
    assert longer.get("x" * 5000) == SERVING


def test_long_names_are_refused() -> None:
    registry, _ = make()
    registry.watch("ü" * 512, client_of("unix:"), COURIER)
    with pytest.raises(WatchRefused) as refused:
        registry.watch("ü" * 512 + "x", client_of("unix:"), COURIER)

    assert (refused.value.code, str(refused.value)) == (
        "INVALID_ARGUMENT",
        "a service name of 1025 bytes, not 1024",
    )


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:10.0.0.1:80", "ipv4:10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3::4%5D:80", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:ffff::]:80", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:%5B::1%5D:80", "ipv6:::/64"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:80", "ipv4:10.0.0.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:80", "ipv6:fe80::1%eth0"),
        ("ipv6:%5B64:ff9b::a00:1%5D:80", "ipv6:64:ff9b::a00:1"),
        ("ipv6:%5Bno address%5D:80", "ipv6:no address"),
        ("unix:", "unix:"),
        ("unix:/run/s:1", "unix:/run/s:1"),
        ("", "an unknown client"),
    ],
)
def test_a_client_is_an_address_a_network_or_a_socket(peer: str, client: str) -> None:
    assert client_of(peer) == client


def test_many_greedy_clients_leave_room_for_others() -> None:
    registry, _ = make(watchers=40, watchers_per_client=10)
    held: Counter[str] = Counter()
    for client in "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcd":
        with suppress(WatchRefused):
            registry.watch("", client, COURIER)
            held[client] += 1

    assert (sum(held.values()), max(held.values()) - min(held.values())) == (32, 0)
    with pytest.raises(WatchRefused, match="too many watchers of a: 8, and others have left 8 of 40"):
        registry.watch("", "a", COURIER)
    for number in range(8):
        registry.watch("", f"honest {number}", COURIER)
    with pytest.raises(WatchRefused, match="too many watchers: the limit is 40"):
        registry.watch("", "late", COURIER)


def test_many_clients_of_unknown_names_leave_room_for_others() -> None:
    registry, _ = make(unknown_names=1000, unknown_names_per_client=100)
    for client in range(10):
        with suppress(WatchRefused):
            for number in range(100):
                registry.watch(f"{client} {number}", f"greedy {client}", COURIER)

    registry.watch("not set yet", "honest", COURIER)
    assert registry.watcher_count() < 1000


def test_one_client_may_have_all_where_it_is_allowed_to() -> None:
    registry, _ = make(watchers=5, watchers_per_client=5)
    for _ in range(5):
        registry.watch("", "sidecar", COURIER)

    assert registry.watcher_count() == 5


def test_a_warning_comes_before_the_limit_once(caplog: pytest.LogCaptureFixture) -> None:
    registry, _ = make(watchers=10, unknown_names=100)
    watchers = [registry.watch("", "ab"[number % 2], COURIER) for number in range(10)]

    assert [record.message for record in caplog.records] == ["8 of 10 watchers are in use; most by a (4), b (4)"]
    for watcher in watchers[4:]:
        watcher.leave()
    for _ in range(6):
        registry.watch("", "c", COURIER)
    assert len(caplog.records) == 2


def test_each_courier_hears_of_its_own_watchers() -> None:
    registry, first = make()
    second = Announced()
    one, two = registry.watch("svc", "a", first), registry.watch("svc", "a", second)
    registry.set("svc", SERVING)

    assert (first, second) == (["svc"], ["svc"])
    assert (registry.watchers("svc", first), registry.watchers("svc", second)) == ((one,), (two,))
    one.leave()
    registry.set("svc", NOT_SERVING)
    assert (first, second) == (["svc"], ["svc", "svc"])


@pytest.mark.parametrize("status", [4, -1, "SERVING", None, True, 1.0])
def test_bad_statuses_are_refused(status: object) -> None:
    registry, _ = make()
    with pytest.raises(ConfigError, match="status of 'svc' must be one of UNKNOWN"):
        registry.set("svc", status)  # type: ignore[arg-type]

    assert registry.get("svc") is None


def test_names_that_are_no_strings_are_refused() -> None:
    registry, _ = make()
    with pytest.raises(ConfigError, match="service must be a string, not b'svc'"):
        registry.set(b"svc", SERVING)  # type: ignore[arg-type]


def test_names_that_cannot_be_sent_are_refused() -> None:
    registry, _ = make()
    with pytest.raises(ConfigError, match="UTF-8"):
        registry.set("\udcff", 1)

    assert registry.statuses() == {"": 1}


def test_limits_must_be_limits() -> None:
    with pytest.raises(ConfigError, match="limits must be a WatchLimits, not 7"):
        Registry(7)  # type: ignore[arg-type]


def test_a_refused_watch_is_not_counted() -> None:
    counts = WatchCounts(WatchLimits(unknown_names_per_client=1))
    counts.join("a", "x")
    with pytest.raises(WatchRefused):
        counts.join("a", "y")

    assert (counts.watchers, counts.unknown_names) == (1, 1)
