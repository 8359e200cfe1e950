"""The steps of whatever hosts a balancer, on a loop that turns when the test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from healthlb.config import HealthCheck, Heartbeat
from healthlb.core.balancer import Balancer
from healthlb.core.hosting import BalancerHost, ConnectionWatcher
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    CallsRefused,
    CheckEnded,
    CloseConnection,
    Code,
    Connect,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Disconnect,
    Drain,
    EndCalls,
    Endpoint,
    Event,
    Fact,
    HealthReported,
    Probe,
    ProbeEnded,
    RaceConnection,
    RefreshData,
    Replace,
    RescueCalls,
    Resolved,
    ResolveFailed,
    ResolveNow,
    StopWatch,
)
from healthlb.core.pickers import make_factory
from healthlb.core.publication import Publisher
from healthlb.core.random_streams import Streams
from healthlb.core.snapshot import Snapshot
from tests.core.configs import config_of

READY = ConnectivityState.READY
ONE, TWO = Endpoint("10.0.0.1:1"), Endpoint("10.0.0.2:1")
HEALTH = HealthCheck(heartbeat=Heartbeat(interval=5.0, timeout=1.0))


class Wire:
    """A connection, or a Watch."""

    def __init__(self, log: list[Any], name: str) -> None:
        self.log = log
        self.name = name
        self.is_ready = False

    def release(self) -> None:
        self.log.append(("release", self.name))

    def connect(self) -> None:
        self.log.append(("dial", self.name))

    def cancel(self) -> None:
        self.log.append(("cancel", self.name))


class Watcher(ConnectionWatcher):
    """Notes what it does."""

    def __init__(self, log: list[Any], sub: int = 1, endpoint: Endpoint = ONE) -> None:
        self.log = log
        self.count = 0
        super().__init__(sub, endpoint)

    def _connect(self) -> Wire:
        self.count += 1
        self.log.append(("connect", self.count))
        return Wire(self.log, f"connection {self.count}")

    def _is_ready(self) -> bool:
        return bool(self.connection.is_ready)

    def _follow(self) -> None:
        self.log.append(("follow", self.connection.name))

    def _stop(self) -> None:
        self.log.append("stop")
        self._end_watch()

    def _race(self, rival: Wire) -> None:
        self.log.append(("race", rival.name))

    def _open_watch(self, watch: int, service: str) -> Wire | None:
        self.log.append(("watch", watch, service))
        return Wire(self.log, f"watch {watch}") if service else None

    def send_check(self, check: int, service: str, timeout: float) -> None:
        self.log.append(("check", check, service, timeout))

    def send_ping(self, ping: int, timeout: float) -> None:
        self.log.append(("ping", ping, timeout))


class Host(BalancerHost):
    """A loop that turns when it is told to."""

    def __init__(self, service: str | None = "shop") -> None:
        balancer = Balancer(service, config_of(HEALTH), 1)
        factory = make_factory("round_robin", Streams(1).stream("pick"))
        super().__init__(balancer, Publisher(factory, balancer.snapshot))
        self.log: list[Any] = []
        self.now = 0
        self.next: list[Callable[[], None]] = []
        self.snapshot: Snapshot = balancer.snapshot
        self.generation = 0
        self.timer: int | None = None
        self.rescued = 0

    def turn(self, now: int | None = None) -> list[Any]:
        """Let the loop come round; return what was done."""
        self.now = self.now if now is None else now
        while self.next:
            self.next.pop(0)()
        log, self.log = self.log, []
        for watcher in self._watchers.values():
            log += watcher.log
            watcher.log.clear()
        return log

    def _soon(self, act: Callable[[], None]) -> None:
        self.next.append(act)

    def _set_timer(self, at: int | None, now: int) -> None:
        self.timer = at

    def _published(self) -> None:
        self.snapshot = self._publisher.published
        self.log.append("publish")

    def _report(self, fact: Fact) -> None:
        self.log.append(type(fact).__name__)

    def _resolve(self) -> None:
        self.log.append("resolve")

    def _end_calls(self, handle: Subchannel, details: str) -> None:
        self.log.append(("end calls", handle.id, handle.generation, details))

    def _watch(self, sub: int, endpoint: Endpoint) -> Watcher:
        self.log.append(("open", sub))
        return Watcher([], sub, endpoint)

    def _prepare_data(self, sub: int) -> None:
        self.generation += 1
        self.log.append(("prepare", sub))
        self.post(DataReady(sub, self.generation))

    def _forget_data(self, sub: int) -> None:
        super()._forget_data(sub)
        self.log.append(("forget", sub))

    def _close_data(self, sub: int, generation: int) -> None:
        self.log.append(("close", sub, generation))

    def _rescue(self, handle: Subchannel) -> None:
        self.log.append(("rescue", handle.id))
        self._rescued(handle.id, self.rescued)

    def _drain(self) -> None:
        self._handle_all(self.now)


def serving(*endpoints: Endpoint) -> Host:
    """Return a host whose subchannels are READY."""
    host = Host()
    host.post(Resolved(endpoints))
    host.turn()
    for sub in range(1, len(endpoints) + 1):
        host.post(ConnectivityChanged(sub, READY))
        host.turn()
        host.post(HealthReported(sub, 1, 1))
        host.turn()
    assert host.snapshot.state is READY
    return host


def test_a_picker_is_published_before_what_it_left_is_closed() -> None:
    host = serving(ONE, TWO)

    host.post(Resolved((TWO,)))
    done = host.turn()

    assert done.index("publish") < done.index(("forget", 1)) < done.index("Removal")
    assert ("close", 1, 1) in done
    assert [sub.id for sub in host.snapshot.ready] == [2]


def test_what_waits_together_is_one_picker() -> None:
    host = serving(ONE, TWO)
    host.turn()

    for sub in (1, 2):
        host.post(HealthReported(sub, 1, 2))
    done = host.turn()

    assert done.count("publish") == 1
    assert host.snapshot.ready == ()


def test_a_word_that_changes_nothing_publishes_nothing() -> None:
    host = serving(ONE)

    host.post(HealthReported(1, 1, 1))

    assert host.turn() == []


def wait(host: Host) -> list[Any]:
    """Let time pass until something is done; return it."""
    while True:
        assert host.timer is not None
        host.now = host.timer
        host._tick()
        if done := host.turn():
            return done


def test_there_is_one_timer() -> None:
    host = serving(ONE)
    assert host.timer is not None

    assert wait(host) == [("check", 1, "shop", 1.0)]
    assert 0 < host.now <= 5 * SECOND
    assert [(name, number) for name, number, _ in wait(host)] == [("ping", 1)]

    sent_at = host.now
    host.post(CheckEnded(1, 1, Code.OK, 1))
    assert host.turn() == []
    assert host.timer > sent_at


def test_equal_failures_and_refusals_that_wait_are_told_once() -> None:
    host = serving(ONE)
    heard: list[Event] = []
    handle = host._balancer.handle
    host._balancer.handle = lambda event, now: heard.append(event) or handle(event, now)  # type: ignore

    assert [host._note_failure(1, 1, Code.INTERNAL, False) for _ in range(3)] == [True, False, False]
    assert [host._note_refusal("max_in_flight") for _ in range(2)] == [False, False]
    host._take_failures()
    host.turn()

    assert heard == [CallsRefused("max_in_flight", 2), CallFailed(1, 1, Code.INTERNAL, False)]
    assert host._note_refusal("max_waiting")


def test_what_comes_at_once_of_an_effect_is_published_with_it() -> None:
    host = Host()
    host.post(Resolved((ONE,)))
    host.turn()
    published = host.snapshot.generation

    host.post(ConnectivityChanged(1, READY))
    log = host.turn()

    assert ("watch", 1, "shop") in log
    assert host.snapshot.generation == published + 1
    assert host.snapshot.views[0].loads
    assert host.next == []


def test_an_effect_that_fails_holds_up_nothing_that_comes_later() -> None:
    host = Host()
    host.post(Resolved((ONE,)))
    host._watch = lambda sub, endpoint: 1 / 0  # type: ignore[assignment,method-assign]

    with pytest.raises(ZeroDivisionError):
        host.turn()
    host.post(ResolveFailed("SERVFAIL"))

    assert len(host.next) == 1


def test_calls_say_when_a_connection_is_idle_and_a_probe_has_ended() -> None:
    host = serving(ONE)
    (sub,) = host.snapshot.ready
    told: list[Event] = []
    host._post_from_call = told.append  # type: ignore[method-assign]
    sub.load.start()
    sub.load.start()

    host._perform(Probe(sub))
    sub.load.succeed(1)
    host._perform(Drain(sub))
    sub.load.succeed(2)

    assert [type(event).__name__ for event in told] == ["ProbeEnded", "Drained"]
    assert told[0] == ProbeEnded(1, 1)


def test_the_other_effects() -> None:
    host = serving(ONE)

    for effect in (ResolveNow(), RefreshData(1), Replace(1), RaceConnection(1), CloseConnection(1, 7), StopWatch(9, 1)):
        host._perform(effect)

    assert host.log == ["resolve", ("forget", 1), ("prepare", 1), ("forget", 1), ("close", 1, 7)]
    assert host._watchers[1].log == [
        "stop", ("cancel", "watch 1"), ("release", "connection 1"), ("connect", 2), ("follow", "connection 2"),
        ("connect", 3), ("race", "connection 3"),
    ]  # fmt: skip


def test_a_lost_connection_is_dialled_again_or_given_up() -> None:
    host = serving(ONE)

    for effect in (Connect(1), Disconnect(1), Replace(1)):
        host._perform(effect)

    assert host._watchers[1].log == [
        ("dial", "connection 1"), "stop", ("cancel", "watch 1"), ("release", "connection 1"), ("connect", 2),
        ("follow", "connection 2"),
    ]  # fmt: skip


def test_what_was_rescued_is_told() -> None:
    host = serving(ONE)
    sub = host.snapshot.ready[0]

    host._perform(RescueCalls(sub))
    assert host.turn() == [("rescue", 1)]
    host.rescued = 3
    host._perform(RescueCalls(sub))
    assert host.turn() == [("rescue", 1), "Rescue"]
    host._perform(EndCalls(sub, "too long"))
    assert host.turn() == [("end calls", 1, sub.generation, "too long")]


# --- one connection --------------------------------------------------------------------------------------


@pytest.fixture
def log() -> list[Any]:
    return []


@pytest.fixture
def watcher(log: list[Any]) -> Watcher:
    watcher = Watcher(log)
    log.clear()
    return watcher


def test_a_rival_that_wins_takes_over(watcher: Watcher, log: list[Any]) -> None:
    watcher.start_watch(1, "shop")
    watcher.race_connection()
    watcher._won(watcher._rival)

    assert log == [
        ("watch", 1, "shop"), ("connect", 2), ("race", "connection 2"), "stop", ("cancel", "watch 1"),
        ("release", "connection 1"), ("follow", "connection 2"),
    ]  # fmt: skip


def test_a_rival_gives_way_to_the_next_and_to_the_end(watcher: Watcher, log: list[Any]) -> None:
    watcher.race_connection()
    watcher.race_connection()
    watcher.disconnect()
    watcher.disconnect()

    assert [one for one in log if one[0] == "release"] == [
        ("release", "connection 2"), ("release", "connection 3"), ("release", "connection 1"),
    ]  # fmt: skip


def test_a_connection_that_is_up_is_not_raced(watcher: Watcher, log: list[Any]) -> None:
    watcher.connection.is_ready = True
    watcher.race_connection()

    assert log == []


def test_a_watch_that_is_opened_ends_the_one_before(watcher: Watcher, log: list[Any]) -> None:
    watcher.start_watch(1, "shop")
    watcher.start_watch(2, "shop")
    watcher.stop_watch(1)
    assert log == [("watch", 1, "shop"), ("cancel", "watch 1"), ("watch", 2, "shop")]
    watcher.stop_watch(2)
    watcher.start_watch(3, "")
    watcher.stop_watch(3)

    assert log[3:] == [("cancel", "watch 2"), ("watch", 3, "")]
