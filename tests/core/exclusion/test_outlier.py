"""Passive health on the pure core: the rules as numbers, and promises that hold whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healthlb.config import HealthCheck
from healthlb.config.outliers import FailurePercentage, Outliers, SuccessRate
from healthlb.core.balancer import Balancer
from healthlb.core.exclusion import outlier_rules as rules
from healthlb.core.exclusion.outlier_rules import CallCounts, Others
from healthlb.core.load import Subchannel, Verdict
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    Closing,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Effect,
    Ejection,
    Endpoint,
    HealthReported,
    Probe,
    ProbeEnded,
    Report,
    Resolved,
    Tick,
)
from healthlb.core.pickers import ANY_CALL, ANY_REPEATABLE_CALL, CallInfo
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.publication import with_probes
from healthlb.core.subchannel.eligibility import excess
from tests.core.configs import config_of

READY = ConnectivityState.READY


# --- the rules of gRFC A50 ------------------------------------------------------------------------------


@pytest.mark.parametrize(("hosts", "is_found"), [(4, False), (5, True), (20, True)])
def test_one_bad_one_of_few_is_an_outlier_by_success_rate(hosts: int, is_found: bool) -> None:
    tallies = [CallCounts(1, 100, 100), *(CallCounts(sub, 100, 0) for sub in range(2, hosts + 1))]

    assert [sub for sub, _ in rules.by_success_rate(tallies, SuccessRate())] == [1] * is_found


@pytest.mark.parametrize(("bad", "hosts", "is_found"), [(1, 5, True), (2, 5, False), (2, 10, True), (3, 10, False)])
def test_success_rate_has_a_blind_spot(bad: int, hosts: int, is_found: bool) -> None:
    """More than 1 / (1 + 1.9²) of all, 21.7 %, hide each other."""
    tallies = [CallCounts(sub, 100, 100 * (sub <= bad)) for sub in range(1, hosts + 1)]

    assert bool(rules.by_success_rate(tallies, SuccessRate())) is is_found


def test_failure_percentage_is_above_not_at() -> None:
    tallies = [
        CallCounts(1, 100, 85),
        CallCounts(2, 100, 86),
        *(CallCounts(sub, 50, 0) for sub in (3, 4, 5)),
        CallCounts(6, 49, 49),
    ]

    assert rules.by_failure_percentage(tallies, FailurePercentage()) == [(2, "86 of 100 calls failed")]


def test_latency_is_relative_to_the_median_and_above_the_floor() -> None:
    def found(*busy: float) -> list[int]:
        tallies = [CallCounts(sub, 20, 0, busy=seconds) for sub, seconds in enumerate(busy, 1)]
        return [sub for sub, _ in rules.by_latency(tallies, 5.0, 0.1)]

    assert found(1.0, 1.0, 10.0) == [3]  # 0.05 s and 0.5 s for each call
    assert found(1.0, 1.0, 4.0) == []
    assert found(0.001, 0.001, 0.1) == []
    assert found(1.0, 10.0) == []


def test_a_row_is_judged_by_what_the_others_do() -> None:
    assert rules.is_no_chance(5, Others(0, 0, 0, 0), of_late=False)
    assert not rules.is_no_chance(5, Others(0, 0, 0, 0), of_late=True)
    assert rules.is_no_chance(5, Others(100, 9, 2, 1), of_late=True)
    assert not rules.is_no_chance(5, Others(100, 10, 2, 1), of_late=False)
    assert not rules.is_no_chance(500, Others(100, 100, 0, 2), of_late=False)


def test_a_row_comes_about_by_chance_the_sooner_the_more_calls_there_are() -> None:
    assert rules.is_no_chance(5, Others(200, 16, 2, 1), of_late=False)
    assert not rules.is_no_chance(5, Others(2_000, 160, 2, 1), of_late=False)
    assert rules.is_no_chance(3, Others(1_000_000, 0, 2, 1), of_late=False)
    # One failure among few calls says little of how often they fail.
    assert not rules.is_no_chance(4, Others(15, 1, 2, 1), of_late=False)


def test_late_calls_are_no_reason_where_most_others_are_late_too() -> None:
    assert not rules.is_no_chance(50, Others(100, 3, 1, 2), of_late=True)
    assert rules.is_no_chance(50, Others(100, 3, 1, 1), of_late=True)
    assert rules.is_no_chance(50, Others(100, 3, 1, 2), of_late=False)


def test_two_late_calls_or_two_in_a_hundred_are_in_time() -> None:
    assert rules.is_in_time(2, 2)
    assert not rules.is_in_time(3, 3)
    assert rules.is_in_time(150, 3)
    assert not rules.is_in_time(149, 3)


def test_half_a_second_without_an_answer_is_silence() -> None:
    assert [rules.is_silence(SECOND // 2 - 1), rules.is_silence(SECOND // 2)] == [False, True]


def test_late_calls_count_for_one_that_is_mostly_late_where_most_others_are_in_time() -> None:
    mostly, partly, well = CallCounts(1, 10, 9, 8), CallCounts(2, 10, 4, 4), CallCounts(3, 10, 0)

    assert rules.without_lates([mostly, well]) == [mostly, well]
    assert rules.without_lates([mostly, partly, well]) == [mostly, CallCounts(2, 10, 0), well]
    assert rules.without_lates([mostly, partly]) == [CallCounts(1, 10, 1), CallCounts(2, 10, 0)]


def test_the_cap_is_rounded_up_and_leaves_one() -> None:
    out = ConnectivityState.TRANSIENT_FAILURE

    assert [excess({READY: ready, out: 3 - ready}, 50) for ready in (3, 2, 1, 0)] == [-2, -1, 0, 1]
    assert [excess({READY: ready}, 100) for ready in (0, 1, 2)] == [0, 0, -1]
    assert excess({READY: 10}, 10) == -1
    assert excess({READY: 10}, 0) == 0


# --- probes --------------------------------------------------------------------------------------------


def test_a_probe_is_one_call_whatever_the_picker() -> None:
    first, second = Subchannel(1, 1, Endpoint("a")), Subchannel(2, 1, Endpoint("b"))
    first.load.offer_probe(lambda: None)
    picker = with_probes(RoundRobin().build((second,)), (first,))

    assert picker.pick(CallInfo(exclude={1}, is_repeatable=True)) is second
    assert [picker.pick(ANY_REPEATABLE_CALL) for _ in range(3)] == [first, second, second]


def test_a_probe_is_any_call_where_none_comes_that_can_be_made_again() -> None:
    first, second = Subchannel(1, 1, Endpoint("a")), Subchannel(2, 1, Endpoint("b"))
    first.load.offer_probe(lambda: None)
    picker = with_probes(RoundRobin().build((second,)), (first,))

    assert picker.pick(ANY_CALL) is second
    assert [first.load.open_probe(), first.load.open_probe()] == [True, False]
    assert [picker.pick(ANY_CALL) for _ in range(2)] == [first, second]
    # The next one waits again.
    first.load.offer_probe(lambda: None)
    assert picker.pick(ANY_CALL) is second


def test_a_retired_connection_offers_no_probe() -> None:
    sub = Subchannel(1, 1, Endpoint("a"))
    sub.load.start()
    told: list[str] = []
    sub.load.retire(lambda: told.append("idle"))
    sub.load.offer_probe(lambda: told.append("probe"))
    sub.load.end_probe()

    assert not sub.load.take_probe(True)
    sub.load.abandon()
    sub.load._notify_if_idle()  # as of a call that ended at the same moment
    assert told == ["idle"]


def test_a_superseded_call_is_late_and_no_failure() -> None:
    load = Subchannel(1, 1, Endpoint("a")).load
    load.start()
    load.supersede()
    load.abandon()

    assert (load.failures, load.superseded, load.consecutive_failures(), load.judged) == (0, 1, (1, 1), 1)


# --- whatever happens ------------------------------------------------------------------------------------


class World:
    """A balancer whose calls end as told, and whose time runs with a Tick at each deadline."""

    def __init__(self, count: int, outliers: Outliers) -> None:
        self.now = 1000 * SECOND
        self.outliers = outliers
        self.balancer = Balancer("svc", config_of(HealthCheck(heartbeat=None), outliers=outliers), 1)
        self.ended: list[ProbeEnded] = []
        self.facts: list[Any] = []
        self.tell(Resolved(tuple(Endpoint(f"host-{number}") for number in range(count))))
        for sub in range(1, count + 1):
            self.connect(sub)

    def connect(self, sub: int) -> None:
        self.tell(ConnectivityChanged(sub, READY))
        self.tell(DataReady(sub, sub))
        self.run(0.5)  # where the last ones served nothing, the Watch begins as late as this
        for watch in range(1, 40):  # the present one is among them
            self.tell(HealthReported(sub, watch, 1))

    def tell(self, event: Any) -> list[Effect]:
        effects = self.balancer.handle(event, self.now)
        for effect in effects:
            match effect:
                case Probe(handle):
                    ended = ProbeEnded(handle.id, handle.generation)
                    handle.load.offer_probe(lambda ended=ended: self.ended.append(ended))  # type: ignore[misc]
                case Report(fact):
                    self.facts.append(fact)
        self.check()
        return effects

    def run(self, seconds: float) -> None:
        end = self.now + round(seconds * SECOND)
        while (deadline := self.balancer.deadline) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tell(Tick())
        self.now = end

    def call(self, code: Code | None) -> None:
        """Make a call on whatever is picked; None is one that its caller cancels."""
        snapshot = self.balancer.snapshot
        picker = with_probes(
            RoundRobin().build(snapshot.ready[self.now % max(1, len(snapshot.ready)) :]), snapshot.probes
        )
        handle = picker.pick(ANY_CALL)
        if handle is None or not handle.load.start():
            return
        if code is None:
            handle.load.abandon()
        elif code is Code.OK:
            handle.load.succeed(self.now)
        else:
            handle.load.fail(Verdict.LATE if code is Code.DEADLINE_EXCEEDED else Verdict.FAILURE)
            self.tell(CallFailed(handle.id, handle.generation, code))
        while self.ended:
            self.tell(self.ended.pop())

    def check(self) -> None:
        """The cap, and the last one."""
        views = self.balancer.snapshot.views
        machines = [self.balancer._machines[view.id] for view in views]
        healthy = [machine for machine in machines if machine.is_healthy]
        held_out = [machine for machine in healthy if machine.exclusion.ejection]
        out = sum(view.state is not READY for view in views)
        most = -(-len(views) * self.outliers.max_ejection_percent // 100)
        assert not held_out or out <= most
        assert not healthy or self.balancer.snapshot.ready
        assert [view.is_ejected for view in views] == [bool(machine.exclusion.ejection) for machine in machines]


codes = st.sampled_from([Code.OK, Code.UNKNOWN, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, None])
steps = st.one_of(
    st.tuples(st.just("call"), st.tuples(codes, st.integers(1, 12))),
    st.tuples(st.just("run"), st.sampled_from([0.1, 1.0, 10.0, 31.0, 100.0])),
    st.tuples(st.just("unhealthy"), st.integers(1, 6)),
    st.tuples(st.just("lose"), st.integers(1, 6)),
    st.tuples(st.just("connect"), st.integers(1, 6)),
    st.tuples(st.just("resolve"), st.integers(1, 6)),
)
policies = st.builds(
    Outliers,
    consecutive_failures=st.sampled_from([1, 2, 5, None]),
    consecutive_connection_failures=st.sampled_from([1, 3, None]),
    max_ejection_percent=st.sampled_from([0, 10, 34, 50, 100]),
    success_rate=st.one_of(st.none(), st.just(SuccessRate(minimum_hosts=2, request_volume=2))),
    failure_percentage=st.one_of(
        st.none(), st.just(FailurePercentage(minimum_hosts=1, request_volume=1, enforcement=50))
    ),
    latency_factor=st.one_of(st.none(), st.just(2.0)),
)


@given(st.integers(1, 6), policies, st.lists(steps, max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_cap_holds_one_stays_and_every_ejection_ends(count: int, policy: Outliers, script: list[Any]) -> None:
    world = World(count, policy)
    for what, value in script:
        match what:
            case "call":
                for _ in range(value[1]):
                    world.call(value[0])
            case "run":
                world.run(value)
            case "unhealthy":
                for watch in range(1, 40):
                    world.tell(HealthReported(value, watch, 2))
            case "lose":
                world.tell(ConnectivityChanged(value, ConnectivityState.IDLE))
            case "connect":
                world.connect(value)
            case "resolve":
                world.tell(Resolved(tuple(Endpoint(f"host-{number}") for number in range(value))))

    # From here on all is well, and so all are back within the longest time.
    subs = [view.id for view in world.balancer.snapshot.views]
    for sub in subs:
        world.tell(ConnectivityChanged(sub, ConnectivityState.IDLE))
        world.run(2.0)  # it may have served nothing
        world.connect(sub)
    for _ in range(8):
        world.run(60.0)
        for _ in range(10):
            world.call(Code.OK)

    assert [view.state for view in world.balancer.snapshot.views] == [READY] * len(subs)
    assert not any(view.is_ejected for view in world.balancer.snapshot.views)
    longest = max((fact.duration for fact in world.facts if isinstance(fact, Ejection)), default=0)
    assert longest <= 330 * SECOND
    world.run(100.0)
    assert (world.balancer.deadline is None) is (policy.latency_factor is None)
    world.tell(Closing())
    assert world.balancer.deadline is None


def test_latency_outliers_are_found_without_timing_a_call() -> None:
    world = World(3, Outliers(latency_factor=3.0, jitter=0.0))
    slow, *quick = world.balancer.snapshot.ready
    assert all(slow.load.start() for _ in range(6))  # six are always in flight on it
    for _ in range(40):
        world.run(0.25)
        for handle in (slow, *quick):
            handle.load.start()
            handle.load.succeed(world.now)

    causes = [fact.cause for fact in world.facts if isinstance(fact, Ejection)]
    assert causes == ["calls took 1.5 s, the median is 0 s"]
    assert [view.is_ejected for view in world.balancer.snapshot.views] == [True, False, False]


def test_jitter_only_lengthens_and_differs() -> None:
    durations = []
    for _ in range(2):
        world = World(9, Outliers(base_ejection_time=30.0, jitter=0.5))
        for handle in world.balancer.snapshot.ready[:3]:
            for _ in range(5):
                handle.load.start()
                handle.load.fail(Verdict.FAILURE)
                world.tell(CallFailed(handle.id, handle.generation, Code.UNKNOWN))
        durations.append([fact.duration for fact in world.facts if isinstance(fact, Ejection)])

    assert durations[0] == durations[1]
    assert len(set(durations[0])) == 3
    assert all(30 * SECOND <= duration <= 45 * SECOND for duration in durations[0])


def test_words_of_a_straggler_are_no_probe() -> None:
    world = World(3, Outliers(base_ejection_time=30.0, jitter=0.0))
    bad = world.balancer.snapshot.ready[0]
    bad.load.start()  # begun before, ends late
    for _ in range(5):
        bad.load.start()
        bad.load.fail(Verdict.FAILURE)
        world.tell(CallFailed(bad.id, bad.generation, Code.UNKNOWN))
    world.run(30.5)
    bad.load.fail(Verdict.FAILURE)
    world.tell(CallFailed(bad.id, bad.generation, Code.UNKNOWN))
    world.tell(world.ended.pop())

    assert world.balancer.snapshot.probes == (bad,)
    world.tell(ProbeEnded(2, 2))  # of one that is in
    world.tell(ProbeEnded(bad.id, 77))  # of another connection
    assert world.balancer.snapshot.probes == (bad,)


def test_in_a_large_fleet_the_others_are_not_counted_for_each_failure() -> None:
    balancer = Balancer("svc", config_of(HealthCheck(heartbeat=None), outliers=Outliers(max_ejection_percent=0)), 1)
    balancer.handle(Resolved(tuple(Endpoint(f"host-{number}") for number in range(100))), SECOND)
    for sub in range(1, 101):
        for event in (ConnectivityChanged(sub, READY), DataReady(sub, sub), HealthReported(sub, 1, 1)):
            balancer.handle(event, SECOND)
    bad = balancer.snapshot.ready[0]
    told = []
    for _ in range(20):
        bad.load.start()
        bad.load.fail(Verdict.FAILURE)
        effects = balancer.handle(CallFailed(bad.id, bad.generation, Code.UNKNOWN), SECOND)
        told += [effect.fact for effect in effects if isinstance(effect, Report)]

    assert [(fact.cause, fact.is_enforced) for fact in told] == [("5 calls failed in a row", False)]
