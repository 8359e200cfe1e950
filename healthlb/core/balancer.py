"""The balancer: composes subchannels, aggregates them and says what is to be done.

The one rule: `handle` never blocks, never raises for what the world did, and never calls user code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import assert_never

from healthlb.config import HealthCheck, SlowStart, Subset
from healthlb.config_outliers import Outliers
from healthlb.core import rescue
from healthlb.core.advice import Adviser
from healthlb.core.damping import Damping
from healthlb.core.heartbeat import Heartbeats, Pace
from healthlb.core.keeping import Keeping
from healthlb.core.messages import (
    Addition,
    CallFailed,
    CallsRefused,
    CallsRescued,
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
    Drained,
    Effect,
    Endpoint,
    Event,
    HealthReported,
    OpenSubchannel,
    PingEnded,
    ProbeEnded,
    Removal,
    Report,
    Resolved,
    ResolveFailed,
    ResolveNow,
    Tick,
    WatchClosed,
)
from healthlb.core.outlier import OutlierDetector
from healthlb.core.overload import Admission, Overflows
from healthlb.core.panic import PanicMode
from healthlb.core.picture import Picture, aggregate
from healthlb.core.resolution import LONGEST_WAIT, Resolution
from healthlb.core.snapshot import Snapshot
from healthlb.core.streams import Streams
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.timers import Timers
from healthlb.core.turn import TimerKey, Turn
from healthlb.core.warmup import WarmUp

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING


class Balancer:
    """Follows the health of a channel's subchannels. Pure; one writer.

    Args:
        service: the service name asked for, None for no health checking.
        policy: how health is followed.
        seed: of the random streams.
        pace: shared by the balancers of a process, so that their heartbeats are.
        subset: how many of the resolver's endpoints are used, None for all.
        outliers: who is ejected for what its calls say, None for nobody.
        panic_threshold: the share of healthy subchannels below which all connected ones are picked; 0 for never.
        slow_start: how the weight of who comes in late grows, None for at once.
        admission: shared with the calls, None for no caps.
        is_secure: whether connections are encrypted; for what is said of those that fail.
        longest_wait: seconds in which a resolver that failed is asked again at the latest.
        keep: seconds for which a healthy subchannel stays in use that the resolver gives no more.
    """

    def __init__(self, service: str | None, policy: HealthCheck, seed: int, pace: Pace | None = None,
                 subset: Subset | None = None, outliers: Outliers | None = None, panic_threshold: float = 0.0,
                 slow_start: SlowStart | None = None, admission: Admission | None = None,
                 is_secure: bool = False, longest_wait: float = LONGEST_WAIT, keep: float = 0.0) -> None:
        self._service = service
        self._policy = policy
        self._is_secure = is_secure
        self._streams = Streams(seed)
        heartbeat = None if service is None else policy.heartbeat
        self._heartbeats = Heartbeats(heartbeat, pace or Pace(), self._streams)
        self._outliers = OutlierDetector(outliers, self._streams)
        self._damping = Damping(policy.damping, (outliers or Outliers()).max_ejection_percent)
        self._panic = PanicMode(panic_threshold)
        self._warmup = WarmUp(slow_start)
        self._adviser = Adviser()
        self._admission = admission or Admission(None)
        self._overflows = Overflows(self._admission.policy)
        self._timers: Timers[TimerKey] = Timers()
        self._machines: dict[int, SubchannelMachine] = {}
        self._leaving: dict[int, SubchannelMachine] = {}
        self._ids: dict[str, int] = {}
        self._tally: Counter[ConnectivityState] = Counter()
        self._last_id = 0
        self._resolution = Resolution(self._streams, subset, longest_wait)
        self._keeping = Keeping(keep)
        self._is_closed = False
        self._picture = Picture(service)
        self._state = self._aggregate()

    @property
    def deadline(self) -> int | None:
        """When `handle(Tick(), now)` is due at the latest, in nanoseconds; None for never."""
        return self._timers.deadline

    @property
    def snapshot(self) -> Snapshot:
        """The present picture, without a picker: the driver builds that."""
        machines = self._machines.values()
        return self._picture.take(machines, self._state, self._resolution, is_panicking=self._panic.is_on)

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Take in what happened at `now` and return what is to be done, in order."""
        if self._is_closed:
            return [CloseConnection(event.sub, event.generation)] if isinstance(event, DataReady) else []
        turn = Turn(now, self._timers, self._tally)
        self._dispatch(event, turn)
        for address in self._keeping.ended(self._machines):
            self._remove(address, turn)
        for stage in (self._damping, self._outliers, self._panic, self._warmup, self._adviser):
            stage.settle(self._machines, turn)
        old, self._state = self._state, self._aggregate()
        if self._state is not old:
            turn.effects.append(Report(ChannelStateChange(now, old, self._state)))
        self._picture.is_stale |= turn.is_changed
        self._picture.is_reweighted |= turn.is_reweighted
        return turn.effects

    def _dispatch(self, event: Event, turn: Turn) -> None:
        match event:
            case Tick():
                self._tick(turn)
            case HealthReported():
                self._with(event.sub, lambda machine: self._heartbeats.health_reported(machine, event, turn))
            case WatchClosed(sub, watch, code, details):
                self._with(sub, lambda machine: machine.watch_closed(watch, code, details, turn))
            case ConnectivityChanged(sub, state, reason):
                self._with(sub, lambda machine: self._connection_is(machine, state, reason, turn))
            case CheckEnded() | PingEnded():
                self._with(event.sub, lambda m: self._settle(self._heartbeats.check_ended(m, event, turn), m, turn))
            case CallFailed():
                self._with(event.sub, lambda machine: self._call_failed(machine, event, turn))
            case ProbeEnded(sub, generation):
                self._with(sub, lambda machine: self._outliers.probe_ended(machine, generation, turn))
            case CallsRefused():
                self._overflows.refused(event, turn)
            case CallsRescued():
                self._with(event.sub, lambda machine: rescue.report(machine, event, turn))
            case DataReady(sub, generation):
                self._data_ready(sub, generation, turn)
            case DataFailed(sub, reason):
                self._with(sub, lambda machine: machine.data_failed(reason, turn))
            case Drained(sub, generation):
                self._close_drained(sub, generation, turn)
            case Resolved(endpoints):
                self._resolved(endpoints, turn)
            case ResolveFailed(error):
                self._resolution.failed(error, turn)
            case Closing():
                self._close(turn)
            case _:
                assert_never(event)

    def _with(self, sub: int, act: Callable[[SubchannelMachine], None]) -> None:
        if (machine := self._machines.get(sub)) is not None:
            act(machine)

    # --- the resolver ------------------------------------------------------------------------

    def _resolved(self, endpoints: tuple[Endpoint, ...], turn: Turn) -> None:
        wanted = self._resolution.resolved(endpoints, turn)
        if not wanted:
            return
        wanted = self._keeping.merge(wanted, self._machines, turn)
        for endpoint in [endpoint for address, endpoint in wanted.items() if address not in self._ids]:
            self._add(endpoint, turn)
        for address in [address for address in self._ids if address not in wanted]:
            self._remove(address, turn)
        self._machines = {self._ids[address]: self._machines[self._ids[address]] for address in wanted}
        for machine in self._machines.values():
            self._picture.is_reweighted |= machine.update_endpoint(wanted[machine.endpoint.address], turn)
        self._outliers.started(self._machines, turn)
        turn.is_changed = True

    def _add(self, endpoint: Endpoint, turn: Turn) -> None:
        self._last_id += 1
        sub = self._last_id
        self._ids[endpoint.address] = sub
        machine = SubchannelMachine(
            *(sub, endpoint, self._policy, self._service, self._streams, turn.now, self._admission.crowd.make_load),
            is_late=self._tally[_READY] > 0,
            is_secure=self._is_secure,
        )
        self._machines[sub] = machine
        self._tally[machine.concluded_state] += 1
        turn.effects.append(OpenSubchannel(sub, endpoint))
        turn.effects.append(Report(Addition(turn.now, sub, endpoint.address)))
        machine.connectivity_changed(_CONNECTING, "connecting", turn)
        self._heartbeats.add(sub, turn)

    def _remove(self, address: str, turn: Turn) -> None:
        machine = self._machines.pop(self._ids.pop(address))
        self._heartbeats.remove(machine.id, turn)
        for stage in (self._damping, self._outliers, self._warmup):
            stage.forget(machine.id, turn)
        self._keeping.forget(machine.id, turn)
        for news in (turn.flaps, turn.late):
            news[:] = [sub for sub in news if sub != machine.id]
        machine.retire(turn)
        self._tally[machine.concluded_state] -= 1
        self._panic.forget(machine)
        self._leaving[machine.id] = machine
        turn.effects.append(CloseSubchannel(machine.id))
        turn.effects.append(Report(Removal(turn.now, machine.id, address)))
        self._forget_if_drained(machine)

    # --- subchannels ---------------------------------------------------------------------------

    def _connection_is(self, machine: SubchannelMachine, state: ConnectivityState, reason: str, turn: Turn) -> None:
        was_ready = machine.raw_state is _READY
        machine.connectivity_changed(state, reason, turn)
        is_ready = machine.raw_state is _READY
        if (was_ready and not is_ready) or state is ConnectivityState.TRANSIENT_FAILURE:
            self._resolution.ask_soon(turn)
        if is_ready and not was_ready:
            self._heartbeats.start(machine.id, turn)
        elif was_ready and not is_ready:
            self._heartbeats.stop(machine.id, turn)

    def _data_ready(self, sub: int, generation: int, turn: Turn) -> None:
        machine = self._machines.get(sub)
        if machine is None:
            turn.effects.append(CloseConnection(sub, generation))
        else:
            machine.data_ready(generation, turn)
            self._outliers.connected(machine)

    def _call_failed(self, machine: SubchannelMachine, event: CallFailed, turn: Turn) -> None:
        if event.is_refused:
            machine.data_refused(event.generation, turn)
        if machine.handle is None or machine.handle.generation != event.generation:
            return
        self._outliers.call_failed(machine, self._machines, turn)
        if machine.raw_state is _READY and event.code is Code.DEADLINE_EXCEEDED:
            machine.data_suspected(turn)
            self._heartbeats.suspect(machine.id, turn)

    def _settle(self, is_silent: bool, machine: SubchannelMachine, turn: Turn) -> None:
        if is_silent and self._heartbeats.silence(machine, self._machines.values(), turn):
            self._resolution.ask_soon(turn)
            rescue.rescue_calls(machine, turn)

    def _close_drained(self, sub: int, generation: int, turn: Turn) -> None:
        machine = self._machines.get(sub) or self._leaving.get(sub)
        if machine is None or generation not in machine.draining:
            return
        machine.drained(generation, turn)
        turn.effects.append(CloseConnection(sub, generation))
        self._forget_if_drained(machine)

    def _forget_if_drained(self, machine: SubchannelMachine) -> None:
        if not machine.draining:
            self._leaving.pop(machine.id, None)

    # --- time and the end ----------------------------------------------------------------------

    def _tick(self, turn: Turn) -> None:
        if turn.timers.hold(turn.now):
            return
        while (key := turn.timers.pop_due(turn.now)) is not None:
            sub, kind, number = key
            if kind == "resolve":
                turn.effects.append(ResolveNow())
            elif kind == "outliers":
                self._outliers.interval_due(number, self._machines, turn)
            elif kind == "suspicion":
                self._heartbeats.look(self._machines, turn)
            elif kind == "warmup":
                self._warmup.due(self._machines, turn)
            elif kind == "overflow":
                self._overflows.due(turn)
            elif kind == "keep":
                self._remove(self._machines[sub].endpoint.address, turn)
            else:
                self._due(self._machines[sub], kind, number, turn)

    def _due(self, machine: SubchannelMachine, kind: str, number: int, turn: Turn) -> None:
        match kind:
            case "response" | "renewal" | "retry" | "status" | "confirm":
                machine.health_due(kind, turn)
            case "data":
                machine.data_due(turn)
            case "changes":
                machine.changes_due(turn)
            case "damping":
                self._damping.due(machine, turn)
            case "challenge":
                machine.challenge_due(turn)
            case "ejection" | "probe":
                self._outliers.due(machine, kind, turn)
            case _:
                self._settle(self._heartbeats.due(machine, kind, number, turn), machine, turn)

    def _close(self, turn: Turn) -> None:
        for address in list(self._ids):
            self._remove(address, turn)
        for sub, generation in [(m.id, generation) for m in self._leaving.values() for generation in m.draining]:
            self._close_drained(sub, generation, turn)
        self._resolution.stop(turn)
        self._outliers.stop(turn)
        self._overflows.stop(turn)
        self._is_closed = True
        turn.is_changed = True

    # --- the picture -----------------------------------------------------------------------------

    def _aggregate(self) -> ConnectivityState:
        if self._is_closed:
            return ConnectivityState.SHUTDOWN
        is_empty = not (self._machines or self._resolution.error)
        return aggregate(self._tally, is_empty=is_empty, is_open=self._panic.is_open)
