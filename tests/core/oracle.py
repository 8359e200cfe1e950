"""A second opinion on the balancer: its promises, restated from the events and effects alone.

The one rule: nothing here is taken from the balancer's insides, but for `check_leaks`, which looks at them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from healthlb.config import FlapDamping, HealthCheck, SlowStart
from healthlb.core.balancer import Balancer
from healthlb.core.load import Subchannel
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
    Connect,
    ConnectivityChanged,
    ConnectivityState,
    DataFailed,
    DataReady,
    Disconnect,
    Drain,
    Effect,
    Endpoint,
    Event,
    Fact,
    HealthReported,
    HeartbeatLoss,
    OpenSubchannel,
    Panic,
    PingEnded,
    PrepareData,
    RaceConnection,
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
from healthlb.core.subchannel.dialling import Pace
from tests.core.configs import config_of

IDLE, CONNECTING, READY, FAILURE, SHUTDOWN = ConnectivityState
GRACE = 30 * SECOND
NO_ANSWER = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL)


@dataclass
class Sub:
    """What was told and asked of one subchannel."""

    address: str
    is_late: bool = False  # others served as it came into the list
    connections: int = 0
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
    is_redialled: bool = False  # by what was told last
    is_given_up: bool = False  # there is no connection, until it is replaced
    has_served: bool = False  # the present connection, since it is up
    doubts: int = 0  # connections in a row that served nothing, from the first that counted as a failed attempt
    begins_at: int | None = None  # its health is not asked before, nor calls sent
    dialled_at: int = 0
    retried_at: int = 0
    begun_at: int = 0  # the dial of the connection that is judged next
    unjudged_since: int | None = None  # the dial of the one before, where calls were on that as it was lost
    was_connected: bool = False
    lost_at: int | None = None
    is_absent: bool = False  # no part of the fleet
    is_checked: bool = True
    silent_since: int | None = None  # it was silent then, and has answered neither Check nor ping since
    is_disbelieved: bool = False  # its Watch was believed in vain
    succeeded_at: int = -1  # the last call

    @property
    def is_healthy(self) -> bool:
        """Whether nothing speaks against calls but what it did before."""
        return self.link is READY and self.word == "good" and self.data == "up"

    @property
    def silent_at(self) -> int:
        """When it will have been silent for too long: a Check waits for its ping, and ends with it."""
        return self.check_due if self.ping is None else self.ping_due

    def conclude(self) -> None:
        """gRFC A17 and A62 in three lines, and what holds it out: damping, and a Watch that is not believed."""
        if self.is_healthy:
            self.state = FAILURE if self.is_damped or self.is_disbelieved else READY
        elif self.word == "bad" or self.data == "failed" or self.link is FAILURE:
            self.state = FAILURE
        elif self.state is not FAILURE:
            self.state = CONNECTING

    def look_for(self, now: int) -> None:
        """Who failed to connect is absent: at once, or 30 s after its connection was lost; until its health is known."""
        # Without health checking, who merely connects takes over nothing yet.
        if self.link is READY and self.word != "none" and (self.is_checked or self.data == "up"):
            self.is_absent, self.lost_at = False, None
        elif self.link is not READY and self.state is FAILURE:
            self.is_absent |= not self.was_connected
        if self.lost_at is not None and now - self.lost_at >= 30 * SECOND:
            self.lost_at = None
            self.is_absent |= self.state is FAILURE

    def dialled(self, now: int) -> None:
        """What was before it does not count for this one."""
        self.dialled_at = self.begun_at = now
        self.has_served = False

    def follow(self, link: ConnectivityState, now: int) -> None:
        """The transport may dial by itself; what was lost is judged yet, until the next is up or has failed."""
        if self.link is READY and link is CONNECTING:
            self.dialled_at = now
        elif self.link is CONNECTING and link is FAILURE:
            self.begun_at, self.has_served = self.dialled_at, False
        elif self.link is FAILURE and link in (CONNECTING, READY):
            self.retried_at = now
        if link is READY and self.link is not READY:
            self.dialled_at = max(self.dialled_at, self.retried_at)

    def connection_is(self, link: ConnectivityState, now: int) -> None:
        """There was news of the link."""
        self.follow(link, now)
        if link is READY:
            self.was_connected = True
        elif self.was_connected and self.lost_at is None:
            self.lost_at = now

    def lose(self, link: ConnectivityState) -> None:
        """Nothing that was said on the old connection counts."""
        self.link, self.word, self.data, self.check = link, "none", "none", None
        self.ping = None
        self.row, self.has_word, self.confirm_at = (), False, None
        self.is_polling, self.last = False, None
        self.is_serving, self.renew_until = False, None
        self.begins_at = None

    def connected(self, service: str | None, policy: HealthCheck, now: int) -> None:
        """It is up, and has yet to serve.

        After one that served nothing, and where an address is new to a channel that serves, all waits for 20 ms, and for
        twice as long after each further one, up to 500 ms.
        """
        self.lose(READY)
        self.begun_at, self.has_served = self.dialled_at, False
        self.is_checked = service is not None
        self.connections += 1
        doubts = max(self.doubts, int(self.is_late and self.connections == 1))
        self.begins_at = now + min(SECOND // 2, SECOND // 50 * 2 ** max(0, doubts - 1))
        if not doubts:
            self.begin(policy)

    def begin(self, policy: HealthCheck) -> None:
        """Health is asked from now on, or nothing speaks against calls."""
        self.begins_at = None
        if not self.is_checked:
            self.word = "good"
        elif not policy.watch:
            self.poll()

    def served(self, code: Code = Code.OK) -> None:
        """Something has ended so, or was said."""
        if code not in NO_ANSWER:
            self.has_served, self.doubts = True, 0

    def fell_silent(self, now: int) -> None:
        """A Watch is believed once: the second silence in a row, without an answer to anything, makes it doubtful."""
        self.lose(CONNECTING)
        self.is_disbelieved = self.silent_since is not None and self.succeeded_at <= self.silent_since
        self.silent_since = now
        self.dialled(now)
        self.state, self.generation = FAILURE, None

    def was_told(self, event: CheckEnded | PingEnded) -> None:
        """A Check or a ping that is under way has ended: any status of the server's own is an answer."""
        is_made_up = event.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED)
        if not (is_made_up or (isinstance(event, CheckEnded) and event.is_unsent)):
            self.silent_since, self.is_disbelieved = None, False

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
                self.row, self.is_polling, self.is_checked = (), False, self.word == "bad"
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
        self.is_checked = not (is_unimplemented and policy.on_unimplemented == "healthy")
        self.word = "bad" if self.is_checked else "good"
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
    calls: list[Subchannel] = field(default_factory=list)
    late: dict[str, bool] = field(default_factory=dict)  # addresses that have yet to enter
    trace: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace()
        self.balancer = Balancer(
            self.service,
            config_of(self.policy, panic_threshold=self.panic_threshold, slow_start=self.slow_start),
            self.seed,
            pace=self.pace,
        )

    @property
    def is_closed(self) -> bool:
        return self.channel_state is SHUTDOWN

    def tell(self, event: Event) -> list[Effect]:
        """Hand over an event and check everything that is promised then."""
        if isinstance(event, Tick):
            self._hold()
        if isinstance(event, Resolved) and event.endpoints:
            self._list(event.endpoints)
        effects = self.balancer.handle(event, self.now)
        self.trace.append((event, [plain(effect) for effect in effects], self.balancer.deadline))
        if not self.is_closed:
            self._hear(event, effects)
        elif isinstance(event, DataReady):
            self.open_data.add((event.sub, event.generation))
        for effect in effects:
            self._asked(effect)
        self._count_flaps()
        for sub in self.subs.values():
            if not any(self._is_silenced(effect, sub) for effect in effects):
                sub.conclude()
            sub.look_for(self.now)
        if isinstance(event, Tick) and not self.is_held:
            self._end_questions()
        if isinstance(event, Closing):
            self.subs.clear()
        self._check(event, effects)
        return effects

    def _is_silenced(self, effect: Effect, sub: Sub) -> bool:
        return isinstance(effect, Replace) and self.subs.get(effect.sub) is sub and not sub.is_redialled

    def _end_questions(self) -> None:
        """What is not answered in time has ended, where something new is not asked already."""
        for sub in self.subs.values():
            if sub.silent_at <= self.now:
                sub.check = sub.ping = None

    def succeed(self, handle: Subchannel) -> None:
        """Have a call on this one succeed."""
        self.begin(handle)
        self.end(-1)

    @property
    def idle_data(self) -> list[tuple[int, int]]:
        """The connections for calls that no call is on."""
        return sorted(self.open_data - {(call.id, call.generation) for call in self.calls})

    def begin(self, handle: Subchannel) -> None:
        """Have a call on this one begin."""
        assert handle.load.start()
        self.calls.append(handle)

    def end(self, index: int) -> None:
        """Have a call succeed, wherever its subchannel has gone."""
        handle = self.calls.pop(index)
        handle.load.succeed(self.now)
        if handle.id in self.subs:
            self.subs[handle.id].succeeded_at = self.now

    def _list(self, endpoints: Iterable[Endpoint]) -> None:
        is_late = any(sub.state is READY for sub in self.subs.values())
        known = {sub.address for sub in self.subs.values()}
        new = [one.address for one in endpoints if one.address not in known]
        self.late = {address: self.late.get(address, is_late) for address in new}

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

    def _hear(self, event: Event, effects: list[Effect]) -> None:
        for sub in self.subs.values():
            sub.is_redialled = False
        match event:
            case Tick() if self.is_held:
                pass
            case Tick():
                replaced = {effect.sub for effect in effects if isinstance(effect, Replace)}
                self._confirm({number for number in replaced if not self.subs[number].is_given_up})
                self._renew()
                self._begin()
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
        if isinstance(event, CheckEnded | PingEnded):
            sub.served(event.code)
            if self._is_awaited(event, sub):
                sub.was_told(event)
        if isinstance(event, ConnectivityChanged) and not sub.is_given_up:
            sub.connection_is(event.state, self.now)
        match event:
            case ConnectivityChanged() if sub.is_given_up:
                pass
            case ConnectivityChanged(state=ConnectivityState.READY) if sub.link is not READY:
                sub.connected(self.service, self.policy, self.now)
            case ConnectivityChanged(number, ConnectivityState.IDLE):
                sub.lose(self._link_after_loss(number, sub, effects))
            case ConnectivityChanged(state=state) if state is not READY:
                sub.lose(state)
            case HealthReported(_, watch, status) if watch == sub.watch and watch:
                sub.served()
                sub.said(status == 1, self.policy, self.now)
            case WatchClosed(_, watch, code) if watch == sub.watch and watch:
                sub.served(code)
                sub.closed(code, self.policy, self.now)
            case DataReady(generation=generation):
                sub.generation = generation
                sub.data = "up" if sub.link is READY else sub.data
            case DataFailed() if sub.link is READY and sub.data != "up":
                sub.data = "failed"
            case CallFailed(generation=generation, is_refused=True) if generation == sub.generation:
                # At once where it was of use or lasted, else after the backoff.
                is_asked = any(isinstance(effect, PrepareData) for effect in effects)
                lost = "none" if is_asked else "failed"
                sub.data = lost if sub.data == "up" else sub.data
            case PingEnded(ping=ping, code=code) if ping == sub.ping:
                sub.ping = None
                sub.check = None if code is Code.DEADLINE_EXCEEDED else sub.check
            case CheckEnded(check=check, code=Code.DEADLINE_EXCEEDED) if (
                check == sub.check and sub.ping is not None and sub.ping_due > self.now
            ):
                sub.check_due = sub.ping_due
            case CheckEnded(check=check) if check == sub.check:
                sub.check = sub.ping = None
                if sub.is_polling:
                    sub.answered(event, self.policy, self.now)

    def _link_after_loss(self, number: int, sub: Sub, effects: list[Effect]) -> ConnectivityState:
        """A connection that served nothing is a failed attempt, unless it lasted; who has served is dialled again."""
        since = sub.begun_at if sub.unjudged_since is None else sub.unjudged_since
        has_succeeded = sub.succeeded_at >= since
        has_calls = any((call.id, call.generation) == (number, sub.generation) for call in self.calls)
        is_unjudged = has_calls and (has_succeeded or sub.unjudged_since is None)
        has_served = sub.has_served or has_succeeded
        dials = [effect for effect in effects if isinstance(effect, Connect | Disconnect)]
        assert [effect.sub for effect in dials] == [number]
        is_failed = isinstance(dials[0], Disconnect) and not has_served and not is_unjudged
        sub.unjudged_since = sub.begun_at if is_unjudged else None
        sub.doubts = sub.doubts + 1 if not has_served and (is_failed or sub.doubts) else 0
        return FAILURE if is_failed else IDLE

    @staticmethod
    def _is_awaited(event: CheckEnded | PingEnded, sub: Sub) -> bool:
        return event.check == sub.check if isinstance(event, CheckEnded) else event.ping == sub.ping

    def _confirm(self, silent: set[int]) -> None:
        """A status that has stood for the interval is as good as said again."""
        for number, sub in self.subs.items():
            is_too_late = number in silent and sub.confirm_at is not None and sub.silent_at <= sub.confirm_at
            if sub.confirm_at is not None and sub.confirm_at <= self.now and not is_too_late:
                sub.said(sub.row[-1], self.policy, self.now)

    def _renew(self) -> None:
        """The time is over for which the end of a Watch leaves a subchannel in."""
        for sub in self.subs.values():
            if sub.renew_until is not None and sub.renew_until <= self.now:
                sub.word, sub.is_serving, sub.renew_until = "bad", False, None

    def _begin(self) -> None:
        for sub in self.subs.values():
            if sub.begins_at is not None and sub.begins_at <= self.now:
                sub.begin(self.policy)

    def _count_flaps(self) -> None:
        if self.policy.damping is not None:
            for sub in self.subs.values():
                sub.count_flaps(self.policy.damping, self.now)

    def _asked(self, effect: Effect) -> None:
        match effect:
            case OpenSubchannel(number, endpoint):
                assert number not in self.subs
                assert number not in self.gone
                self.subs[number] = Sub(endpoint.address, is_late=self.late.pop(endpoint.address))
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
                sub.check, sub.check_due, sub.ping = check, self.now + timeout, None
            case SendPing(number, ping, timeout):
                sub = self.subs[number]
                assert self.policy.heartbeat is not None
                assert self.policy.heartbeat.ping
                assert sub.check is not None, "a ping without a Check"
                assert sub.ping is None or self.now >= sub.ping_due, "two pings under way"
                assert timeout <= self.policy.heartbeat.timeout_ns
                sub.ping, sub.ping_due = ping, self.now + timeout
            case Connect(number):
                self.subs[number].dialled(self.now)
            case Disconnect(number):
                self.subs[number].is_given_up = True
            case RaceConnection(number):
                assert not self.subs[number].is_given_up
                self.subs[number].dialled(self.now)
            case Replace(number) if self.subs[number].is_given_up:
                sub = self.subs[number]
                sub.is_given_up = False
                sub.dialled(self.now)
                sub.is_redialled = True
                sub.link = CONNECTING
            case Replace(number):
                self._count_flaps()
                self.subs[number].fell_silent(self.now)
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
                assert sub.ping is None or self.now >= sub.ping_due, "busy while a ping is under way"
                sub.check, sub.ping = None if not is_over else sub.check, None
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
        present = sum(not sub.is_absent for sub in subs)
        if present or not subs:
            assert self.is_panicking is (bool(subs) and hopeful / present < self.panic_threshold)
        assert all(sub.state is FAILURE for sub in subs if sub.is_absent)
        assert snapshot.is_panicking is self.is_panicking
        assert [view.is_damped for view in snapshot.views] == [self.subs[view.id].is_damped for view in snapshot.views]
        held_out = [sub for sub in subs if sub.is_damped and sub.is_healthy]
        if held_out:
            assert states[READY], "the last healthy one is held out"
            assert present - states[READY] <= -(-present // 2)
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
        assert {machine.id for machine in balancer._draining} <= draining - living
        by_address = balancer._draining._by_address.values()
        assert sorted(one for subs in by_address for one in subs) == sorted(balancer._draining._machines)
        assert all(by_address)
        assert set(balancer._damping._records) <= living
        assert set(balancer._damping._held_out) <= set(balancer._damping._suppressed) <= living
        assert set(balancer._slow_start._since) <= living
        assert set(balancer._panic._connected) <= living
        assert set(balancer._presence._absent) <= living
        assert set(balancer._presence.lost_at) <= living
        assert {key[0] for key in balancer._timers._live} <= living | {machine.id for machine in balancer._draining} | {
            0
        }
        if self.is_closed:
            assert (living, self.open_data, self.balancer.deadline) == (set(), set(), None)


def plain(effect: Effect) -> str:
    """An effect as text: two runs' subchannel objects differ, their texts do not."""
    return repr(effect)
