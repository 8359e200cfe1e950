"""The balancer: composes subchannels, aggregates them and says what is to be done.

The one rule: `handle` never blocks, never raises for what the world did, and never calls user code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import assert_never

from healthlb.config import HealthCheck, Subset
from healthlb.core.heartbeat import Heartbeats, Pace, may_exclude
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
    Drained,
    Effect,
    Endpoint,
    Event,
    HealthReported,
    HeartbeatLoss,
    OpenSubchannel,
    Removal,
    Report,
    Resolved,
    ResolveFailed,
    ResolveNow,
    Tick,
    WatchClosed,
)
from healthlb.core.resolution import Resolution
from healthlb.core.snapshot import Snapshot
from healthlb.core.streams import Streams
from healthlb.core.subchannel import SubchannelMachine, TimerKey, Turn
from healthlb.core.timers import Timers

DRAIN_GRACE = 30 * SECOND

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_SHUTDOWN = ConnectivityState.SHUTDOWN


class Balancer:
    """Follows the health of a channel's subchannels. Pure; one writer.

    Args:
        service: the service name asked for, None for no health checking.
        policy: how health is followed.
        seed: of the random streams.
        pace: shared by the balancers of a process, so that their heartbeats are.
        subset: how many of the resolver's endpoints are used, None for all.
    """

    def __init__(self, service: str | None, policy: HealthCheck, seed: int, pace: Pace | None = None,
                 subset: Subset | None = None) -> None:
        self._service = service
        self._policy = policy
        self._streams = Streams(seed)
        is_checked = service is not None
        self._heartbeats = Heartbeats(policy.heartbeat if is_checked else None, pace or Pace(), self._streams)
        self._timers: Timers[TimerKey] = Timers()
        self._machines: dict[int, SubchannelMachine] = {}
        self._leaving: dict[int, SubchannelMachine] = {}
        self._ids: dict[str, int] = {}
        self._tally: Counter[ConnectivityState] = Counter()
        self._last_id = 0
        self._resolution = Resolution(self._streams, subset)
        self._is_closed = False
        self._snapshot = Snapshot(0, _CONNECTING, service=service)
        self._is_stale = False
        self._is_reweighted = False

    @property
    def deadline(self) -> int | None:
        """When `handle(Tick(), now)` is due at the latest, in nanoseconds; None for never."""
        return self._timers.deadline

    @property
    def snapshot(self) -> Snapshot:
        """The present picture, without a picker: the driver builds that."""
        if self._is_stale:
            self._snapshot = self._take_snapshot()
            self._is_stale = False
        return self._snapshot

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Take in what happened at `now` and return what is to be done, in order."""
        if self._is_closed:
            return [CloseConnection(event.sub, event.generation)] if isinstance(event, DataReady) else []
        turn = Turn(now, self._timers, self._tally)
        old = self._aggregate()
        self._dispatch(event, turn)
        new = self._aggregate()
        if new is not old:
            turn.effects.append(Report(ChannelStateChange(now, old, new)))
        self._is_stale |= turn.is_changed
        return turn.effects

    def _dispatch(self, event: Event, turn: Turn) -> None:
        match event:
            case Tick():
                self._tick(turn)
            case HealthReported(sub, watch, status):
                self._with(sub, lambda machine: machine.health_reported(watch, status, turn))
            case WatchClosed(sub, watch, code, details):
                self._with(sub, lambda machine: machine.watch_closed(watch, code, details, turn))
            case ConnectivityChanged(sub, state, reason):
                self._with(sub, lambda machine: self._connection_is(machine, state, reason, turn))
            case CheckEnded(sub, check, code):
                self._with(sub, lambda machine: self._check_ended(machine, check, code, turn))
            case CallFailed():
                self._with(event.sub, lambda machine: self._call_failed(machine, event, turn))
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
        for endpoint in [endpoint for address, endpoint in wanted.items() if address not in self._ids]:
            self._add(endpoint, turn)
        for address in [address for address in self._ids if address not in wanted]:
            self._remove(address, turn)
        self._machines = {self._ids[address]: self._machines[self._ids[address]] for address in wanted}
        updates = [self._machines[self._ids[address]].update_endpoint(wanted[address], turn) for address in wanted]
        self._is_reweighted |= any(updates)
        turn.is_changed = True

    def _add(self, endpoint: Endpoint, turn: Turn) -> None:
        self._last_id += 1
        sub = self._last_id
        self._ids[endpoint.address] = sub
        machine = SubchannelMachine(sub, endpoint, self._policy, self._service, self._streams, turn.now)
        self._machines[sub] = machine
        self._tally[machine.concluded_state] += 1
        turn.effects.append(OpenSubchannel(sub, endpoint))
        turn.effects.append(Report(Addition(turn.now, sub, endpoint.address)))
        machine.connectivity_changed(_CONNECTING, "connecting", turn)
        self._heartbeats.add(sub)

    def _remove(self, address: str, turn: Turn) -> None:
        machine = self._machines.pop(self._ids.pop(address))
        self._heartbeats.remove(machine.id, turn)
        machine.retire(turn)
        self._tally[machine.concluded_state] -= 1
        self._leaving[machine.id] = machine
        for generation in machine.draining:
            turn.timers.set((machine.id, "drain", generation), turn.now + DRAIN_GRACE)
        turn.effects.append(CloseSubchannel(machine.id))
        turn.effects.append(Report(Removal(turn.now, machine.id, address)))
        self._forget_if_drained(machine)

    # --- subchannels ---------------------------------------------------------------------------

    def _connection_is(self, machine: SubchannelMachine, state: ConnectivityState, reason: str, turn: Turn) -> None:
        was_ready = machine.raw_state is _READY
        machine.connectivity_changed(state, reason, turn)
        is_ready = machine.raw_state is _READY
        if (was_ready and not is_ready) or state is _FAILURE:
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

    def _call_failed(self, machine: SubchannelMachine, event: CallFailed, turn: Turn) -> None:
        if event.is_refused:
            machine.data_refused(event.generation, turn)
        is_current = machine.handle is not None and machine.handle.generation == event.generation
        if is_current and machine.raw_state is _READY and event.code is Code.DEADLINE_EXCEEDED:
            machine.data_suspected(turn)
            self._heartbeats.suspect(machine.id, turn)

    def _check_ended(self, machine: SubchannelMachine, check: int, code: Code, turn: Turn) -> None:
        if self._heartbeats.ended(machine.id, check, code, turn):
            self._silent(machine, turn)

    def _silent(self, machine: SubchannelMachine, turn: Turn) -> None:
        is_excluded = may_exclude(machine, self._machines.values())
        turn.effects.append(Report(HeartbeatLoss(turn.now, machine.id, machine.endpoint.address, is_excluded)))
        if is_excluded:
            self._heartbeats.stop(machine.id, turn)
            machine.fall_silent(turn)
            self._resolution.ask_soon(turn)

    def _close_drained(self, sub: int, generation: int, turn: Turn) -> None:
        machine = self._machines.get(sub) or self._leaving.get(sub)
        if machine is None or generation not in machine.draining:
            return
        turn.timers.cancel((sub, "drain", generation))
        machine.drained(generation, turn)
        turn.effects.append(CloseConnection(sub, generation))
        self._forget_if_drained(machine)

    def _forget_if_drained(self, machine: SubchannelMachine) -> None:
        if not machine.draining:
            self._leaving.pop(machine.id, None)

    # --- time and the end ----------------------------------------------------------------------

    def _tick(self, turn: Turn) -> None:
        while (key := turn.timers.pop_due(turn.now)) is not None:
            sub, kind, number = key
            if kind == "resolve":
                turn.effects.append(ResolveNow())
            elif kind == "drain":
                self._close_drained(sub, number, turn)
            else:
                self._due(self._machines[sub], kind, number, turn)

    def _due(self, machine: SubchannelMachine, kind: str, number: int, turn: Turn) -> None:
        match kind:
            case "response":
                machine.response_due(turn)
            case "retry":
                machine.retry_due(turn)
            case "data":
                machine.data_due(turn)
            case "challenge":
                machine.challenge_due(turn)
            case _:
                if self._heartbeats.due(machine.id, kind, number, machine.handle, turn):
                    self._silent(machine, turn)

    def _close(self, turn: Turn) -> None:
        for address in list(self._ids):
            self._remove(address, turn)
        for machine in list(self._leaving.values()):
            for generation in list(machine.draining):
                self._close_drained(machine.id, generation, turn)
        self._resolution.stop(turn)
        self._is_closed = True
        turn.is_changed = True

    # --- the picture -----------------------------------------------------------------------------

    def _aggregate(self) -> ConnectivityState:
        if self._is_closed:
            return _SHUTDOWN
        if self._tally[_READY]:
            return _READY
        if self._tally[_CONNECTING] or not (self._machines or self._resolution.error):
            return _CONNECTING
        return _FAILURE

    def _take_snapshot(self) -> Snapshot:
        machines = self._machines.values()
        ready = tuple(m.handle for m in machines if m.concluded_state is _READY and m.handle is not None)
        if ready == self._snapshot.ready and not self._is_reweighted:
            ready = self._snapshot.ready
        self._is_reweighted = False
        return Snapshot(
            self._snapshot.generation + 1,
            self._aggregate(),
            ready,
            views=tuple(machine.view for machine in machines),
            service=self._service,
            error=self._resolution.error,
        )
