from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from healthlb.config import HealthCheck
from healthlb.config.overload import Overload
from healthlb.core.balancer import Balancer
from healthlb.core.call.overload import MAX_IN_FLIGHT, MAX_IN_FLIGHT_EACH, MAX_WAIT, MAX_WAITING, Admission
from healthlb.core.load import CappedLoad, Load, Subchannel, Verdict
from healthlb.core.messages import (
    SECOND,
    CallsRefused,
    Closing,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Endpoint,
    Event,
    Fail,
    HealthReported,
    Overflow,
    Report,
    Resolved,
    Tick,
)
from healthlb.core.pickers import ANY_CALL, CallInfo, picker_names
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ConfigError
from healthlb.testing import open_factory
from tests.core.configs import config_of

READY = ConnectivityState.READY


class Channel:
    """Subchannels below caps, and a picker over them."""

    def __init__(self, picker: Any = "round_robin", count: int = 3, **caps: Any) -> None:
        self.admission = Admission(Overload(**caps))
        make_load = self.admission.limiter.make_load
        self.subs = [Subchannel(n, 1, Endpoint(f"10.0.0.{n}:1"), load=make_load()) for n in range(1, count + 1)]
        picker = open_factory(picker, self.subs).build(self.subs)
        self.snapshot = Snapshot(1, READY, tuple(self.subs), picker)

    def fill(self, *counts: int) -> None:
        for sub, count in zip(self.subs, counts, strict=True):
            assert [sub.load.start() for _ in range(count)] == [True] * count

    def pick(self, *tried: int) -> int | str:
        """Return who was picked for a call that has tried these, or why nobody was."""
        found = self.admission.pick(self.snapshot, CallInfo(exclude=frozenset(tried)))
        return found.id if isinstance(found, Subchannel) else found


# --- options ---------------------------------------------------------------------------------------

WRONG = [
    ({"max_waiting": -1}, "Overload.max_waiting must be a number at least 0, not -1"),
    ({"max_waiting": 2.5}, "Overload.max_waiting must be a whole number, not 2.5"),
    ({"max_wait": 0}, "Overload.max_wait must be a number above 0, not 0"),
    ({"max_wait": "3"}, "Overload.max_wait must be a number above 0, not '3'"),
    ({"max_in_flight": 0}, "Overload.max_in_flight must be a number at least 1, not 0"),
    ({"max_in_flight": True}, "Overload.max_in_flight must be a whole number, not True"),
    (
        {"max_in_flight_per_subchannel": 0},
        "Overload.max_in_flight_per_subchannel must be a number at least 1, not 0",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_an_error_names_option_value_and_bound(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Overload(**arguments)

    assert str(caught.value) == text


def test_by_default_only_the_queue_is_bounded() -> None:
    assert Overload() == Overload(
        max_waiting=10_000, max_wait=None, max_in_flight=None, max_in_flight_per_subchannel=None
    )
    assert Overload().max_wait_ns is None
    assert Overload(max_wait=1.5).max_wait_ns == 1_500_000_000


# --- counting --------------------------------------------------------------------------------------


def test_without_caps_on_calls_in_flight_the_counters_are_the_plain_ones() -> None:
    assert type(Admission(Overload()).limiter.make_load()) is Load
    assert type(Admission(None).limiter.make_load()) is Load
    assert not Load().is_full


def test_a_full_one_takes_no_call_until_one_ends() -> None:
    channel = Channel(max_in_flight_per_subchannel=2, count=2)
    first, second = (sub.load for sub in channel.subs)
    assert [first.start() for _ in range(3)] == [True, True, False]
    assert (first.is_full, second.is_full, first.picks) == (True, False, 2)
    first.abandon()

    assert first.start()
    assert second.start()


@pytest.mark.parametrize("end", ["succeed", "fail", "failure", "lose", "abandon"])
def test_p18_every_end_makes_room_again(end: str) -> None:
    channel = Channel(max_in_flight=2, max_in_flight_per_subchannel=1, count=2)
    channel.fill(1, 1)
    load = channel.subs[0].load
    match end:
        case "succeed":
            load.succeed(7)
        case "fail":
            load.fail()
        case "failure":
            load.fail(Verdict.FAILURE)
        case "lose":
            load.lose(began_at=1, now=7)
        case _:
            load.abandon()

    assert (load.in_flight, channel.admission.limiter.in_flight) == (0, 1)
    assert channel.pick() == 1


def test_the_channels_cap_counts_retired_connections_too() -> None:
    channel = Channel(max_in_flight=2, count=2)
    channel.fill(2, 0)
    drained: list[bool] = []
    channel.subs[0].load.retire(lambda: drained.append(True))
    assert not channel.subs[1].load.start()
    channel.subs[0].load.abandon()
    channel.subs[0].load.abandon()

    assert drained == [True]
    assert (channel.admission.limiter.in_flight, channel.subs[0].load.start(), channel.subs[1].load.start()) == (
        0, False, True,
    )  # fmt: skip


def test_a_probe_waits_for_room() -> None:
    channel = Channel(max_in_flight_per_subchannel=1, count=1)
    channel.fill(1)
    load = channel.subs[0].load
    load.offer_probe(lambda: None)
    assert not load.take_probe(True)
    load.abandon()

    assert [load.take_probe(True), load.take_probe(True)] == [True, False]


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_frequent_switches")
def test_no_cap_is_ever_exceeded_by_many_threads() -> None:
    channel = Channel(max_in_flight=5, max_in_flight_per_subchannel=3, count=2)
    limiter, seen = channel.admission.limiter, []

    def work() -> None:
        for turn in range(2_000):
            load = channel.subs[turn % 2].load
            if load.start():
                seen.append((limiter.in_flight, load.in_flight))
                load.abandon()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert max(most for most, _ in seen) <= 5
    assert max(most for _, most in seen) <= 3
    assert (limiter.in_flight, *(sub.load.in_flight for sub in channel.subs)) == (0, 0, 0)


# --- waiting ---------------------------------------------------------------------------------------


def test_p25_so_many_may_wait_and_no_more() -> None:
    limiter = Admission(Overload(max_waiting=2)).limiter
    slots = [limiter.wait() for _ in range(3)]
    assert [slot is not None for slot in slots] == [True, True, False]
    assert slots[0] is not None
    slots[0].leave()
    slots[0].leave()

    assert limiter.waiting == 1
    assert limiter.wait() is not None


def test_a_place_is_given_back_with_a_call_that_nobody_wants_any_more() -> None:
    limiter = Admission(Overload(max_waiting=1)).limiter
    slot = limiter.wait()
    assert limiter.wait() is None
    del slot
    gc.collect()

    assert limiter.waiting == 0


def test_any_number_may_wait_where_there_is_no_cap() -> None:
    limiter = Admission(None).limiter
    slots = [limiter.wait() for _ in range(100)]

    assert None not in slots


def test_nobody_may_wait_where_the_cap_is_0() -> None:
    assert Admission(Overload(max_waiting=0)).limiter.wait() is None


# --- picking ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("picker", picker_names())
def test_whoever_is_full_is_skipped(picker: str) -> None:
    channel = Channel(picker, count=4, max_in_flight_per_subchannel=2)
    channel.fill(2, 0, 2, 1)
    found = [channel.pick(), channel.pick(), channel.pick()]

    assert sorted(found, key=str) == [2, 2, 4]
    assert channel.pick() == MAX_IN_FLIGHT_EACH


@pytest.mark.parametrize("picker", picker_names())
def test_a_call_avoids_what_it_has_tried_but_not_at_the_cost_of_its_life(picker: str) -> None:
    channel = Channel(picker, count=3, max_in_flight_per_subchannel=1)
    channel.fill(1, 0, 0)

    assert channel.pick(2) == 3
    assert channel.pick(2) == 2
    assert channel.pick(2) == MAX_IN_FLIGHT_EACH


def test_the_channels_cap_is_named_first() -> None:
    channel = Channel(count=2, max_in_flight=2, max_in_flight_per_subchannel=1)
    channel.fill(1, 1)

    assert channel.pick() == MAX_IN_FLIGHT


class Stubborn:
    """A picker that always says the same."""

    def __init__(self, answer: int | None = 0) -> None:
        self.answer = answer

    def build(self, ready: Sequence[Subchannel]) -> Stubborn:
        self.ready = ready
        return self

    def pick(self, call: CallInfo) -> Subchannel | None:
        return None if self.answer is None else self.ready[self.answer]


@pytest.mark.parametrize("answer", [0, None])
def test_a_picker_has_the_last_word(answer: int | None) -> None:
    channel = Channel(lambda: Stubborn(answer), count=2, max_in_flight_per_subchannel=1)
    channel.fill(1, 0)

    assert channel.pick() == MAX_IN_FLIGHT_EACH


class Racing(Stubborn):
    """Meanwhile others take what it picks, or it closes."""

    def __init__(self, is_retired: bool) -> None:
        super().__init__()
        self.is_retired = is_retired

    def pick(self, call: CallInfo) -> Subchannel | None:
        sub = next((one for one in self.ready if one.id not in call.exclude), self.ready[0])
        if self.is_retired:
            sub.load.retire(lambda: None)
        else:
            sub.load.start()
        return sub


def test_room_that_is_taken_meanwhile_is_looked_for_elsewhere_a_few_times() -> None:
    channel = Channel(lambda: Racing(is_retired=False), count=9, max_in_flight_per_subchannel=1)

    assert channel.pick() == MAX_IN_FLIGHT_EACH
    assert [sub.load.in_flight for sub in channel.subs] == [1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_one_that_has_closed_meanwhile_is_left_to_the_next_snapshot() -> None:
    channel = Channel(lambda: Racing(is_retired=True), max_in_flight_per_subchannel=1)

    assert channel.pick() == ""


@given(
    caps=st.tuples(st.none() | st.integers(1, 6), st.none() | st.integers(1, 3)),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=40),
    picker=st.sampled_from(picker_names()),
)
def test_a_call_is_refused_only_where_no_subchannel_has_room(
    caps: tuple[int | None, int | None], steps: list[tuple[bool, int]], picker: str
) -> None:
    most, most_each = caps
    channel = Channel(picker, max_in_flight=most, max_in_flight_per_subchannel=most_each)
    running: list[Subchannel] = []
    for is_start, number in steps:
        counts = Counter(sub.id for sub in running)
        has_room = (most is None or len(running) < most) and any(
            most_each is None or counts[sub.id] < most_each for sub in channel.subs
        )
        if is_start:
            sub = channel.snapshot.picker.pick(ANY_CALL)
            assert sub is not None
            found: Subchannel | str = sub
            if not sub.load.start():
                found = channel.admission.pick(channel.snapshot, ANY_CALL)
            assert isinstance(found, Subchannel) == has_room
            running += [found] if isinstance(found, Subchannel) else []
        elif running:
            running.pop(number % len(running)).load.abandon()

        assert {sub.id: sub.load.in_flight for sub in channel.subs if sub.load.in_flight} == Counter(
            sub.id for sub in running
        )
        if isinstance(channel.subs[0].load, CappedLoad):
            assert channel.admission.limiter.in_flight == len(running)


# --- what is told ----------------------------------------------------------------------------------


def test_a_refusal_says_which_cap_its_value_and_the_picture() -> None:
    admission = Admission(Overload(max_waiting=2, max_wait=1.5, max_in_flight=100, max_in_flight_per_subchannel=10))
    snapshot = Snapshot(0, READY, service="svc", error="the directory is down")
    fails = [admission.refusal(cap, snapshot) for cap in (MAX_WAITING, MAX_WAIT, MAX_IN_FLIGHT, MAX_IN_FLIGHT_EACH)]
    picture = "no addresses for service 'svc': the directory is down"

    assert fails == [
        Fail(Code.RESOURCE_EXHAUSTED, f"too many calls wait (max_waiting=2): {picture}"),
        Fail(Code.RESOURCE_EXHAUSTED, f"no subchannel for too long (max_wait=1.5 s): {picture}"),
        Fail(Code.RESOURCE_EXHAUSTED, f"too many calls in flight (max_in_flight=100): {picture}"),
        Fail(
            Code.RESOURCE_EXHAUSTED,
            f"too many calls in flight on each subchannel (max_in_flight_per_subchannel=10): {picture}",
        ),
    ]


def handle(balancer: Balancer, event: Event, now: float) -> list[Overflow]:
    """Return what is told of refused calls."""
    effects = balancer.handle(event, round(now * SECOND))
    return [effect.fact for effect in effects if isinstance(effect, Report) and isinstance(effect.fact, Overflow)]


def test_refusals_are_told_of_at_once_and_then_once_a_second() -> None:
    balancer = Balancer("svc", config_of(), 1, admission=Admission(Overload(max_in_flight=5)))

    assert handle(balancer, CallsRefused(MAX_IN_FLIGHT, 1), 10.0) == [Overflow(10 * SECOND, MAX_IN_FLIGHT, 5, 1)]
    assert handle(balancer, CallsRefused(MAX_IN_FLIGHT, 3), 10.1) == []
    assert handle(balancer, CallsRefused(MAX_IN_FLIGHT, 4), 10.9) == []
    assert handle(balancer, CallsRefused(MAX_WAITING, 2), 10.9) == []
    assert balancer.deadline == 11 * SECOND
    assert handle(balancer, Tick(), 11.0) == [
        Overflow(11 * SECOND, MAX_IN_FLIGHT, 5, 7),
        Overflow(11 * SECOND, MAX_WAITING, 10_000, 2),
    ]
    assert handle(balancer, Tick(), 12.0) == []
    assert balancer.deadline is None
    assert len(handle(balancer, CallsRefused(MAX_IN_FLIGHT, 1), 12.5)) == 1


def test_the_last_refusals_are_told_of_when_the_channel_closes() -> None:
    balancer = Balancer("svc", config_of(), 1, admission=Admission(Overload(max_in_flight=5)))
    handle(balancer, CallsRefused(MAX_IN_FLIGHT, 1), 1.0)
    handle(balancer, CallsRefused(MAX_IN_FLIGHT, 6), 1.1)

    assert [fact.calls for fact in handle(balancer, Closing(), 1.2)] == [6]
    assert balancer.deadline is None


def test_a_balancers_connections_know_of_the_caps() -> None:
    admission = Admission(Overload(max_in_flight=1))
    balancer = Balancer("svc", config_of(HealthCheck(heartbeat=None)), 1, admission=admission)
    for event in (
        Resolved((Endpoint("a"), Endpoint("b"))),
        *(ConnectivityChanged(sub, READY) for sub in (1, 2)),
        *(DataReady(sub, sub) for sub in (1, 2)),
        *(HealthReported(sub, 1, 1) for sub in (1, 2)),
    ):
        balancer.handle(event, 0)
    first, second = balancer.snapshot.ready

    assert (first.load.start(), second.load.start()) == (True, False)
    assert admission.limiter.in_flight == 1
