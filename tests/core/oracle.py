"""A second opinion on the balancer: its promises, restated from the events and effects alone.

The one rule: nothing here is taken from the balancer's insides, but for `check_leaks`, which looks at them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from healthlb.config import HealthCheck
from healthlb.core.balancer import Balancer
from healthlb.core.heartbeat import Pace
from healthlb.core.messages import (
    SECOND,
    Addition,
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
    OpenSubchannel,
    Removal,
    Replace,
    Report,
    ResolutionFailure,
    Resolved,
    ResolveFailed,
    SendCheck,
    StartWatch,
    StateChange,
    StopWatch,
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
    data: str = "none"  # the connection for calls: none, up, failed
    generation: int | None = None
    state: ConnectivityState = CONNECTING
    check: int | None = None
    check_due: int = 0

    def conclude(self) -> None:
        """gRFC A17 and A62 in three lines."""
        if self.link is READY and self.word == "good" and self.data == "up":
            self.state = READY
        elif self.word == "bad" or self.data == "failed" or self.link is FAILURE:
            self.state = FAILURE
        elif self.state is not FAILURE:
            self.state = CONNECTING

    def lose(self, link: ConnectivityState) -> None:
        """Nothing that was said on the old connection counts."""
        self.link, self.word, self.data, self.check = link, "none", "none", None


@dataclass
class Oracle:
    """Follows a balancer and raises where it breaks a promise."""

    service: str | None
    policy: HealthCheck
    seed: int = 0
    now: int = 0
    subs: dict[int, Sub] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)  # removed subchannels, and when
    open_data: set[tuple[int, int]] = field(default_factory=set)
    error: str = ""
    channel_state: ConnectivityState = CONNECTING
    trace: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace()
        self.balancer = Balancer(self.service, self.policy, self.seed, self.pace)

    @property
    def is_closed(self) -> bool:
        return self.channel_state is SHUTDOWN

    def tell(self, event: Event) -> list[Effect]:
        """Hand over an event and check everything that is promised then."""
        effects = self.balancer.handle(event, self.now)
        self.trace.append((event, [plain(effect) for effect in effects], self.balancer.deadline))
        if not self.is_closed:
            self._hear(event)
        elif isinstance(event, DataReady):
            self.open_data.add((event.sub, event.generation))
        for effect in effects:
            self._asked(effect)
        for sub in self.subs.values():
            if not any(isinstance(effect, Replace) and self.subs.get(effect.sub) is sub for effect in effects):
                sub.conclude()
        if isinstance(event, Closing):
            self.subs.clear()
        self._check(event, effects)
        return effects

    def run(self, duration: int, *, late_by: int = 0) -> None:
        """Let time pass, with a Tick at (or `late_by` after) each deadline."""
        end = self.now + duration
        while (deadline := self.balancer.deadline) is not None and max(deadline, self.now) + late_by <= end:
            self.now = max(self.now, deadline) + late_by
            self.tell(Tick())
        self.now = end

    # --- events and effects ----------------------------------------------------------------------

    def _hear(self, event: Event) -> None:
        match event:
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
            case ConnectivityChanged(state=state) if state is not READY:
                sub.lose(state)
            case HealthReported(_, watch, status) if watch == sub.watch:
                sub.word = "good" if status == 1 else "bad"
            case WatchClosed(_, watch, code) if watch == sub.watch:
                is_good = code is Code.UNIMPLEMENTED and self.policy.on_unimplemented == "healthy"
                sub.word, sub.watch = "good" if is_good else "bad", None
            case DataReady(generation=generation):
                sub.generation = generation
                sub.data = "up" if sub.link is READY else sub.data
            case DataFailed() if sub.link is READY and sub.data != "up":
                sub.data = "failed"
            case CallFailed(generation=generation, is_refused=True) if generation == sub.generation:
                sub.data = "none" if sub.data == "up" else sub.data
            case CheckEnded(check=check) if check == sub.check:
                sub.check = None

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
                sub.word = "none"
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
            case Replace(number):
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
            case Removal(_, number, _):
                assert self.gone[number] == self.now
            case ResolutionFailure(_, error):
                assert error == self.error

    # --- promises -----------------------------------------------------------------------------------

    def _check(self, event: Event, effects: list[Effect]) -> None:
        snapshot = self.balancer.snapshot
        assert {view.id: view.state for view in snapshot.views} == {n: sub.state for n, sub in self.subs.items()}
        assert snapshot.state is self.channel_state is self._aggregate()
        assert (snapshot.error, snapshot.service) == (self.error, self.service)
        assert self.balancer.snapshot is snapshot
        wanted = [view.id for view in snapshot.views if self.subs[view.id].state is READY]
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

    def _aggregate(self) -> ConnectivityState:
        states = Counter(sub.state for sub in self.subs.values())
        if self.is_closed:
            return SHUTDOWN
        if states[READY]:
            return READY
        if states[CONNECTING]:
            return CONNECTING
        return FAILURE if states or self.error else CONNECTING

    def check_leaks(self) -> None:
        """Nothing is kept of what is gone."""
        balancer: Any = self.balancer
        living = set(self.subs)
        is_beating = self.service is not None and self.policy.heartbeat is not None
        assert set(balancer._machines) == set(balancer._ids.values()) == living
        assert set(balancer._heartbeats._machines) == (living if is_beating else set())
        assert self.pace.members == len(balancer._heartbeats)
        draining = {number for number, _ in self.open_data}
        assert set(balancer._leaving) <= draining - living
        assert {key[0] for key in balancer._timers._live} <= living | set(balancer._leaving) | {0}
        if self.is_closed:
            assert (living, self.open_data, self.balancer.deadline) == (set(), set(), None)


def plain(effect: Effect) -> str:
    """An effect as text: two runs' subchannel objects differ, their texts do not."""
    return repr(effect)
