"""Each small machine alone, in any order of events, against a model that is written from its promise."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from healthlb.config import Backoff, HealthCheck, Heartbeat, RetryBudget, RetryThrottle, Subset
from healthlb.core.balancer import Balancer
from healthlb.core.call.budget import RatioBudget, Throttle
from healthlb.core.event_context import EventContext, TimerKey
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    SECOND,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataReady,
    Disconnect,
    Endpoint,
    HealthReported,
    Replace,
    Resolved,
    ResolveNow,
    SendCheck,
    StartWatch,
    StopWatch,
    Tick,
    WatchClosed,
)
from healthlb.core.random_streams import Streams
from healthlb.core.resolution import Resolution
from healthlb.core.subchannel.dialling import Pace
from healthlb.core.subchannel.heartbeat import HeartbeatMachine
from healthlb.core.subchannel.reconnecting import NOTHING_SERVED
from healthlb.core.timers import Timers
from tests.core.configs import config_of

START = 1_000 * SECOND
READY, FAILURE = ConnectivityState.READY, ConnectivityState.TRANSIENT_FAILURE
pauses = st.one_of(st.sampled_from([0, 1, SECOND // 10, SECOND, 7 * SECOND]), st.integers(0, 30 * SECOND))
steps = settings(max_examples=100, stateful_step_count=30)


class AliveMachine(RuleBasedStateMachine):
    """A heartbeat asks in time, once at a time, and takes any answer for a sign of life."""

    @initialize(interval=st.sampled_from([0.5, 3.0, 10.0]), timeout=st.sampled_from([0.1, 1.0, 20.0]))
    def make(self, interval: float, timeout: float) -> None:
        self.policy = Heartbeat(interval=interval, timeout=timeout, ping=False)
        self.timers: Timers[TimerKey] = Timers()
        self.now = START
        self.machine = HeartbeatMachine(1, self.policy, Pace(), rng=Streams(7).stream("heartbeat"))
        self.handle = Subchannel(1, 1, Endpoint("a"))
        self.is_up = False
        self.alive_at = START
        self.check = 0
        self.sent_at: int | None = None
        self.suspected_at: int | None = None
        self.asked_at = -SECOND

    def context(self) -> EventContext:
        return EventContext(self.now, self.timers)

    def take(self, context: EventContext) -> None:
        """Look at what an event asks for."""
        for effect in context.effects:
            assert isinstance(effect, SendCheck)
            assert self.is_up
            assert self.sent_at is None, "two Checks in flight"
            assert effect.check > self.check
            self.check, self.sent_at = effect.check, self.now
            if self.suspected_at is not None:
                self.suspected_at, self.asked_at = None, self.now

    @precondition(lambda self: not self.is_up)
    @rule()
    def connected(self) -> None:
        context = self.context()
        self.machine.start(context)
        self.is_up, self.alive_at = True, self.now
        self.take(context)

    @rule()
    def connection_is_lost(self) -> None:
        context = self.context()
        self.machine.stop(context)
        self.is_up, self.sent_at, self.suspected_at = False, None, None
        self.take(context)

        assert len(self.timers) == 0

    @rule()
    def a_call_succeeds(self) -> None:
        self.handle.load.start()
        self.handle.load.succeed(self.now)
        self.alive_at = self.now

    @precondition(lambda self: self.is_up)
    @rule()
    def a_call_is_late(self) -> None:
        context = self.context()
        if self.sent_at is None and self.suspected_at is None:
            self.suspected_at = self.now
        self.machine.suspect(context)
        self.take(context)

    @precondition(lambda self: self.sent_at is not None)
    @rule(code=st.sampled_from([Code.OK, Code.UNIMPLEMENTED, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED]))
    def a_check_ends(self, code: Code) -> None:
        context = self.context()
        is_silent = self.machine.ended(self.check, code, context)
        self.sent_at, self.alive_at = None, self.now
        self.take(context)

        assert is_silent is (code is Code.DEADLINE_EXCEEDED)

    @rule(old=st.integers(1, 5))
    def an_old_check_ends(self, old: int) -> None:
        context = self.context()

        assert not self.machine.ended(self.check - old, Code.DEADLINE_EXCEEDED, context)
        assert context.effects == []

    @rule(pause=pauses)
    def time_passes(self, pause: int) -> None:
        end = self.now + pause
        while (at := self.timers.deadline) is not None and at <= end:
            self.now = max(self.now, at)
            self.one_timer()
        self.now = end

        assert not self.is_up or self.sent_at is not None or self.now - self.alive_at <= self.policy.interval_ns
        assert self.sent_at is None or self.now - self.sent_at < self.policy.timeout_ns
        assert self.suspected_at is None or self.now - self.suspected_at < SECOND // 2

    def one_timer(self) -> None:
        context = self.context()
        key = self.timers.pop_due(self.now)
        assert key is not None
        assert self.is_up
        if key[1] == "check":
            assert self.sent_at == self.now - self.policy.timeout_ns
            self.sent_at, self.alive_at = None, self.now
            assert self.machine.timed_out(context)
        elif key[2]:
            self.machine.suspicion_due(context)
        else:
            self.machine.due(self.handle.load.last_success_at, context)
        self.take(context)


class WatchMachine(RuleBasedStateMachine):
    """When the next Watch starts (gRFC A17, and the floor under its immediate restart)."""

    @initialize(jitter=st.sampled_from([0.0, 0.2, 1.0]), floor=st.sampled_from([0.1, 5.0]))
    def make(self, jitter: float, floor: float) -> None:
        backoff = Backoff(initial=1.0, multiplier=2.0, maximum=8.0, jitter=jitter)
        self.policy = HealthCheck(
            backoff=backoff, min_restart_interval=floor, heartbeat=None, first_response_timeout=10.0
        )
        self.jitter = jitter
        self.balancer = Balancer("svc", config_of(self.policy), 3)
        self.now = START
        self.watch = 0
        self.generation = 0
        self.is_up = self.is_open = self.has_said = self.is_given_up = False
        self.doubts = 0  # connections in a row that served nothing
        self.opened_at = 0
        self.due = (0, 0)
        self.failures = self.quick_ends = 0
        self.status: int | None = None
        self.kept_until = 0
        self.tell(Resolved((Endpoint("a"),)))

    def tell(self, event: object) -> None:
        for effect in self.balancer.handle(event, self.now):  # type: ignore[arg-type]
            if isinstance(effect, Disconnect | Replace):
                self.is_given_up = isinstance(effect, Disconnect)
            elif isinstance(effect, StartWatch):
                assert self.is_up
                assert not self.is_open
                assert effect.watch > self.watch
                assert self.due[0] <= self.now <= self.due[1], "the next Watch is early, or late"
                self.watch, self.is_open, self.has_said, self.opened_at = effect.watch, True, False, self.now
            elif isinstance(effect, StopWatch):
                assert effect.watch == self.watch
                if self.is_open:
                    self.is_open = False
                    if self.is_up:  # silence for too long
                        assert not self.has_said
                        timeout = self.opened_at + self.policy.first_response_timeout_ns
                        assert self.now == (self.kept_until if self.status == 1 else timeout)
                        self.status = None
                        self.wait_for_backoff()

    def wait_for_backoff(self) -> None:
        self.wait(min(8 * SECOND, SECOND * 2**self.failures))
        self.failures += 1

    def wait(self, delay: int) -> None:
        spread = round(delay * self.jitter) + 1
        self.due = (self.now + max(0, delay - spread), self.now + delay + spread)

    @precondition(lambda self: not (self.is_up or self.is_given_up))
    @rule()
    def connected(self) -> None:
        self.is_up, self.failures, self.quick_ends = True, 0, 0
        at = self.now + min(SECOND // 2, SECOND // 50 * 2 ** (self.doubts - 1)) if self.doubts else self.now
        self.due = (at, at)
        self.tell(ConnectivityChanged(1, READY))
        self.generation += 1
        self.tell(DataReady(1, self.generation))

        assert self.is_open is not bool(self.doubts)

    @precondition(lambda self: self.is_up)
    @rule(state=st.sampled_from([ConnectivityState.IDLE, FAILURE]))
    def connection_is_lost(self, state: ConnectivityState) -> None:
        self.is_up, self.status = False, None
        self.tell(ConnectivityChanged(1, state))
        if state is ConnectivityState.IDLE:
            (view,) = self.balancer.snapshot.views
            # Until one has served: of one that has lasted longer than the backoff, the reason says no more of it.
            self.doubts += self.doubts > 0 or view.reason == NOTHING_SERVED

        assert not self.is_open
        assert self.balancer.snapshot.ready == ()

    @precondition(lambda self: self.is_open)
    @rule(status=st.integers(0, 4))
    def a_status(self, status: int) -> None:
        if not self.has_said:
            self.failures = 0
        self.has_said, self.doubts = True, 0
        self.status = status
        self.tell(HealthReported(1, self.watch, status))

        assert bool(self.balancer.snapshot.ready) is (status == 1)

    @precondition(lambda self: self.is_open)
    @rule(code=st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.INTERNAL]))
    def it_ends(self, code: Code) -> None:
        self.is_open = False
        self.doubts *= code is not Code.OK  # which the server itself has said
        lasted = self.now - self.opened_at if self.has_said else 0
        if not self.has_said and self.status != 1:
            self.wait_for_backoff()
        elif lasted >= 10 * SECOND:
            self.quick_ends = 0
            self.due = (self.now, self.now)
        else:
            floor = min(self.policy.min_restart_interval, 8.0)
            self.wait(min(8 * SECOND, round(floor * SECOND) * 2**self.quick_ends))
            self.quick_ends += 1
        if self.status == 1:
            self.stay(lasted)
        self.tell(WatchClosed(1, self.watch, code))

        assert bool(self.balancer.snapshot.ready) is (self.status == 1)

    def stay(self, lasted: int) -> None:
        """Who was SERVING stays in while the next Watch begins, which leaves time for its first word."""
        floor = self.policy.min_restart_interval_ns
        most = min(max(2 * SECOND, 2 * floor), 10 * SECOND)
        if self.has_said:
            self.kept_until = self.now + most
        latest = self.now + max(most // 2, floor)
        spread = round(min(SECOND / 2, self.jitter * lasted / 4)) + 1
        self.due = (min(self.due[0], latest), min(self.due[1] + spread, latest))

    @rule(status=st.integers(0, 2), old=st.integers(1, 3))
    def an_old_one_speaks(self, status: int, old: int) -> None:
        before = self.balancer.snapshot
        self.tell(HealthReported(1, self.watch - old, status))
        self.tell(WatchClosed(1, self.watch - old, Code.UNAVAILABLE))

        assert self.balancer.snapshot is before

    @rule(pause=pauses)
    def time_passes(self, pause: int) -> None:
        end = self.now + pause
        while (at := self.balancer.deadline) is not None and at <= end:
            self.now = max(self.now, at)
            self.tell(Tick())
            if self.status == 1 and not self.has_said and self.now >= self.kept_until:
                self.status = None
        self.now = end

        assert not self.is_up or self.is_open or self.now <= self.due[1]


class RatioMachine(RuleBasedStateMachine):
    """A share of the calls of the last `ttl`, and a reserve: between what a narrow and a wide window allow."""

    @initialize(ratio=st.sampled_from([0.0, 0.1, 0.2, 1.5]), least=st.sampled_from([0.0, 0.5, 3.0]))
    def make(self, ratio: float, least: float) -> None:
        self.policy = RetryBudget(ratio=ratio, min_per_second=least, ttl=10.0)
        self.budget = RatioBudget(self.policy)
        self.now = START
        self.calls: list[int] = []
        self.taken: list[int] = []

    @rule(count=st.integers(1, 30))
    def calls_begin(self, count: int) -> None:
        for _ in range(count):
            self.budget.call_started(self.now)
            self.calls.append(self.now)

    @rule()
    def one_is_taken(self) -> None:
        ttl, slack = self.policy.ttl_ns, self.policy.ttl_ns // 5

        def left(calls_of: int, taken_of: int) -> Fraction:
            calls = sum(at > self.now - calls_of for at in self.calls)
            taken = sum(at > self.now - taken_of for at in self.taken)
            share = Fraction(round(self.policy.ratio * 1000), 1000)
            return share * calls + Fraction(round(self.policy.min_per_second * self.policy.ttl)) - taken

        is_paid = self.budget.withdraw(self.now)
        if left(ttl, ttl + slack) >= 1:
            assert is_paid
        if left(ttl + slack, ttl) < 1:
            assert not is_paid
        if is_paid:
            self.taken.append(self.now)

    @rule(pause=pauses)
    def time_passes(self, pause: int) -> None:
        self.now += pause


class ThrottleMachine(RuleBasedStateMachine):
    """Tokens, exactly (gRFC A6)."""

    @initialize(most=st.sampled_from([1, 3, 10]), ratio=st.sampled_from([0.001, 0.1, 0.5, 2.0]))
    def make(self, most: int, ratio: float) -> None:
        self.throttle = Throttle(RetryThrottle(max_tokens=most, token_ratio=ratio))
        self.most = self.tokens = Fraction(most)
        self.ratio = Fraction(round(ratio * 1000), 1000)

    @rule(count=st.integers(1, 30))
    def calls_succeed(self, count: int) -> None:
        for _ in range(count):
            self.throttle.call_succeeded()
            self.tokens = min(self.most, self.tokens + self.ratio)
        self.agrees()

    @rule()
    def an_attempt_fails(self) -> None:
        self.throttle.attempt_failed()
        self.tokens = max(Fraction(0), self.tokens - 1)
        self.agrees()

    @rule()
    def a_call_begins(self) -> None:
        self.throttle.call_started(START)
        self.agrees()

    def agrees(self) -> None:
        assert self.throttle.withdraw(START) is (self.tokens > self.most / 2)


class ResolutionMachine(RuleBasedStateMachine):
    """The last good list stands, and a resolver that fails is asked in its own time."""

    @initialize(size=st.sampled_from([None, 1, 2]))
    def make(self, size: int | None) -> None:
        subset = None if size is None else Subset(size=size, seed=5)
        self.size = size
        self.resolution = Resolution(Streams(3), subset)
        self.timers: Timers[TimerKey] = Timers()
        self.now = START
        self.failures = 0
        self.reports, self.reported_at = 10 * SECOND, START
        self.due: tuple[int, int] | None = None
        self.chosen: dict[frozenset[str], frozenset[str]] = {}
        self.wanted: dict[str, Endpoint] = {}

    def context(self) -> EventContext:
        return EventContext(self.now, self.timers)

    @rule(addresses=st.lists(st.sampled_from("abcd"), min_size=1, max_size=6))
    def a_list(self, addresses: list[str]) -> None:
        endpoints = [Endpoint(address, weight=place + 1.0) for place, address in enumerate(addresses)]
        self.now += SECOND  # lists that come faster have to wait
        context = self.context()
        wanted = self.resolution.resolved(endpoints, context)
        had_failed, self.failures, self.due = bool(self.failures), 0, None
        firsts = {address: Endpoint(address, weight=addresses.index(address) + 1.0) for address in addresses}

        assert context.effects == []
        assert self.resolution.error == ""
        if not wanted:
            # X10: nothing to do, since it is the list of before.
            assert not had_failed
            assert self.wanted.items() <= firsts.items()
            return
        self.wanted = dict(wanted)
        assert wanted.items() <= firsts.items()
        assert list(wanted) == [address for address in dict.fromkeys(addresses) if address in wanted]
        assert len(wanted) == min(len(firsts), self.size or len(firsts))
        # One backend more or less, one change at most; the order is nobody's business (gRFC A68).
        chosen = self.chosen[frozenset(firsts)] = frozenset(wanted)
        for others, others_chosen in self.chosen.items():
            if len(others ^ frozenset(firsts)) <= 1:
                assert len(chosen - others_chosen) <= 1

    @rule(is_empty=st.booleans())
    def it_fails(self, is_empty: bool) -> None:
        context = self.context()
        if is_empty:
            assert self.resolution.resolved([], context) == {}
        else:
            self.resolution.failed("SERVFAIL", context)
        delay = min(30.0 / 1.2, 1.6**self.failures) * SECOND  # with its jitter never above the interval
        self.due = (self.now + int(0.8 * delay) - 1, self.now + int(1.2 * delay) + 1)
        self.failures += 1

        assert self.resolution.error
        assert len(context.effects) == self.is_reported()
        assert context.is_changed

    def is_reported(self) -> bool:
        """Ten reports are made at once, and one more for each second since."""
        self.reports = min(10 * SECOND, self.reports + self.now - self.reported_at)
        self.reported_at = self.now
        is_reported = self.reports >= SECOND
        self.reports -= SECOND * is_reported
        return is_reported

    @rule()
    def a_connection_is_lost(self) -> None:
        context = self.context()
        self.resolution.ask_soon(context)

        assert context.effects == ([] if self.due else [ResolveNow()])

    @rule(pause=pauses)
    def time_passes(self, pause: int) -> None:
        self.now += pause
        at = self.timers.deadline

        assert (at is None) is (self.due is None)
        if at is not None and self.due is not None:
            assert self.due[0] <= at <= self.due[1]
            if self.timers.pop_due(self.now) is not None:
                self.due = None


TestAliveMachine = AliveMachine.TestCase
TestAliveMachine.settings = steps
TestWatchMachine = WatchMachine.TestCase
TestWatchMachine.settings = steps
TestRatioMachine = RatioMachine.TestCase
TestRatioMachine.settings = steps
TestThrottleMachine = ThrottleMachine.TestCase
TestThrottleMachine.settings = steps
TestResolutionMachine = ResolutionMachine.TestCase
TestResolutionMachine.settings = steps
