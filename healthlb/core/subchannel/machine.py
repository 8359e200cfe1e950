"""ONE subchannel's machine: transport state x health x a connection for calls -> concluded state.

The one rule: READY means that the last status is SERVING (or the server has no health service), that
the connection which said so is READY, and that a connection for calls is up. Once in
TRANSIENT_FAILURE it stays there until READY, through every attempt (gRFC A62, grpc-java): else some
subchannel is always CONNECTING, and calls hang instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.config import HealthCheck
from healthlb.core.event_context import DialTimer, EventContext, HealthTimer
from healthlb.core.load import Load, Subchannel, reweigh
from healthlb.core.messages import (
    CheckEnded,
    Code,
    ConnectivityState,
    Drain,
    Endpoint,
    HealthCheckingUnavailable,
    Report,
    WatchUnavailable,
)
from healthlb.core.random_streams import Streams
from healthlb.core.remedies import of_connection
from healthlb.core.snapshot import SubchannelView
from healthlb.core.subchannel.data_connection import DataConnection
from healthlb.core.subchannel.dialling import DialBudget
from healthlb.core.subchannel.exclusion import Exclusion
from healthlb.core.subchannel.health import Phase
from healthlb.core.subchannel.health_machine import HealthMachine
from healthlb.core.subchannel.reconnecting import NOTHING_SERVED, Reconnecting
from healthlb.core.subchannel.silence import NO_HEARTBEAT
from healthlb.core.subchannel.state_reports import StateReports

_CONNECTING = ConnectivityState.CONNECTING
_IDLE = ConnectivityState.IDLE
_READY = ConnectivityState.READY
_FAILURE = ConnectivityState.TRANSIENT_FAILURE


class PastCalls:
    """Sums up the counters of connections for calls that have ended: they still say something of the server.

    Attributes:
        counts: picks, successes and failures.
        last_success_at: when a call on them has last succeeded, in nanoseconds; 0 for never.
    """

    __slots__ = ("counts", "last_success_at")

    def __init__(self) -> None:
        self.counts = (0, 0, 0)
        self.last_success_at = 0

    def add(self, load: Load) -> None:
        """Take over the counters of a connection that has ended."""
        picks, successes, failures = self.counts
        self.counts = (picks + load.picks, successes + load.successes, failures + load.failures)
        self.last_success_at = max(self.last_success_at, load.last_success_at)


class SubchannelMachine:
    """Follows one endpoint.

    Args:
        id: its number in the channel.
        endpoint: the address.
        policy: how its health is followed.
        service: the service name asked for, None for no health checking.
        streams: where its jitter comes from.
        now: nanoseconds.
        make_load: makes the counters of a connection for calls.
        is_late: whether the channel served already when it was added.
        is_secure: whether its connections are encrypted.
        is_shared: whether health and calls share a connection.
        budget: of the process's dials, None for one of its own.

    Attributes:
        health: what is known of it on the present connection.
        dials: when its control connection is dialled.
        remedy: what to do about its reason, "" where nothing is known.
        earlier: the counters of calls under way on subchannels that its address had before it left the list.
        made_view: what `view` has returned, None where something has changed since.
    """

    def __init__(
        self,
        id: int,
        endpoint: Endpoint,
        policy: HealthCheck,
        *,
        service: str | None,
        streams: Streams,
        now: int,
        make_load: Callable[[], Load] = Load,
        is_late: bool = False,
        is_secure: bool = False,
        is_shared: bool = True,
        budget: DialBudget | None = None,
    ) -> None:
        self.id = id
        self.endpoint = endpoint
        self.raw_state = _CONNECTING
        self.concluded_state = _CONNECTING
        self.reason = "connecting"
        self.remedy = ""
        self.since = now
        self.handle: Subchannel | None = None
        self.is_silent = False
        self.kept_at = 0
        self.connections = 0
        self.connected_at = 0
        self.exclusion = Exclusion()
        self.call_share = 0.0
        self._share = 1.0
        self._was_healthy = False
        self._is_late = is_late
        self._is_secure = is_secure
        self._is_shared = is_shared
        self.draining: dict[int, Subchannel] = {}
        self.earlier: tuple[Load, ...] = ()
        self._past = PastCalls()
        self._policy = policy
        self._make_load = make_load
        self._jitter = streams.late("health", id)
        budget = budget or DialBudget()
        self.health = HealthMachine(id, policy, service, rng=self._jitter, starts=budget.watches)
        self.dials = Reconnecting(id, policy.reconnect, self._jitter, now=now, budget=budget)
        self._data = DataConnection(id, policy.reconnect, self._jitter)
        self._reports = StateReports(id, _CONNECTING)
        self._connection_reason = "connecting"
        self._known: tuple[int | None, bool, bool] = (None, False, False)
        self.made_view: SubchannelView | None = None

    # --- the transport -------------------------------------------------------------------

    def connectivity_changed(self, state: ConnectivityState, reason: str, context: EventContext) -> None:
        """Take in the state of the control connection."""
        if self.dials.is_waiting:
            return  # the last words of a connection that is given up
        was_ready = self.raw_state is _READY
        self.dials.follow(self.raw_state, state, context.now)
        if state is _READY:
            if not was_ready:
                self._connected(context)
            return
        if was_ready:
            self._disconnected(context)
        if state is _IDLE and self._lost(context):
            state, reason = _FAILURE, NOTHING_SERVED
        self.raw_state = state
        self.dials.went_on(context, is_failed=state is _FAILURE, is_known=self.connections > 0)
        silent = "cannot connect" if state is _FAILURE else "connecting"
        self._connection_reason = reason or ("connection lost" if was_ready else silent)
        self._conclude(context)

    def _lost(self, context: EventContext) -> bool:
        in_flight = self.handle.load.in_flight if self.handle else 0
        return self.dials.lost(
            context, succeeded_at=self.last_success_at, in_flight=in_flight, is_shared=self._is_shared
        )

    @property
    def last_success_at(self) -> int:
        """When a call has last succeeded, whichever connection it was on, in nanoseconds; 0 for never."""
        last = self._past.last_success_at
        for load in (self.made_view or self.view).loads:
            if load.last_success_at > last:
                last = load.last_success_at
        return last

    def _connected(self, context: EventContext) -> None:
        self.raw_state = _READY
        self.connections += 1
        self.connected_at = context.now
        self.dials.alive(context)
        self._data.begin(context)
        self.health.connected(context, doubts=self._doubts)
        self._conclude(context)

    @property
    def _doubts(self) -> int:
        """How many connections in a row have served nothing. Where others serve, an unknown address counts as one."""
        return max(self.dials.doubts, int(self._is_late and self.connections == 1))

    def _disconnected(self, context: EventContext) -> None:
        self.health.disconnected(context)
        self._data.end(context)
        self._changed(context)

    def dial_due(self, kind: DialTimer, context: EventContext) -> None:
        """A timer of its dials is due: "race", or "reconnect" where the connection was given up."""
        if kind == "race":
            self.dials.race_due(context, is_known=self.connections > 0)
        else:
            self.raw_state = _CONNECTING
            self.dials.due(context)

    def fall_silent(self, context: EventContext) -> None:
        """Leave connections that answer nothing; calls in flight on them go on."""
        self.is_silent = True
        self._disconnected(context)
        self.raw_state = _CONNECTING
        self._retire_handle(context)
        self.dials.replace(context)
        self._note(context)
        self._become(_FAILURE, NO_HEARTBEAT, context)

    # --- the connection for calls ------------------------------------------------------------

    def data_ready(self, generation: int, context: EventContext) -> None:
        """A connection for calls is up; each one ends with a CloseConnection."""
        if self.handle is None or self.handle.generation != generation:
            self._retire_handle(context)
            self.handle = Subchannel(self.id, generation, self.endpoint, load=self._make_load(), share=self._share)
            self._changed(context)
        if self.raw_state is not _READY:
            return
        self._data.ready(context)
        self._changed(context)  # Panic mode needs a connection only, not health.
        self._conclude(context)

    def data_failed(self, reason: str, context: EventContext) -> None:
        """The control connection stands, but none for calls could be made."""
        if self.raw_state is _READY and not self._data.is_ready:
            self._data.failed(reason, context)
            self._conclude(context)

    def data_due(self, context: EventContext) -> None:
        """Try for a connection for calls again."""
        self._data.ask(context)

    def data_refused(self, generation: int, context: EventContext) -> None:
        """Calls found their connection down: no picks until there is a fresh one."""
        if self._data.is_ready and self.handle is not None and self.handle.generation == generation:
            self._data.refused(self.handle, context)
            self._changed(context)
            self._conclude(context)

    def data_suspected(self, context: EventContext) -> None:
        """Calls got no answer in time; where none does for a while, they get a fresh connection."""
        assert self.handle is not None
        self._data.suspected(self.handle, context)

    def _retire_handle(self, context: EventContext) -> None:
        if self.handle is not None:
            self.draining[self.handle.generation] = self.handle
            context.effects.append(Drain(self.handle))
            self.handle = None
            self._changed(context)

    def retire(self, context: EventContext) -> None:
        """Stop everything but the calls in flight: the address is gone."""
        self._disconnected(context)
        self.dials.stop(context)
        for kind in ("heartbeat", "check", "changes"):
            context.timers.cancel((self.id, kind, 0))
        self._retire_handle(context)

    def drained(self, generation: int, context: EventContext) -> None:
        """Forget a retired connection, but for its counts."""
        self._past.add(self.draining.pop(generation).load)
        self._changed(context)

    def update_endpoint(self, endpoint: Endpoint, context: EventContext) -> bool:
        """Take over what the resolver now says of this address; True where that is news."""
        if endpoint == self.endpoint:
            return False
        self.endpoint = endpoint
        if self.handle is not None:
            reweigh(self.handle, endpoint, self._share)
        self._changed(context)
        return True

    # --- health ----------------------------------------------------------------------------

    def health_reported(self, watch: int, status: int, context: EventContext) -> None:
        """A status arrived on Watch number `watch`."""
        if self.health.is_present(watch):
            self.is_silent = bool(self.exclusion.silence)
            self.dials.answered()
            self.health.reported(status, context)
            self.health.flow.tell(self.endpoint.address, context)
            self._conclude(context)

    def watch_closed(self, watch: int, code: Code, details: str, context: EventContext) -> None:
        """Watch number `watch` ended."""
        if not self.health.is_present(watch):
            return
        # A connection alone is no sign of life: a hung backend's kernel accepts it.
        self.is_silent = bool(self.exclusion.silence)
        self.dials.answered(code)
        self.health.closed(code, details, context)
        self._health_changed(code, details, context)

    def checked(self, event: CheckEnded, context: EventContext) -> None:
        """A Check ended that was asked for the health."""
        self.is_silent = False
        self.health.checked(event, context)
        self._health_changed(event.code, event.details, context)

    def _health_changed(self, code: Code, details: str, context: EventContext) -> None:
        if code is Code.UNIMPLEMENTED:
            fact = WatchUnavailable if self.health.is_polling else HealthCheckingUnavailable
            context.effects.append(Report(fact(context.now, self.id, self.endpoint.address, details)))
        self._conclude(context)

    def health_due(self, kind: HealthTimer, context: EventContext) -> None:
        """A timer of its health is due: "doubt", "response", "renewal", "retry", "start", "status" or "confirm"."""
        self.health.due(kind, context)
        self._conclude(context)

    def set_busy(self, is_busy: bool, context: EventContext) -> None:
        """Say that the server is too busy to answer a Check, or no longer."""
        self.health.is_busy = is_busy
        self._conclude(context)

    # --- the conclusion ----------------------------------------------------------------------

    @property
    def is_healthy(self) -> bool:
        """Whether it could take calls, were it not excluded."""
        return self.health.is_healthy and self._data.is_ready and not self._data.is_failed

    @property
    def is_connected(self) -> bool:
        """Whether calls could reach it, whatever its health."""
        return self._data.is_ready and self.handle is not None

    def set_exclusion(self, exclusion: Exclusion, context: EventContext) -> None:
        """Set what keeps it out for other reasons than its health."""
        if exclusion == self.exclusion:
            return
        self.exclusion = exclusion
        self._changed(context)
        new = self._conclusion()
        # Without health, what it lacks beside that is the reason again.
        self._become(self.concluded_state if new is _CONNECTING else new, self._present_reason(), context)

    def weigh(self, share: float, context: EventContext) -> None:
        """Give it this part of its weight."""
        if share != self._share:
            self._share = share
            context.is_reweighted = True
            self._changed(context)
            if self.handle is not None:
                reweigh(self.handle, self.endpoint, share)

    def _conclude(self, context: EventContext) -> None:
        self._note(context)
        new = self._conclusion()
        if self.concluded_state is _FAILURE and new is _CONNECTING:
            return
        self._become(new, self._present_reason(), context)

    def _note(self, context: EventContext) -> None:
        known = (self.health.serving, self.health.is_healthy, self.health.is_unhealthy)
        if known != self._known:
            # Snapshots tell of the status, and of who is healthy among those that are on probe.
            if known[0] != self._known[0] or self.exclusion.is_on_probe:
                self._changed(context)
            context.changed.append(self.id)
            self._known = known
        was_healthy, self._was_healthy = self._was_healthy, self.is_healthy
        if was_healthy and not self._was_healthy:
            context.flaps.append(self.id)

    def _conclusion(self) -> ConnectivityState:
        if self._data.is_failed or self.health.is_unhealthy:
            return _FAILURE
        if self.is_healthy:
            # A50: an ejected subchannel is in TRANSIENT_FAILURE, whatever its health.
            return _FAILURE if self.exclusion.reason else _READY
        return _FAILURE if self.raw_state is _FAILURE else _CONNECTING

    def _present_reason(self) -> str:
        if self.is_healthy and self.exclusion.reason:
            return self.exclusion.reason
        phase = self.health.phase
        if phase is Phase.DISCONNECTED and self.raw_state is not _READY:
            return self._connection_reason
        is_data_lacking = self.health.is_healthy and not self._data.is_ready
        if is_data_lacking or (self._data.is_failed and phase is Phase.WATCHING):
            return self._data.reason
        return self.health.full_reason

    def _present_remedy(self, reason: str) -> str:
        if self.raw_state is _FAILURE:
            return of_connection(reason, is_secure=self._is_secure)
        return self.health.remedy if reason == self.health.full_reason else ""

    @property
    def has_first_mistake(self) -> bool:
        """Whether a mistake of configuration may keep it out: a remedy is known, and no connection was lost."""
        if not self.remedy:
            return False
        return self.remedy == self.health.remedy if self.raw_state is _READY else not self.connections

    def _become(self, new: ConnectivityState, reason: str, context: EventContext) -> None:
        old = self.concluded_state
        if new is old and reason == self.reason:
            return
        self.reason = reason
        self.remedy = self._present_remedy(reason)
        self._changed(context)
        if new is not old:
            if new is _READY:
                if old is _FAILURE or self._is_late:  # who has merely reconnected is as warm as it was
                    context.late.append(self.id)
                self._is_late = False
            context.tally[old] -= 1
            context.tally[new] += 1
            self.concluded_state = new
            self.since = context.now
            self._reports.changed(self.endpoint.address, new, reason, context)

    def changes_due(self, context: EventContext) -> None:
        """Report the changes of state that were held back, as one."""
        self._reports.due(self.endpoint.address, self.concluded_state, self.reason, context)

    def _changed(self, context: EventContext) -> None:
        self.made_view = None
        context.is_changed = True
        context.changed.append(self.id)

    @property
    def picks(self) -> int:
        """How many calls were ever given to it."""
        return self._past.counts[0] + sum(load.picks for load in self.view.loads)

    @property
    def view(self) -> SubchannelView:
        """What is published of this subchannel."""
        if self.made_view is None:
            loads = tuple([handle.load for handle in (*self.draining.values(), self.handle) if handle])
            self.made_view = SubchannelView(
                self.id,
                self.endpoint,
                self.concluded_state,
                self._known[0],
                self.reason,
                self.since,
                loads,
                self._past.counts,
                is_ejected=bool(self.exclusion.ejection),
                is_damped=bool(self.exclusion.damping),
                weight=self.endpoint.weight * self._share,
                remedy=self.remedy,
                earlier=self.earlier,
            )
        return self.made_view
