"""A second opinion on the balancer: its promises, restated from the events and effects alone.

The one rule: nothing here is taken from the balancer's insides, but for `check_leaks`, which looks at them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from healthlb.config import FlapDamping, HealthCheck, SlowStart
from healthlb.core.balancer import Balancer
from healthlb.core.heartbeat import Pace
from healthlb.core.messages import (
    SECOND,
    Addition,
    BusyBackend,
    CallFailed,
    ChannelStateChange,
    CheckEnded,
    CloseConnection,
    CloseSubchannel,
    Closing,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    DataFailed,
    DataReady,
    Drain,
    Effect,
    Event,
    Fact,
    HealthReported,
    HeartbeatLoss,
    OpenSubchannel,
    Panic,
    PingEnded,
    Release,
    Removal,
    Replace,
    Report,
    ResolutionFailure,
    Resolved,
    ResolveFailed,
    SendCheck,
    SendPing,
    StartWatch,
    StateChange,
    StopWatch,
    Suppression,
    Tick,
    WatchClosed,
)

IDLE, CONNECTING, READY, FAILURE, SHUTDOWN = ConnectivityState
GRACE = 30 * SECOND


@dataclass
class Sub:
    """What was told and asked of one subchannel."""

    address: str
    link: ConnectivityState = CONNECTING
    watch: int | None = None
    last_watch: int = 0
    word: str = "none"  # of health on this connection: none, good, bad
    is_serving: bool = False  # the last status of a Watch on this connection
    renew_until: int | None = None  # until then an ended Watch leaves it in
    data: str = "none"  # the connection for calls: none, up, failed
    generation: int | None = None
    state: ConnectivityState = CONNECTING
    check: int | None = None
    check_due: int = 0
    ping: int | None = None
    ping_due: int = 0
    row: tuple[bool, ...] = ()  # the statuses on this connection, since its Watch last ended
    has_word: bool = False
    confirm_at: int | None = None
    is_polling: bool = False
    last: int | None = None  # what a Check said last
    was_healthy: bool = False
    is_damped: bool = False
    penalty: float = 0.0
    flapped_at: int = 0

    @property
    def is_healthy(self) -> bool:
        """Whether nothing speaks against calls but what it did before."""
        return self.link is READY and self.word == "good" and self.data == "up"

    @property
    def silent_at(self) -> int:
        """When it will have been silent for too long, once both are late."""
        return self.check_due if self.ping is None else min(self.check_due, self.ping_due)

    def conclude(self) -> None:
        """gRFC A17 and A62 in three lines, and damping."""
        if self.is_healthy:
            self.state = FAILURE if self.is_damped else READY
        elif self.word == "bad" or self.data == "failed" or self.link is FAILURE:
            self.state = FAILURE
        elif self.state is not FAILURE:
            self.state = CONNECTING

    def lose(self, link: ConnectivityState) -> None:
        """Nothing that was said on the old connection counts."""
        self.link, self.word, self.data, self.check = link, "none", "none", None
        self.ping = None
        self.row, self.has_word, self.confirm_at = (), False, None
        self.is_polling, self.last = False, None
        self.is_serving, self.renew_until = False, None

    def poll(self) -> None:
        """Checks tell the health from now on."""
        self.word, self.is_polling, self.last = "none", True, None
        self.is_serving, self.renew_until = False, None
        self.row, self.has_word, self.confirm_at = (), False, None

    def answered(self, event: CheckEnded, policy: HealthCheck, now: int) -> None:
        """A Check that was asked for the health."""
        match event.code:
            case Code.DEADLINE_EXCEEDED:
                return  # silence is the heartbeat's affair
            case Code.UNIMPLEMENTED:
                self.word = "bad" if policy.on_unimplemented == "unhealthy" else "good"
                self.row, self.is_polling = (), False
            case Code.OK | Code.NOT_FOUND:
                self.last = event.status if event.code is Code.OK else 3
                self.said(self.last == 1, policy, now)
            case Code.RESOURCE_EXHAUSTED if self.last == 1:
                pass
            case _ if not (event.is_unsent and self.last is not None):
                self.last = None
                self.said(False, policy, now)
        self.confirm_at = None

    def closed(self, code: Code, policy: HealthCheck, now: int) -> None:
        """Its Watch ended: where the last status was SERVING, that stands for a while."""
        self.watch, self.row, self.confirm_at = None, (), None
        if self.word == "good" and self.is_serving and code not in (Code.NOT_FOUND, Code.UNIMPLEMENTED):
            longest = max(2 * SECOND, 2 * policy.min_restart_interval_ns)
            self.renew_until = self.renew_until or now + min(longest, policy.first_response_timeout_ns)
            return
        self.is_serving, self.renew_until = False, None
        is_unimplemented = code is Code.UNIMPLEMENTED
        self.word = "good" if is_unimplemented and policy.on_unimplemented == "healthy" else "bad"
        if is_unimplemented and policy.on_unimplemented == "check":
            self.poll()

    def said(self, is_serving: bool, policy: HealthCheck, now: int) -> None:
        """Take in a status, or that it stands: it takes so many of a kind to change one's mind."""
        self.row += (is_serving,)
        self.is_serving, self.renew_until = is_serving, None
        needed = policy.rise if is_serving else policy.fall
        is_first, self.has_word = not self.has_word, True
        is_enough = self.row[-needed:] == (is_serving,) * needed
        if is_first or is_enough or is_serving is (self.word == "good"):
            self.word, self.confirm_at = "good" if is_serving else "bad", None
        else:
            self.confirm_at = now + policy.confirm_interval_ns

    def count_flaps(self, policy: FlapDamping, now: int) -> None:
        """RFC 2439, where good health has ended."""
        if self.was_healthy and not self.is_healthy:
            halves = (now - self.flapped_at) / policy.half_life_ns
            self.penalty = min(policy.ceiling, self.penalty * 0.5**halves + policy.penalty)
            self.flapped_at = now
        self.was_healthy = self.is_healthy


@dataclass
class Oracle:
    """Follows a balancer and raises where it breaks a promise."""

    service: str | None
    policy: HealthCheck
    seed: int = 0
    now: int = 0
    panic_threshold: float = 0.0
    slow_start: SlowStart | None = None
    subs: dict[int, Sub] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)  # removed subchannels, and when
    open_data: set[tuple[int, int]] = field(default_factory=set)
    error: str = ""
    channel_state: ConnectivityState = CONNECTING
    is_panicking: bool = False
    is_held: bool = False
    held_until: int = 0
    trace: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace()
        self.balancer = Balancer(
            self.service,
            self.policy,
            self.seed,
            self.pace,
            panic_threshold=self.panic_threshold,
            slow_start=self.slow_start,
        )

    @property
    def is_closed(self) -> bool:
        return self.channel_state is SHUTDOWN

    def tell(self, event: Event) -> list[Effect]:
        """Hand over an event and check everything that is promised then."""
        if isinstance(event, Tick):
            self._hold()
        effects = self.balancer.handle(event, self.now)
        self.trace.append((event, [plain(effect) for effect in effects], self.balancer.deadline))
        if not self.is_closed:
            self._hear(event, {effect.sub for effect in effects if isinstance(effect, Replace)})
        elif isinstance(event, DataReady):
            self.open_data.add((event.sub, event.generation))
        for effect in effects:
            self._asked(effect)
        self._count_flaps()
        for sub in self.subs.values():
            if not any(isinstance(effect, Replace) and self.subs.get(effect.sub) is sub for effect in effects):
                sub.conclude()
        if isinstance(event, Closing):
            self.subs.clear()
        self._check(event, effects)
        return effects

    def _hold(self) -> None:
        """Timers that are seen so late that the loop must have stood still wait for 50 ms, once."""
        due = self.balancer.deadline
        self.is_held = due is not None and self.now - due >= SECOND // 10 and due > self.held_until
        self.held_until = self.now + SECOND // 20 if self.is_held else 0

    def run(self, duration: int, *, late_by: int = 0) -> None:
        """Let time pass, with a Tick at (or `late_by` after) each deadline."""
        end = self.now + duration
        while (deadline := self.balancer.deadline) is not None and max(deadline, self.now) + late_by <= end:
            self.now = max(self.now, deadline) + late_by
            self.tell(Tick())
        self.now = end

    # --- events and effects ----------------------------------------------------------------------

    def _hear(self, event: Event, silent: set[int]) -> None:
        match event:
            case Tick():
                self._confirm(silent)
                self._renew()
            case Resolved(endpoints) if endpoints:
                self.error = ""
            case Resolved():
                self.error = "the resolver returned no addresses"
            case ResolveFailed(error):
                self.error = error
            case DataReady(number, generation):
                self.open_data.add((number, generation))
        sub = self.subs.get(getattr(event, "sub", 0))
        if sub is None:
            return
        match event:
            case ConnectivityChanged(state=ConnectivityState.READY) if sub.link is not READY:
                sub.lose(READY)
                sub.word = "good" if self.service is None else "none"
                if self.service is not None and not self.policy.watch:
                    sub.poll()
            case ConnectivityChanged(state=state) if state is not READY:
                sub.lose(state)
            case HealthReported(_, watch, status) if watch == sub.watch:
                sub.said(status == 1, self.policy, self.now)
            case WatchClosed(_, watch, code) if watch == sub.watch:
                sub.closed(code, self.policy, self.now)
            case DataReady(generation=generation):
                sub.generation = generation
                sub.data = "up" if sub.link is READY else sub.data
            case DataFailed() if sub.link is READY and sub.data != "up":
                sub.data = "failed"
            case CallFailed(generation=generation, is_refused=True) if generation == sub.generation:
                sub.data = "none" if sub.data == "up" else sub.data
            case PingEnded(ping=ping, code=code) if ping == sub.ping and code is not Code.DEADLINE_EXCEEDED:
                sub.ping = None
            case CheckEnded(check=check, code=Code.DEADLINE_EXCEEDED) if (
                check == sub.check and sub.ping is not None and sub.ping_due > self.now
            ):
                sub.check_due = sub.ping_due
            case CheckEnded(check=check) if check == sub.check:
                sub.check = sub.ping = None
                if sub.is_polling:
                    sub.answered(event, self.policy, self.now)

    def _confirm(self, silent: set[int]) -> None:
        """A status that has stood for the interval is as good as said again."""
        for number, sub in self.subs.items():
            is_too_late = number in silent and sub.confirm_at is not None and sub.silent_at <= sub.confirm_at
            if sub.confirm_at is not None and sub.confirm_at <= self.now and not is_too_late:
                sub.said(sub.row[-1], self.policy, self.now)

    def _renew(self) -> None:
        """The time is over for which the end of a Watch leaves a subchannel in."""
        for sub in self.subs.values():
            if sub.renew_until is not None and sub.renew_until <= self.now and not self.is_held:
                sub.word, sub.is_serving, sub.renew_until = "bad", False, None

    def _count_flaps(self) -> None:
        if self.policy.damping is not None:
            for sub in self.subs.values():
                sub.count_flaps(self.policy.damping, self.now)

    def _asked(self, effect: Effect) -> None:
        match effect:
            case OpenSubchannel(number, endpoint):
                assert number not in self.subs
                assert number not in self.gone
                self.subs[number] = Sub(endpoint.address)
            case CloseSubchannel(number):
                self.gone[number] = self.now
                assert self.subs.pop(number).watch is None
            case StartWatch(number, watch, service):
                sub = self.subs[number]
                assert (sub.watch, sub.link, service) == (None, READY, self.service)
                assert watch > sub.last_watch
                sub.watch = sub.last_watch = watch
                sub.word = sub.word if sub.renew_until is not None else "none"
            case StopWatch(number, watch):
                sub = self.subs[number]
                assert sub.watch == watch
                sub.watch = None
                sub.word = "bad" if sub.link is READY else sub.word
            case SendCheck(number, check, timeout):
                sub = self.subs[number]
                assert sub.link is READY
                assert sub.check is None or self.now >= sub.check_due, "two Checks in flight"
                sub.check, sub.check_due = check, self.now + timeout
            case SendPing(number, ping, timeout):
                sub = self.subs[number]
                assert self.policy.heartbeat is not None
                assert self.policy.heartbeat.ping
                assert sub.check is not None, "a ping without a Check"
                assert sub.ping is None, "two pings under way"
                assert timeout <= self.policy.heartbeat.timeout_ns
                sub.ping, sub.ping_due = ping, self.now + timeout
            case Replace(number):
                self._count_flaps()
                sub = self.subs[number]
                sub.lose(CONNECTING)
                sub.state, sub.generation = FAILURE, None
            case Drain(handle):
                assert (handle.id, handle.generation) in self.open_data
            case CloseConnection(number, generation):
                assert (number, generation) in self.open_data
                self.open_data.remove((number, generation))
            case Report(fact):
                self._told(fact)

    def _told(self, fact: Fact) -> None:
        assert fact.at == self.now
        match fact:
            case ChannelStateChange(_, old, new):
                assert old is self.channel_state is not new
                self.channel_state = new
            case StateChange(_, number, address, old, new):
                assert old is not new
                assert self.subs[number].address == address
            case Addition(_, number, address):
                assert self.subs[number].address == address
            case HeartbeatLoss(_, number):
                self.subs[number].check = self.subs[number].ping = None
            case BusyBackend(_, number, _, is_over):
                sub = self.subs[number]
                assert sub.ping is None, "busy while a ping is under way"
                sub.check = None if not is_over else sub.check
            case Removal(_, number, _):
                assert self.gone[number] == self.now
            case ResolutionFailure(_, error):
                assert error == self.error
            case Suppression(_, number, _, flaps, penalty, duration):
                self._count_flaps()
                self._suppressed(self.subs[number], flaps, penalty, duration)
            case Release(_, number, _, cause):
                self._count_flaps()
                self._released(self.subs[number], cause)
            case Panic(_, is_over, healthy, total, picks):
                assert is_over is self.is_panicking
                assert (picks >= 0, healthy <= total) == (True, True)
                self.is_panicking = not is_over

    def _suppressed(self, sub: Sub, flaps: int, penalty: float, duration: int) -> None:
        policy = self.policy.damping
        assert policy is not None
        assert not sub.is_damped
        assert sub.penalty == pytest.approx(penalty)
        assert sub.penalty > policy.suppress * 0.999999
        assert flaps >= 2, "an isolated flap suppresses"
        assert 0 < duration <= policy.max_suppress * SECOND * 1.000001 + 1
        sub.is_damped = True

    def _released(self, sub: Sub, cause: str) -> None:
        policy = self.policy.damping
        assert policy is not None
        assert sub.is_damped
        sub.is_damped = False
        if cause == "too few are left":
            assert sub.is_healthy
        else:
            left = sub.penalty * 0.5 ** ((self.now - sub.flapped_at) / policy.half_life_ns)
            assert left <= policy.reuse * 1.000001

    # --- promises -----------------------------------------------------------------------------------

    def _check(self, event: Event, effects: list[Effect]) -> None:
        snapshot = self.balancer.snapshot
        assert {view.id: view.state for view in snapshot.views} == {n: sub.state for n, sub in self.subs.items()}
        assert snapshot.state is self.channel_state is self._aggregate()
        assert (snapshot.error, snapshot.service) == (self.error, self.service)
        assert self.balancer.snapshot is snapshot
        self._check_stages()
        wanted = [view.id for view in snapshot.views if self._is_wanted(self.subs[view.id])]
        assert [handle.id for handle in snapshot.ready] == wanted
        for handle in snapshot.ready:
            sub = self.subs[handle.id]
            assert (handle.generation, handle.address) == (sub.generation, sub.address)
            assert not handle.load.is_retired
        assert all(view.since <= self.now for view in snapshot.views)
        assert (snapshot.failure is None) is (snapshot.state is not FAILURE)
        assert snapshot.describe()
        deadline = self.balancer.deadline
        if isinstance(event, Tick):
            assert deadline is None or deadline > self.now
        self.check_leaks()

    def _is_wanted(self, sub: Sub) -> bool:
        return sub.link is READY and sub.data == "up" if self.is_panicking else sub.state is READY

    def _check_stages(self) -> None:
        """Eligibility and weights: panic, damping, slow start."""
        snapshot = self.balancer.snapshot
        subs = list(self.subs.values())
        states = Counter(sub.state for sub in subs)
        hopeful = states[READY] + states[CONNECTING]
        assert self.is_panicking is (bool(subs) and hopeful / len(subs) < self.panic_threshold)
        assert snapshot.is_panicking is self.is_panicking
        assert [view.is_damped for view in snapshot.views] == [self.subs[view.id].is_damped for view in snapshot.views]
        held_out = [sub for sub in subs if sub.is_damped and sub.is_healthy]
        if held_out:
            assert states[READY], "the last healthy one is held out"
            assert len(subs) - states[READY] <= -(-len(subs) // 2)
        policy = self.policy.damping
        for sub in subs:
            if sub.is_damped and policy is not None and isinstance(self.trace[-1][0], Tick):
                assert self.now - sub.flapped_at <= policy.max_suppress * SECOND * 1.000001 + 1
        least = self.slow_start.min_weight if self.slow_start is not None else 1.0
        for view in snapshot.views:
            assert least * view.endpoint.weight <= view.weight <= view.endpoint.weight
        for handle in snapshot.ready:
            assert handle.weight == next(view.weight for view in snapshot.views if view.id == handle.id)

    def _aggregate(self) -> ConnectivityState:
        states = Counter(sub.state for sub in self.subs.values())
        if self.is_closed:
            return SHUTDOWN
        if states[READY] or (self.is_panicking and any(self._is_wanted(sub) for sub in self.subs.values())):
            return READY
        if states[CONNECTING]:
            return CONNECTING
        return FAILURE if states or self.error else CONNECTING

    def check_leaks(self) -> None:
        """Nothing is kept of what is gone."""
        balancer: Any = self.balancer
        living = set(self.subs)
        is_beating = self.service is not None and self.policy.heartbeat is not None
        counted = [one for one in balancer._heartbeats._machines.values() if one._is_counted]
        assert set(balancer._machines) == set(balancer._ids.values()) == living
        assert set(balancer._heartbeats._machines) == living
        assert self.pace.members == len(counted) == (len(living) if is_beating else 0)
        draining = {number for number, _ in self.open_data}
        assert set(balancer._leaving) <= draining - living
        assert set(balancer._damping._records) <= living
        assert set(balancer._damping._held_out) <= set(balancer._damping._suppressed) <= living
        assert set(balancer._warmup._since) <= living
        assert set(balancer._panic._connected) <= living
        assert {key[0] for key in balancer._timers._live} <= living | set(balancer._leaving) | {0}
        if self.is_closed:
            assert (living, self.open_data, self.balancer.deadline) == (set(), set(), None)


def plain(effect: Effect) -> str:
    """An effect as text: two runs' subchannel objects differ, their texts do not."""
    return repr(effect)
