"""The balancer: composes subchannels, aggregates them and says what is to be done.

The one rule: `handle` never blocks, never raises for what the world did, and never calls user code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import assert_never

from healthlb.config import ChannelConfig
from healthlb.core.advice import Adviser
from healthlb.core.call.overload import Admission, Overflows
from healthlb.core.event_context import EventContext, SubchannelTimer, TimerKey
from healthlb.core.exclusion.damping import Damping
from healthlb.core.exclusion.outlier import DEFAULT, OutlierDetector
from healthlb.core.exclusion.panic import PanicMode
from healthlb.core.exclusion.presence import Presence
from healthlb.core.exclusion.slow_start import SlowStartWeights
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
    SubchannelEvent,
    Tick,
    WatchClosed,
)
from healthlb.core.random_streams import Streams
from healthlb.core.resolution import LONGEST_WAIT, KeptAddresses, Resolution
from healthlb.core.snapshot import Snapshot
from healthlb.core.snapshot_builder import SnapshotBuilder, aggregate
from healthlb.core.subchannel.dialling import Entrance, Pace
from healthlb.core.subchannel.draining import Draining
from healthlb.core.subchannel.heartbeats import Heartbeats, calls_rescued, rescue_calls
from healthlb.core.subchannel.machine import SubchannelMachine
from healthlb.core.timers import Timers

_READY = ConnectivityState.READY


class Balancer:
    """Follows the health of a channel's subchannels. Pure; one writer.

    Args:
        service: the service name asked for, None for no health checking.
        config: the channel's options.
        seed: of the random streams.
        pace: shared by the balancers of a process, so that their heartbeats are.
        admission: shared with the calls, None for no caps.
        is_secure: whether connections are encrypted; for what is said of those that fail.
        is_shared: whether health and calls share a connection.
        longest_wait: seconds in which a resolver that failed is asked again at the latest.
        keep: seconds for which a healthy subchannel stays in use that the resolver gives no more.
    """

    def __init__(
        self,
        service: str | None,
        config: ChannelConfig,
        seed: int,
        *,
        pace: Pace | None = None,
        admission: Admission | None = None,
        is_secure: bool = False,
        is_shared: bool = True,
        longest_wait: float = LONGEST_WAIT,
        keep: float = 0.0,
    ) -> None:
        policy, outliers = config.health, config.outliers
        self._streams = Streams(seed)
        pace = pace or Pace()
        self._heartbeats = Heartbeats(None if service is None else policy.heartbeat, pace, self._streams)
        self._entrance = Entrance(pace.dials)
        self._damping = Damping(policy.damping, (outliers or DEFAULT).max_ejection_percent)
        self._presence = Presence()
        self._panic = PanicMode(config.panic_threshold)
        self._slow_start = SlowStartWeights(config.slow_start)
        self._adviser = Adviser()
        self._admission = admission = admission or Admission(None)
        self._outliers = OutlierDetector(outliers, self._streams, self._admission.limiter)
        self._overflows = Overflows(self._admission.policy)
        self._make = partial(SubchannelMachine, policy=policy, service=service, streams=self._streams,
                             make_load=admission.limiter.make_load, is_secure=is_secure, is_shared=is_shared,
                             budget=pace.dials)  # fmt: skip
        self._timers: Timers[TimerKey] = Timers()
        self._machines: dict[int, SubchannelMachine] = {}
        self._draining = Draining(config.drain)
        self._ids: dict[str, int] = {}
        self._tally: Counter[ConnectivityState] = Counter()
        self._last_id = 0
        self._resolution = Resolution(self._streams, config.subset, longest_wait)
        self._keeping = KeptAddresses(keep)
        self._is_closed = False
        self._builder = SnapshotBuilder(service, self._admission.limiter)
        self._state = self._aggregate()
        self._stages = (self._presence, self._damping, self._outliers, self._panic, self._slow_start, self._adviser)

    @property
    def deadline(self) -> int | None:
        """When `handle(Tick(), now)` is due at the latest, in nanoseconds; None for never."""
        return self._timers.deadline

    @property
    def snapshot(self) -> Snapshot:
        """The present snapshot, without a picker: the driver builds that."""
        if self._builder.is_stale:
            self._builder.renew(self._machines, self._state, self._resolution, is_panicking=self._panic.is_on)
        return self._builder.snapshot

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Take in what happened at `now` and return what is to be done, in order."""
        if self._is_closed:
            return [CloseConnection(event.sub, event.generation)] if isinstance(event, DataReady) else []
        context = EventContext(now, self._timers, self._tally)
        self._dispatch(event, context)
        if self._entrance.queue:
            self._enter(context)
        for address in self._keeping.ended(self._machines) if self._keeping.kept else ():
            self._remove(address, context)
        if (
            context.changed
            or context.is_changed
            or context.is_recounted
            or context.flaps
            or self._presence.lost_at
            or self._outliers.is_waiting
        ):
            self._settle(context)
        return context.effects

    def _settle(self, context: EventContext) -> None:
        for stage in self._stages:
            stage.settle(self._machines, context)
        if context.is_changed:  # Else neither the state nor the snapshot can be another one.
            old, self._state = self._state, self._aggregate()
            if self._state is not old:
                context.effects.append(Report(ChannelStateChange(context.now, old, self._state)))
            self._builder.note(context)

    def _dispatch(self, event: Event, context: EventContext) -> None:
        match event:
            case Tick():
                self._tick(context)
            case DataReady(sub, generation):
                self._data_ready(sub, generation, context)
            case Drained(sub, generation):
                self._draining.drained(sub, generation, self._machines, context)
            case CallsRefused():
                self._overflows.refused(event, context)
            case Resolved(endpoints):
                self._follow_list(self._resolution.resolved(endpoints, context), context)
            case ResolveFailed(error):
                self._resolution.failed(error, context)
            case Closing():
                self._close(context)
            case _:
                if (machine := self._machines.get(event.sub)) is not None:
                    self._take_in(machine, event, context)

    def _take_in(self, machine: SubchannelMachine, event: SubchannelEvent, context: EventContext) -> None:
        match event:
            case CheckEnded():
                self._ask_rescue(self._heartbeats.check_ended(machine, event, context), machine, context)
            case PingEnded():
                self._ask_rescue(self._heartbeats.ping_ended(machine, event, context), machine, context)
            case HealthReported():
                self._heartbeats.health_reported(machine, event, context)
            case WatchClosed(_, watch, code, details):
                machine.watch_closed(watch, code, details, context)
            case ConnectivityChanged():
                self._connection_is(machine, event, context)
            case CallFailed():
                self._call_failed(machine, event, context)
            case ProbeEnded(_, generation):
                self._outliers.probe_ended(machine, generation, context)
            case CallsRescued():
                calls_rescued(machine, event, context)
            case DataFailed(_, reason):
                machine.data_failed(reason, context)
            case _:
                assert_never(event)

    # --- the resolver ------------------------------------------------------------------------

    def _follow_list(self, wanted: Mapping[str, Endpoint], context: EventContext) -> None:
        if not wanted:
            return
        wanted = self._keeping.merge(wanted, self._machines, context)
        new = [endpoint for address, endpoint in wanted.items() if address not in self._ids]
        self._entrance.wanted(new, is_late=self._tally[_READY] > 0)
        if new:
            self._enter(context)
        for address in [address for address in self._ids if address not in wanted]:
            self._remove(address, context)
        self._machines = {self._ids[one]: self._machines[self._ids[one]] for one in wanted if one in self._ids}
        for machine in self._machines.values():
            self._builder.is_reweighted |= machine.update_endpoint(wanted[machine.endpoint.address], context)
        self._outliers.started(self._machines, context)
        context.is_changed = True

    def _enter(self, context: EventContext) -> None:
        for endpoint, is_late in self._entrance.take(context):
            self._add(endpoint, is_late, context)
            context.is_changed = True

    def _add(self, endpoint: Endpoint, is_late: bool, context: EventContext) -> None:
        self._last_id = sub = self._last_id + 1
        self._ids[endpoint.address] = sub
        machine = self._make(sub, endpoint, now=context.now, is_late=is_late)
        machine.earlier = self._draining.returned(endpoint.address, context)
        self._machines[sub] = machine
        self._entrance.entered(sub, context.now)
        self._tally[machine.concluded_state] += 1
        context.effects += [OpenSubchannel(sub, endpoint), Report(Addition(context.now, sub, endpoint.address))]
        machine.connectivity_changed(ConnectivityState.CONNECTING, "connecting", context)
        self._heartbeats.add(sub, context)

    def _remove(self, address: str, context: EventContext) -> None:
        machine = self._machines.pop(self._ids.pop(address))
        self._heartbeats.remove(machine.id, context)
        for stage in (self._entrance, self._presence, self._damping, self._outliers, self._slow_start):
            stage.forget(machine.id, context)
        self._keeping.forget(machine.id, context)
        for news in (context.flaps, context.late):
            news[:] = [sub for sub in news if sub != machine.id]
        machine.retire(context)
        self._tally[machine.concluded_state] -= 1
        self._panic.forget(machine)
        self._draining.add(machine, context)
        context.effects.append(CloseSubchannel(machine.id))
        context.effects.append(Report(Removal(context.now, machine.id, address)))

    # --- subchannels ---------------------------------------------------------------------------

    def _connection_is(self, machine: SubchannelMachine, event: ConnectivityChanged, context: EventContext) -> None:
        was_ready = machine.raw_state is _READY
        machine.connectivity_changed(event.state, event.reason, context)
        self._presence.connection_is(machine, context)
        is_ready = machine.raw_state is _READY
        self._entrance.connection_is(machine.id, event.state)
        if (was_ready and not is_ready) or machine.raw_state is ConnectivityState.TRANSIENT_FAILURE:
            self._resolution.ask_soon(context)
        if is_ready is not was_ready:
            (self._heartbeats.start if is_ready else self._heartbeats.stop)(machine.id, context)

    def _data_ready(self, sub: int, generation: int, context: EventContext) -> None:
        machine = self._machines.get(sub)
        if machine is None:
            context.effects.append(CloseConnection(sub, generation))
        else:
            machine.data_ready(generation, context)
            self._outliers.connected(machine)

    def _call_failed(self, machine: SubchannelMachine, event: CallFailed, context: EventContext) -> None:
        if event.is_refused:
            machine.data_refused(event.generation, context)
        if machine.handle is None or machine.handle.generation != event.generation:
            return
        self._outliers.call_failed(machine, self._machines, context)
        if machine.raw_state is _READY and event.code is Code.DEADLINE_EXCEEDED:
            machine.data_suspected(context)
            self._heartbeats.suspect(machine.id, context)

    def _ask_rescue(self, is_silent: bool, machine: SubchannelMachine, context: EventContext) -> None:
        if is_silent and self._heartbeats.silence(machine, self._machines.values(), context):
            self._resolution.ask_soon(context)
            rescue_calls(machine, context)

    # --- time and the end ----------------------------------------------------------------------

    def _tick(self, context: EventContext) -> None:
        if context.timers.postpone(context.now):
            return
        while (key := context.timers.pop_due(context.now)) is not None:
            sub, kind, number = key
            if kind == "suspicion":
                self._outliers.suspected(self._heartbeats.look(self._machines, context), self._machines, context)
            elif kind == "resolve":
                context.effects.append(ResolveNow())
            elif kind == "list":
                self._follow_list(self._resolution.due(context), context)
            elif kind == "outliers":
                self._outliers.interval_due(number, self._machines, context)
            elif kind == "slow_start":
                self._slow_start.due(self._machines, context)
            elif kind == "overflow":
                self._overflows.due(context)
            elif kind == "drain":
                self._draining.due(sub, context)
            elif kind == "keep":
                self._remove(self._machines[sub].endpoint.address, context)
            elif kind != "entry":
                self._due(self._machines[sub], kind, number, context)

    def _due(self, machine: SubchannelMachine, kind: SubchannelTimer, number: int, context: EventContext) -> None:
        match kind:
            case "heartbeat" | "check" | "ping":
                self._ask_rescue(self._heartbeats.due(machine, kind, number, context), machine, context)
            case "doubt" | "response" | "renewal" | "retry" | "start" | "status" | "confirm":
                machine.health_due(kind, context)
            case "data":
                machine.data_due(context)
            case "changes":
                machine.changes_due(context)
            case "damping":
                self._damping.due(machine, context)
            case "race" | "reconnect":
                machine.dial_due(kind, context)
            case _:
                self._outliers.due(machine, kind, context)

    def _close(self, context: EventContext) -> None:
        for address in list(self._ids):
            self._remove(address, context)
        self._draining.close_all(context)
        for part in (self._resolution, self._entrance, self._outliers, self._overflows):
            part.stop(context)
        self._is_closed = True
        context.is_changed = True

    # --- the state -------------------------------------------------------------------------------

    def _aggregate(self) -> ConnectivityState:
        if self._is_closed:
            return ConnectivityState.SHUTDOWN
        is_empty = bool(self._entrance.queue) or not (self._machines or self._resolution.error)
        return aggregate(self._tally, is_empty=is_empty, is_open=self._panic.is_open)
