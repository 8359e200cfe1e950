from __future__ import annotations

import itertools
from collections import Counter

import pytest

from healthlb.config import HealthCheck, Heartbeat
from healthlb.core.balancer import Balancer
from healthlb.core.messages import (
    SECOND,
    CheckEnded,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    Endpoint,
    Event,
    HealthReported,
    Resolved,
    SendCheck,
    Tick,
)
from healthlb.core.subchannel.dialling import Pace
from tests.core.configs import config_of

START = 1_000 * SECOND
READY = ConnectivityState.READY


class Answered:
    """A fleet that answers every Check at once; keeps when each was sent."""

    def __init__(self, count: int, interval: float) -> None:
        self.balancer = Balancer("svc", config_of(HealthCheck(heartbeat=Heartbeat(interval=interval))), seed=1)
        self.now = START
        self.sent: list[tuple[int, int]] = []
        self.tell(Resolved(tuple(Endpoint(f"host-{number}") for number in range(count))))
        for sub in range(1, count + 1):
            self.tell(ConnectivityChanged(sub, READY))
            self.tell(HealthReported(sub, 1, 1))

    def tell(self, event: Event) -> None:
        for effect in self.balancer.handle(event, self.now):
            if isinstance(effect, SendCheck):
                self.sent.append((self.now - START, effect.sub))
                self.tell(CheckEnded(effect.sub, effect.check, Code.OK))

    def run(self, seconds: int) -> None:
        end = self.now + seconds * SECOND
        while (deadline := self.balancer.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tell(Tick())
        self.now = end


def test_first_checks_are_spread_over_the_interval() -> None:
    """P8: connections that came up together must not be asked together."""
    fleet = Answered(180, interval=20.0)
    fleet.run(20)
    first: dict[int, int] = {}
    for at, sub in fleet.sent:
        first.setdefault(sub, at)
    per_quarter = Counter(at * 4 // (20 * SECOND) for at in first.values())

    assert len(first) == 180
    assert all(30 <= per_quarter[quarter] <= 60 for quarter in range(4))


def test_no_silence_is_longer_than_the_interval() -> None:
    fleet = Answered(20, interval=10.0)
    fleet.run(200)

    for sub in range(1, 21):
        times = [0, *(at for at, who in fleet.sent if who == sub), fleet.now - START]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert max(gaps) <= 10 * SECOND
        assert min(gaps[1:-1]) >= 7.5 * SECOND


@pytest.mark.parametrize("count", [200, 500])
def test_a_process_sends_ten_a_second_at_most(count: int) -> None:
    fleet = Answered(count, interval=1.0)
    fleet.run(200)
    per_twenty_seconds = Counter(at // (20 * SECOND) for at, _ in fleet.sent)

    assert sum(per_twenty_seconds.values()) == pytest.approx(1_900, rel=0.05)
    assert max(per_twenty_seconds.values()) <= 250


@pytest.mark.parametrize(("count", "grid"), [(90, SECOND // 4), (200, SECOND // 2), (500, SECOND)])
def test_checks_share_wake_ups(count: int, grid: int) -> None:
    fleet = Answered(count, interval=10.0)
    fleet.run(100)

    assert {at % grid for at, _ in fleet.sent} == {0}


def test_channels_of_a_process_share_the_pace() -> None:
    pace = Pace()
    policy = HealthCheck(heartbeat=Heartbeat(interval=1.0))
    balancers = [Balancer("svc", config_of(policy), seed, pace=pace) for seed in (1, 2)]
    for balancer in balancers:
        balancer.handle(Resolved(tuple(Endpoint(f"host-{number}") for number in range(190))), 0)

    assert pace.interval(SECOND) == 380 * SECOND // 9

    balancers[0].handle(Resolved((Endpoint("host-0"),)), 0)

    assert (pace.members + pace.dials.queued, pace.interval(SECOND)) == (191, 191 * SECOND // 9)
