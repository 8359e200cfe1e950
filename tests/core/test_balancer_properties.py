"""Any order of events, nonsense included, against a second opinion (tests/core/oracle.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from healthlb.config import Backoff, FlapDamping, HealthCheck, Heartbeat, SlowStart
from healthlb.core.balancer import Balancer
from healthlb.core.messages import (
    SECOND,
    CallFailed,
    CheckEnded,
    Closing,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataFailed,
    DataReady,
    Drained,
    Endpoint,
    HealthReported,
    PingEnded,
    Resolved,
    ResolveFailed,
    Tick,
    WatchClosed,
)
from healthlb.core.subchannel.eligibility import on_probe, pickable
from tests.core.configs import config_of
from tests.core.oracle import GRACE, Oracle

READY = ConnectivityState.READY

subs = st.integers(0, 6)
numbers = st.integers(0, 8)
states = st.sampled_from(ConnectivityState)
codes = st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.UNIMPLEMENTED, Code.DEADLINE_EXCEEDED, Code.INTERNAL])
check_codes = st.one_of(codes, st.sampled_from([Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED]))
# The code, and whether the client could not send the Check: the transport says that with INTERNAL alone.
check_ends = st.one_of(st.tuples(check_codes, st.just(False)), st.just((Code.INTERNAL, True)))
endpoints = st.builds(Endpoint, st.sampled_from("abcd"), weight=st.sampled_from([1.0, 2.0]))
lists = st.lists(endpoints, max_size=6).map(tuple)
durations = st.one_of(
    st.sampled_from([0, 1, SECOND // 10, SECOND, 3 * SECOND, 10 * SECOND, 31 * SECOND]), st.integers(0, 200 * SECOND)
)
policies = st.builds(
    HealthCheck,
    backoff=st.builds(Backoff, jitter=st.sampled_from([0.0, 0.2, 1.0]), maximum=st.sampled_from([1.0, 120.0])),
    heartbeat=st.one_of(st.none(), st.builds(Heartbeat, interval=st.sampled_from([0.5, 10.0]), ping=st.booleans())),
    watch=st.sampled_from([True, True, False]),
    on_unimplemented=st.sampled_from(["check", "healthy", "unhealthy"]),
    rise=st.sampled_from([1, 2, 3]),
    fall=st.sampled_from([1, 2, 3]),
    confirm_interval=st.sampled_from([1.0, 7.0]),
    damping=st.sampled_from([None, FlapDamping(half_life=10.0), FlapDamping(half_life=100.0, max_suppress=300.0)]),
).filter(lambda policy: policy.heartbeat or (policy.watch and policy.on_unimplemented != "check"))
thresholds = st.sampled_from([0.0, 0.5, 1.0])
slow_starts = st.sampled_from([None, SlowStart(window=1.0), SlowStart(window=30.0, aggression=2.0)])
services = st.sampled_from(["svc", "", None])

events = st.one_of(
    st.builds(Resolved, lists),
    st.builds(ResolveFailed, st.sampled_from(["no such host", "SERVFAIL"])),
    st.builds(ConnectivityChanged, subs, states, st.sampled_from(["", "refused"])),
    st.builds(HealthReported, subs, numbers, st.integers(-1, 5)),
    st.builds(WatchClosed, subs, numbers, codes, st.sampled_from(["", "bye"])),
    st.builds(
        lambda sub, number, end, status: CheckEnded(sub, number, end[0], status, is_unsent=end[1]),
        subs,
        numbers,
        check_ends,
        st.integers(0, 3),
    ),
    st.builds(PingEnded, subs, numbers, codes),
    st.builds(CallFailed, subs, numbers, codes, st.booleans()),
    st.builds(DataReady, subs, numbers),
    st.builds(DataFailed, subs, st.just("refused")),
    st.builds(Drained, subs, numbers),
    st.just(Tick()),
)


@given(
    services,
    policies,
    st.lists(st.tuples(durations, events), max_size=60),
    st.booleans(),
    st.integers(0, SECOND),
    thresholds,
    slow_starts,
)
@settings(max_examples=300)
def test_any_order_of_events_keeps_every_promise(
    service: str | None,
    policy: HealthCheck,
    script: list[tuple[int, Any]],
    is_ticked: bool,
    late_by: int,
    threshold: float,
    slow_start: SlowStart | None,
) -> None:
    oracle = Oracle(service, policy, panic_threshold=threshold, slow_start=slow_start)
    oracle.tell(Resolved((Endpoint("a"), Endpoint("b"))))

    for pause, what in script:
        if is_ticked:
            oracle.run(pause, late_by=late_by)
        else:  # the driver's loop is stuck: no Tick comes in time
            oracle.now += pause
        oracle.tell(what)
    oracle.tell(Closing())
    for _, what in script:
        oracle.tell(what)

    assert oracle.open_data == set()


@given(policies, st.lists(st.tuples(durations, events), max_size=60), st.integers(0, 2**64))
@settings(max_examples=100)
def test_equal_seeds_and_events_give_equal_effects_and_deadlines(
    policy: HealthCheck, script: list[tuple[int, Any]], seed: int
) -> None:
    traces = []
    for _ in range(2):
        oracle = Oracle("svc", policy, seed)
        for pause, what in script:
            oracle.run(pause)
            oracle.tell(what)
        traces.append(oracle.trace)

    assert traces[0] == traces[1]


def test_two_seeds_differ_in_deadlines() -> None:
    deadlines = []
    for seed in (1, 2):
        oracle = Oracle("svc", HealthCheck(), seed)
        oracle.tell(Resolved((Endpoint("a"),)))
        oracle.tell(ConnectivityChanged(1, READY))
        oracle.tell(WatchClosed(1, 1, Code.UNAVAILABLE))
        oracle.run(60 * SECOND)
        deadlines.append([deadline for _, _, deadline in oracle.trace])

    assert deadlines[0] != deadlines[1]


class BalancerMachine(RuleBasedStateMachine):
    """Sensible events, mostly: what a transport would say, with numbers that were given out."""

    def __init__(self) -> None:
        super().__init__()
        self.generation = 0

    @initialize(
        service=services,
        policy=policies,
        seed=st.integers(0, 9),
        endpoints=lists,
        threshold=thresholds,
        slow_start=slow_starts,
    )
    def open(
        self,
        service: str | None,
        policy: HealthCheck,
        seed: int,
        endpoints: tuple[Endpoint, ...],
        threshold: float,
        slow_start: SlowStart | None,
    ) -> None:
        self.oracle = Oracle(service, policy, seed, 10**15, threshold, slow_start)
        self.oracle.tell(Resolved(endpoints))

    def _living(self, index: int) -> int:
        living = sorted(self.oracle.subs)
        return living[index % len(living)] if living else index

    @rule(endpoints=lists)
    def resolved(self, endpoints: tuple[Endpoint, ...]) -> None:
        self.oracle.tell(Resolved(endpoints))

    @rule()
    def resolve_failed(self) -> None:
        self.oracle.tell(ResolveFailed("no such host"))

    @rule(index=subs)
    def all_goes_well(self, index: int) -> None:
        self.connectivity_changed(index, READY)
        self.data_ready(index)
        self.health_reported(index, 1, True)

    @rule(index=subs, state=states)
    def connectivity_changed(self, index: int, state: ConnectivityState) -> None:
        self.oracle.tell(ConnectivityChanged(self._living(index), state))

    @rule(index=subs, status=st.integers(0, 4), is_present=st.booleans())
    def health_reported(self, index: int, status: int, is_present: bool) -> None:
        self.oracle.tell(HealthReported(*self._watch(index, is_present), status))

    @rule(index=subs, count=st.integers(1, 4))
    def flaps(self, index: int, count: int) -> None:
        for _ in range(count):
            self.health_reported(index, 2, True)
            self.health_reported(index, 1, True)

    @rule(index=subs, code=codes, is_present=st.booleans())
    def watch_closed(self, index: int, code: Code, is_present: bool) -> None:
        self.oracle.tell(WatchClosed(*self._watch(index, is_present), code))

    def _watch(self, index: int, is_present: bool) -> tuple[int, int]:
        sub = self._living(index)
        model = self.oracle.subs.get(sub)
        watch = model.last_watch if model is not None else 0
        return sub, watch if is_present else max(0, watch - 1)

    @rule(index=subs, end=check_ends, status=st.integers(0, 3), is_present=st.booleans())
    def check_ended(self, index: int, end: tuple[Code, bool], status: int, is_present: bool) -> None:
        sub = self._living(index)
        model = self.oracle.subs.get(sub)
        check = (model.check or 0) if model is not None else 0
        number = check if is_present else check - 1
        self.oracle.tell(CheckEnded(sub, number, end[0], status, "", end[1]))

    @rule(index=subs, code=codes, is_present=st.booleans())
    def ping_ended(self, index: int, code: Code, is_present: bool) -> None:
        sub = self._living(index)
        model = self.oracle.subs.get(sub)
        ping = (model.ping or 0) if model is not None else 0
        self.oracle.tell(PingEnded(sub, ping if is_present else ping - 1, code))

    @rule(index=subs)
    def data_ready(self, index: int) -> None:
        self.generation += 1
        self.oracle.tell(DataReady(self._living(index), self.generation))

    @rule(index=subs)
    def data_failed(self, index: int) -> None:
        self.oracle.tell(DataFailed(self._living(index), "refused"))

    @rule(index=subs, code=codes, is_refused=st.booleans(), is_present=st.booleans())
    def call_failed(self, index: int, code: Code, is_refused: bool, is_present: bool) -> None:
        sub = self._living(index)
        model = self.oracle.subs.get(sub)
        generation = (model.generation or 0) if model is not None else 0
        self.oracle.tell(CallFailed(sub, generation if is_present else generation - 1, code, is_refused))

    @rule(index=subs)
    def call_succeeded(self, index: int) -> None:
        ready = self.oracle.balancer.snapshot.ready
        if ready:
            self.oracle.succeed(ready[index % len(ready)])

    @rule(index=subs)
    def call_begins(self, index: int) -> None:
        ready = self.oracle.balancer.snapshot.ready
        if ready:
            self.oracle.begin(ready[index % len(ready)])

    @precondition(lambda self: self.oracle.calls)
    @rule(index=subs)
    def call_ends(self, index: int) -> None:
        self.oracle.end(index % len(self.oracle.calls))

    @precondition(lambda self: self.oracle.idle_data)
    @rule(index=subs)
    def drained(self, index: int) -> None:
        draining = self.oracle.idle_data
        self.oracle.tell(Drained(*draining[index % len(draining)]))

    @rule(pause=durations, late_by=st.sampled_from([0, 0, 1, SECOND]))
    def time_passes(self, pause: int, late_by: int) -> None:
        self.oracle.run(pause, late_by=late_by)

    @rule()
    def tick(self) -> None:
        self.oracle.tell(Tick())

    @rule()
    def everything_leaves_and_drains(self) -> None:
        """Nothing of the old addresses is left after their last calls, however they were; before, all of them go on."""
        self.oracle.tell(Resolved((Endpoint("z"),)))
        self.oracle.run(SECOND)  # it may have to wait
        in_use = {one for one in self.oracle.open_data if one[0] not in self.oracle.subs}
        self.oracle.run(GRACE)
        assert in_use <= set(self.oracle.open_data)
        while self.oracle.calls:
            self.oracle.end(-1)
        for one in sorted(in_use):
            self.oracle.tell(Drained(*one))
        event("left alone" if len(self.oracle.open_data) == 0 else "z stays")

        assert [sub.address for sub in self.oracle.subs.values()] == ["z"]
        assert {number for number, _ in self.oracle.open_data} <= set(self.oracle.subs)

    @invariant()
    def its_snapshot_is_what_one_made_anew_would_be(self) -> None:
        balancer = self.oracle.balancer if hasattr(self, "oracle") else Balancer(None, config_of(), 1)
        snapshot, machines = balancer.snapshot, balancer._machines.values()
        picked = [pickable(machine, is_panicking=snapshot.is_panicking) for machine in machines]

        assert snapshot.views == tuple(machine.view for machine in machines)
        assert snapshot.ready == tuple(sub for sub in picked if sub is not None)
        assert snapshot.probes == on_probe(machines)

    @invariant()
    def is_sound(self) -> None:
        if hasattr(self, "oracle"):
            self.oracle.check_leaks()

    def teardown(self) -> None:
        if hasattr(self, "oracle"):
            self.oracle.tell(Closing())
            self.oracle.run(200 * SECOND)
            assert self.oracle.open_data == set()


TestBalancerMachine = BalancerMachine.TestCase
TestBalancerMachine.settings = settings(max_examples=100, stateful_step_count=40)


turns = st.tuples(st.integers(0, 4), st.sampled_from(["flaps", "falls", "rises"]), st.sampled_from([0, 1, 20]))


@given(st.integers(1, 5), st.lists(turns, min_size=10, max_size=60), thresholds, slow_starts)
@settings(max_examples=100)
def test_a_fleet_that_flaps_keeps_the_cap_and_the_last_healthy_one(
    count: int, script: list[tuple[int, str, int]], threshold: float, slow_start: SlowStart | None
) -> None:
    policy = HealthCheck(heartbeat=None, damping=FlapDamping(half_life=50.0, suppress=1500.0, max_suppress=200.0))
    oracle = Oracle("svc", policy, panic_threshold=threshold, slow_start=slow_start)
    oracle.tell(Resolved(tuple(Endpoint(f"host-{number}") for number in range(count))))
    for sub in range(1, count + 1):
        oracle.tell(ConnectivityChanged(sub, READY))
        oracle.tell(DataReady(sub, sub))
        oracle.tell(HealthReported(sub, 1, 1))

    for index, what, seconds in script:
        sub = index % count + 1
        for status in {"flaps": (2, 1), "falls": (2,), "rises": (1,)}[what]:
            oracle.tell(HealthReported(sub, 1, status))
        oracle.run(seconds * SECOND)
    oracle.run(1_000 * SECOND)

    assert not any(view.is_damped for view in oracle.balancer.snapshot.views)
    assert {view.weight for view in oracle.balancer.snapshot.views} == {1.0}
    assert oracle.balancer.deadline is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
def test_of_a_fleet_that_hangs_half_stays(count: int) -> None:
    """Rounded down, but one at least; whatever the order in which they are found out."""
    policy = HealthCheck(heartbeat=Heartbeat(interval=10.0, timeout=3.0))
    oracle = Oracle("svc", policy)
    oracle.tell(Resolved(tuple(Endpoint(f"host-{number}") for number in range(count))))
    for sub in range(1, count + 1):
        oracle.tell(ConnectivityChanged(sub, READY))
        oracle.tell(DataReady(sub, sub))
        oracle.tell(HealthReported(sub, 1, 1))

    for _ in range(20):  # connections come back at once, Watches and Checks are never answered
        oracle.run(3 * SECOND)
        for sub, model in oracle.subs.items():
            if model.link is not READY:
                oracle.tell(ConnectivityChanged(sub, READY))

    assert len(oracle.balancer.snapshot.ready) == max(1, count // 2)


def test_an_unknown_event_is_refused() -> None:
    balancer = Balancer("svc", config_of(), 1)
    balancer.handle(Resolved((Endpoint("10.0.0.1:1"),)), 0)
    with pytest.raises(AssertionError, match="unreachable"):
        balancer.handle(SimpleNamespace(sub=1), 0)  # type: ignore[arg-type]

    assert balancer.snapshot.state.name == "CONNECTING"
