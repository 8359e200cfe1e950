"""Whatever somebody else does a thousand times a second is told of at a bounded rate: each kind of fact has a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from healthlb.config import HealthCheck, Overload
from healthlb.core import resolution
from healthlb.core.balancer import Balancer
from healthlb.core.facts import (
    Addition,
    Advice,
    BusyBackend,
    ChannelStateChange,
    DroppedFacts,
    Ejection,
    Fact,
    HealthCheckingUnavailable,
    HeartbeatLoss,
    LoadShedding,
    Overflow,
    Panic,
    Release,
    Removal,
    Rescue,
    ResolutionFailure,
    Return,
    StateChange,
    StatusFlood,
    Suppression,
    TooManyAddresses,
    WatchUnavailable,
)
from healthlb.core.messages import (
    SECOND,
    CallsRefused,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Endpoint,
    HealthReported,
    Report,
    Resolved,
    ResolveFailed,
    ServingStatus,
    StartWatch,
    Tick,
)
from tests.core.configs import config_of

SECONDS = 10
MOST = 5
TESTS = Path(__file__).resolve().parents[1]

Flood = Callable[[], Iterator[Any]]


def listing(*names: str) -> Resolved:
    return Resolved(tuple(Endpoint(name) for name in names))


def empty_lists() -> Iterator[Any]:
    while True:
        yield Resolved(())


def failures_between_lists() -> Iterator[Any]:
    while True:
        yield listing("a", "b")
        yield ResolveFailed("SERVFAIL")


def other_lists() -> Iterator[Any]:
    while True:
        yield listing("a", "c")
        yield listing("b", "d")


def long_lists() -> Iterator[Any]:
    length = MOST
    while True:
        length = MOST + 1 + (length + 1) % 50
        yield listing(*(f"a{number}" for number in range(length)))


def flapping() -> Iterator[Any]:
    while True:
        yield ServingStatus.NOT_SERVING
        yield ServingStatus.SERVING


def flapping_alone() -> Iterator[Any]:
    yield listing("a")
    yield from flapping()


def refusals() -> Iterator[Any]:
    while True:
        yield CallsRefused("max_in_flight", 1)


# What is told of, by what, and how often at most: in a burst, and then in a second.
FLOODS: list[tuple[type, Flood, int, int]] = [
    (ResolutionFailure, empty_lists, 10, 1),
    (ResolutionFailure, failures_between_lists, 10, 1),
    (Addition, other_lists, 2 * 10, 2 * 2),
    (Removal, other_lists, 2 * 10, 2 * 2),
    (TooManyAddresses, long_lists, 10, 2),
    (StateChange, flapping, 100, 10),
    (ChannelStateChange, flapping_alone, 50, 10),
    (Panic, flapping, 50, 10),
    (StatusFlood, flapping, 1, 1),
    (Overflow, refusals, 1, 1),
]
# What comes no more often than something else that has a bound, and where that is tested.
ELSEWHERE: dict[type, str] = {
    Advice: "specs/advice-01-each-remedy-is-told-once.toml",
    HealthCheckingUnavailable: "specs/h16-p02-unimplemented-is-asked-again-on-the-next-connection.toml",
    WatchUnavailable: "specs/check-01-without-watch-the-answers-of-check-count.toml",
    HeartbeatLoss: "specs/heartbeat-06-suspicions-keep-a-distance.toml",
    BusyBackend: "specs/heartbeat-06-suspicions-keep-a-distance.toml",
    Rescue: "specs/heartbeat-06-suspicions-keep-a-distance.toml",
    LoadShedding: "specs/heartbeat-06-suspicions-keep-a-distance.toml",
    Ejection: "specs/outlier-07-a-failed-probe-is-a-longer-ejection.toml",
    Return: "specs/outlier-07-a-failed-probe-is-a-longer-ejection.toml",
    Suppression: "specs/damping-02-many-flaps-hold-it-out-until-it-was-quiet.toml",
    Release: "specs/damping-02-many-flaps-hold-it-out-until-it-was-quiet.toml",
    DroppedFacts: "lifecycle/test_floods.py",
}


class Channel:
    """A balancer with two subchannels that are READY, and an outside that says something each millisecond."""

    def __init__(self, panic_threshold: float = 0.0) -> None:
        self.now = 1_000 * SECOND
        config = config_of(
            HealthCheck(heartbeat=None), overload=Overload(max_in_flight=1), panic_threshold=panic_threshold
        )
        self.balancer = Balancer("svc", config, 1)
        self.watches: dict[int, int] = {}
        self.told: list[Any] = []
        self.tell(listing("a", "b"))
        for sub in (1, 2):
            self.tell(ConnectivityChanged(sub, ConnectivityState.READY))
            self.tell(DataReady(sub, 1))
            self.tell(HealthReported(sub, self.watches[sub], ServingStatus.SERVING))

    def tell(self, event: Any) -> None:
        for effect in self.balancer.handle(event, self.now):
            if isinstance(effect, StartWatch):
                self.watches[effect.sub] = effect.watch
            if isinstance(effect, Report):
                self.told.append(effect.fact)

    def suffer(self, flood: Flood) -> None:
        """Take in what comes, for some seconds."""
        self.told.clear()
        for _, event in zip(range(SECONDS * 1000), flood(), strict=False):
            self.now += SECOND // 1000
            if (deadline := self.balancer.deadline) is not None and deadline <= self.now:
                self.tell(Tick())
            self.tell(HealthReported(1, self.watches[1], event) if isinstance(event, ServingStatus) else event)


@pytest.mark.parametrize(
    ("kind", "flood", "burst", "rate"), FLOODS, ids=[f"{kind.__name__}-{flood.__name__}" for kind, flood, *_ in FLOODS]
)
def test_a_flood_is_told_of_at_a_bounded_rate(
    kind: type, flood: Flood, burst: int, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "MOST_ADDRESSES", MOST)
    channel = Channel(panic_threshold=0.6 if kind is Panic else 0.0)
    channel.suffer(flood)
    told = [fact for fact in channel.told if isinstance(fact, kind)]

    assert 0 < len(told) <= burst + rate * SECONDS


def test_failures_that_were_not_told_are_counted_by_the_next_report() -> None:
    channel = Channel()
    channel.suffer(empty_lists)
    told = [fact.failures for fact in channel.told if isinstance(fact, ResolutionFailure)]

    assert told[:12] == [1] * 10 + [991, 1000]


def test_each_kind_of_fact_has_a_bound() -> None:
    assert {kind for kind, *_ in FLOODS} | set(ELSEWHERE) == set(get_args(Fact))
    assert [path for path in ELSEWHERE.values() if not (TESTS / path).exists()] == []
