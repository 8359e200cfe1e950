"""The dials of a process: how many addresses enter a channel at a time, and how often dead ones are dialled again."""

from __future__ import annotations

from typing import Any

from healthlb.config import Backoff, HealthCheck
from healthlb.core.balancer import Balancer
from healthlb.core.messages import (
    SECOND,
    Closing,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Disconnect,
    Endpoint,
    HealthReported,
    OpenSubchannel,
    RaceConnection,
    Replace,
    Report,
    Resolved,
    ResolveFailed,
    Tick,
    TooManyAddresses,
)
from healthlb.core.resolution import MOST_ADDRESSES
from healthlb.core.subchannel.dialling import Pace
from tests.core.configs import config_of

IDLE, CONNECTING, READY, FAILURE, SHUTDOWN = ConnectivityState
START = 1_000 * SECOND
POLICY = HealthCheck(heartbeat=None, reconnect=Backoff(initial=0.2, maximum=1.0, jitter=0.0))


class Channel:
    """A balancer whose attempts end as told."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.now = START
        self.pace = pace or Pace()
        self.balancer = Balancer("svc", config_of(POLICY), 1, pace=self.pace)
        self.effects: list[Any] = []

    def tell(self, event: Any) -> list[Any]:
        effects = self.balancer.handle(event, self.now)
        self.effects += effects
        return effects

    def run(self, seconds: float) -> list[Any]:
        end, before = self.now + round(seconds * SECOND), len(self.effects)
        while (deadline := self.balancer.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tell(Tick())
        self.now = end
        return self.effects[before:]

    def resolve(self, count: int, start: int = 0) -> None:
        self.tell(Resolved(tuple(Endpoint(f"a{number}") for number in range(start, start + count))))

    def fail(self, *subs: int) -> None:
        for sub in subs:
            self.tell(ConnectivityChanged(sub, FAILURE, "refused"))

    def serve(self, sub: int) -> None:
        self.tell(ConnectivityChanged(sub, READY))
        self.tell(DataReady(sub, sub))
        self.tell(HealthReported(sub, 1, 1))

    @property
    def opened(self) -> list[str]:
        return [effect.endpoint.address for effect in self.effects if isinstance(effect, OpenSubchannel)]

    def count(self, kind: type) -> int:
        return sum(isinstance(effect, kind) for effect in self.effects)


def test_a_hundred_enter_at_a_time_in_order() -> None:
    channel = Channel()
    channel.resolve(100)

    assert channel.opened == [f"a{number}" for number in range(100)]
    assert channel.pace.dials.waiting == 0


def test_the_others_enter_as_first_attempts_end_from_both_ends_of_the_list() -> None:
    channel = Channel()
    channel.resolve(150)
    assert len(channel.opened) == 100
    assert {"a0", "a149", "a1", "a148"} <= set(channel.opened)
    channel.fail(1)
    channel.serve(2)
    channel.tell(ConnectivityChanged(3, IDLE))

    assert len(channel.opened) == 103
    assert channel.balancer.snapshot.state is READY


def test_an_attempt_without_an_answer_gives_way_after_a_second_where_somebody_is_ready() -> None:
    channel = Channel()
    channel.resolve(150)
    channel.serve(1)
    channel.run(0.98)
    assert len(channel.opened) == 101
    channel.run(0.12)

    assert len(channel.opened) == 150
    assert sorted(channel.opened) == sorted(f"a{number}" for number in range(150))


def test_while_nobody_is_ready_the_one_that_is_well_is_found_soon_among_silent_ones() -> None:
    channel = Channel()
    channel.resolve(402)
    opened = [len(channel.opened)]
    for _ in range(4):
        channel.run(0.1)
        opened.append(len(channel.opened))
    assert opened == [100, 200, 300, 400, 402]
    assert {"a200", "a201"} <= set(channel.opened)


def test_a_thousand_addresses_are_dialled_a_second_at_most_until_somebody_is_ready() -> None:
    pace = Pace()
    first, second = Channel(pace), Channel(pace)
    for channel in (first, second):
        channel.resolve(5_000)
    for step in range(1, 21):
        for channel in (first, second):
            channel.run(0.1)
        # Each channel may have five beyond the hundred at a time.
        assert len(first.opened) + len(second.opened) <= 105 * (step + 1)
    opened = len(first.opened)
    assert opened >= 900
    first.serve(1)
    first.run(0.9)

    assert len(first.opened) <= opened + 101


def test_a_channel_is_connecting_while_addresses_have_yet_to_enter() -> None:
    channel = Channel()
    channel.resolve(150)
    channel.tell(ResolveFailed("SERVFAIL"))
    channel.fail(*range(1, 101))
    assert channel.balancer.snapshot.state is CONNECTING
    channel.fail(*range(101, 151))

    assert channel.balancer.snapshot.state is FAILURE


def test_a_new_list_takes_the_place_of_what_waits_and_closing_ends_it() -> None:
    channel = Channel()
    channel.resolve(150)
    channel.resolve(120, start=1000)
    assert channel.pace.dials.waiting == 1
    channel.run(2.0)
    assert len(channel.balancer.snapshot.views) == 120
    channel.resolve(300, start=2000)
    channel.tell(Closing())

    assert channel.pace.dials.waiting == 0
    assert channel.pace.dials.dead == [0, 0]
    assert channel.balancer.deadline is None


def test_channels_of_a_process_share_the_room_and_none_waits_for_another() -> None:
    pace = Pace()
    first, second, small = Channel(pace), Channel(pace), Channel(pace)
    first.resolve(1000)
    second.resolve(1000)
    small.resolve(2)
    assert (len(first.opened), len(second.opened), len(small.opened)) == (100, 5, 2)
    first.serve(1)
    second.serve(1)
    for _ in range(40):
        for channel in (first, second):
            channel.run(0.1)

    # Halves of the room, once a second.
    assert abs(len(first.opened) - len(second.opened)) <= 150
    assert 150 <= len(second.opened) <= 250


def test_few_dead_addresses_are_left_to_the_transport() -> None:
    channel = Channel()
    channel.resolve(50)
    channel.fail(*range(1, 51))

    assert channel.count(Disconnect) == 0


def test_the_more_are_dead_the_less_often_each_is_dialled() -> None:
    channel = Channel()
    channel.resolve(500)
    for sub in range(1, 501):
        channel.fail(sub)
    assert channel.pace.dials.dead == [0, 500]
    assert channel.count(Disconnect) == 450
    for _ in range(200):
        for effect in channel.run(0.1):
            if isinstance(effect, Replace):
                channel.fail(effect.sub)

    # 50 a second at most, and each of them about every 10 s.
    assert 450 <= channel.count(Replace) <= 20 * 50


def test_addresses_that_were_connected_before_come_first() -> None:
    channel = Channel()
    channel.resolve(300)
    for sub in range(1, 301):
        channel.serve(sub) if sub <= 10 else channel.fail(sub)
    for sub in range(1, 11):
        channel.fail(sub)

    assert channel.pace.dials.dead == [10, 290]
    assert not any(isinstance(effect, Disconnect) and effect.sub <= 10 for effect in channel.effects)


def test_one_that_is_back_or_removed_is_dead_no_more() -> None:
    channel = Channel()
    channel.resolve(3)
    channel.fail(1, 2, 3)
    channel.serve(1)
    assert channel.pace.dials.dead == [0, 2]
    channel.resolve(2)

    assert channel.pace.dials.dead == [0, 1]


def test_attempts_that_hang_are_raced_while_they_are_few() -> None:
    few, many = Channel(), Channel()
    few.resolve(10)
    many.resolve(1000)
    for channel in (few, many):
        channel.run(20.0)

    assert few.count(RaceConnection) == 10 * 20
    assert many.count(RaceConnection) < 200


def test_a_list_beyond_all_measure_is_used_in_part_and_told_of_once() -> None:
    channel = Channel()
    channel.resolve(MOST_ADDRESSES + 1)
    told = [effect.fact for effect in channel.effects if isinstance(effect, Report)]
    channel.resolve(MOST_ADDRESSES + 1)
    channel.run(120.0)

    assert [fact for fact in told if isinstance(fact, TooManyAddresses)] == [
        TooManyAddresses(START, MOST_ADDRESSES + 1, MOST_ADDRESSES)
    ]
    assert len(channel.balancer.snapshot.views) == MOST_ADDRESSES
    assert sum(isinstance(getattr(one, "fact", None), TooManyAddresses) for one in channel.effects) == 1
