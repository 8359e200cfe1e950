"""ONE subchannel's machine: transport state x health x a connection for calls -> concluded state.

The one rule: READY means that the last status is SERVING (or the server has no health service), that
the connection which said so is READY, and that a connection for calls is up. Once in
TRANSIENT_FAILURE it stays there until READY, through every attempt (gRFC A62, grpc-java): else some
subchannel is always CONNECTING, and calls hang instead of failing.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.config import Backoff, HealthCheck
from healthlb.core import health
from healthlb.core.backoff import BackoffDelays, jittered
from healthlb.core.health import Action, Phase, Signal
from healthlb.core.load import Load, Subchannel
from healthlb.core.messages import (
    Challenge,
    Code,
    ConnectivityState,
    Drain,
    Endpoint,
    HealthCheckingUnavailable,
    PrepareData,
    RefreshData,
    Replace,
    Report,
    ServingStatus,
    StartWatch,
    StateChange,
    StopWatch,
)
from healthlb.core.restarts import Restarts
from healthlb.core.snapshot import SubchannelView
from healthlb.core.states import serving_name
from healthlb.core.streams import Streams
from healthlb.core.turn import Turn

# Calls without any answer for this long get a fresh connection, then less and less often.
_REFRESH = Backoff(initial=5.0, jitter=0.0)

_CONNECTING = ConnectivityState.CONNECTING
_READY = ConnectivityState.READY
_FAILURE = ConnectivityState.TRANSIENT_FAILURE


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
    """

    def __init__(self, id: int, endpoint: Endpoint, policy: HealthCheck, service: str | None, streams: Streams,
                 now: int, make_load: Callable[[], Load] = Load) -> None:
        self.id = id
        self.endpoint = endpoint
        self.concluded_state = _CONNECTING
        self.reason = "connecting"
        self.since = now
        self.raw_state = _CONNECTING
        self.handle: Subchannel | None = None
        self.is_silent = False
        self.connections = self.connected_at = 0
        self.ejection = ""
        self.is_on_probe = False
        self.draining: dict[int, Subchannel] = {}
        self._past = (0, 0, 0)
        self._policy = policy
        self._make_load = make_load
        self._service = service
        self._jitter = streams.stream("health", id)
        self._restarts = Restarts(policy, self._jitter)
        self._data_backoff = BackoffDelays(policy.reconnect, self._jitter)
        self._suspicion = BackoffDelays(_REFRESH, self._jitter)
        self._suspected_at = 0
        self._refresh_at = 0
        self._phase = Phase.DISCONNECTED
        self._is_data_ready = False
        self._is_data_failed = False
        self._link_reason = "connecting"
        self._health_reason = ""
        self._data_reason = ""
        self._serving: int | None = None
        self._watch = 0
        self._watch_started_at = 0
        self._has_answered = False
        self._view: SubchannelView | None = None

    # --- the transport -------------------------------------------------------------------

    def connectivity_changed(self, state: ConnectivityState, reason: str, turn: Turn) -> None:
        """Take in the state of the control connection."""
        was_ready = self.raw_state is _READY
        if state is _READY:
            if not was_ready:
                self._connected(turn)
            return
        if was_ready:
            self._disconnected(turn)
        self.raw_state = state
        if state is _FAILURE:
            turn.timers.cancel((self.id, "challenge", 0))
        elif not turn.timers.is_set((self.id, "challenge", 0)):
            self._arm_challenge(turn)
        silent = "cannot connect" if state is _FAILURE else "connecting"
        self._link_reason = reason or ("connection lost" if was_ready else silent)
        self._conclude(turn)

    def _connected(self, turn: Turn) -> None:
        self.raw_state = _READY
        self.connections += 1
        self.connected_at = turn.now
        self._health_reason = "connected" if self._service is None else "waiting for the first health status"
        self._data_reason = "waiting for a connection for calls"
        self._restarts.connected()
        self._data_backoff.reset()
        turn.timers.cancel((self.id, "challenge", 0))
        turn.effects.append(PrepareData(self.id))
        self._signal(Signal.CONNECTED if self._service is not None else Signal.CONNECTED_UNCHECKED, turn)
        self._conclude(turn)

    def _disconnected(self, turn: Turn) -> None:
        self._signal(Signal.LOST, turn)
        self._heard(None, turn)
        self._is_data_ready = self._is_data_failed = False
        for kind in ("response", "retry", "data"):
            turn.timers.cancel((self.id, kind, 0))

    def _arm_challenge(self, turn: Turn) -> None:
        delay = jittered(self._policy.reconnect.maximum_ns, self._policy.reconnect.jitter, self._jitter)
        turn.timers.set((self.id, "challenge", 0), turn.now + delay)

    def challenge_due(self, turn: Turn) -> None:
        """Race a fresh connection against one whose handshake may be lost (TCP's own retries back off)."""
        turn.effects.append(Challenge(self.id))
        self._arm_challenge(turn)

    def fall_silent(self, turn: Turn) -> None:
        """Leave connections that answer nothing; calls in flight on them go on."""
        self.is_silent = True
        self._disconnected(turn)
        self.raw_state = _CONNECTING
        self._retire_handle(turn)
        turn.effects.append(Replace(self.id))
        self._arm_challenge(turn)
        self._become(_FAILURE, "no heartbeat", turn)

    # --- the connection for calls ------------------------------------------------------------

    def data_ready(self, generation: int, turn: Turn) -> None:
        """A connection for calls is up; each one ends with a CloseConnection."""
        if self.handle is None or self.handle.generation != generation:
            self._retire_handle(turn)
            self.handle = Subchannel(self.id, generation, self.endpoint, self._make_load())
            self._changed(turn)
        if self.raw_state is not _READY:
            return
        self._is_data_ready = True
        self._is_data_failed = False
        self._data_backoff.reset()
        self._conclude(turn)

    def data_failed(self, reason: str, turn: Turn) -> None:
        """The control connection stands, but none for calls could be made."""
        if self.raw_state is _READY and not self._is_data_ready:
            self._is_data_failed = True
            self._data_reason = f"no connection for calls: {reason}"
            turn.timers.set((self.id, "data", 0), turn.now + self._data_backoff.next())
            self._conclude(turn)

    def data_due(self, turn: Turn) -> None:
        """Try for a connection for calls again."""
        turn.effects.append(PrepareData(self.id))

    def data_refused(self, generation: int, turn: Turn) -> None:
        """Calls found their connection down: no picks until there is a fresh one."""
        if self._is_data_ready and self.handle is not None and self.handle.generation == generation:
            self._is_data_ready = False
            self._data_reason = "connection for calls lost"
            turn.effects.append(PrepareData(self.id))
            self._conclude(turn)

    def data_suspected(self, turn: Turn) -> None:
        """Calls got no answer in time; where none does for a while, they get a fresh connection.

        The heartbeat asks over the control connection, and that may live while this one is cut off.
        """
        assert self.handle is not None
        if self.handle.load.last_success_at >= self._suspected_at:
            self._suspected_at = turn.now
            self._suspicion.reset()
            self._refresh_at = turn.now + self._suspicion.next()
        elif turn.now >= self._refresh_at:
            self._refresh_at = turn.now + self._suspicion.next()
            turn.effects.append(RefreshData(self.id))

    def _retire_handle(self, turn: Turn) -> None:
        if self.handle is not None:
            self.draining[self.handle.generation] = self.handle
            turn.effects.append(Drain(self.handle))
            self.handle = None
            self._changed(turn)

    def retire(self, turn: Turn) -> None:
        """Stop everything but the calls in flight: the address is gone."""
        self._disconnected(turn)
        for kind in ("challenge", "heartbeat", "check"):
            turn.timers.cancel((self.id, kind, 0))
        self._retire_handle(turn)

    def drained(self, generation: int, turn: Turn) -> None:
        """Forget a retired connection, but for its counts."""
        load = self.draining.pop(generation).load
        picks, successes, failures = self._past
        self._past = (picks + load.picks, successes + load.successes, failures + load.failures)
        self._changed(turn)

    def update_endpoint(self, endpoint: Endpoint, turn: Turn) -> bool:
        """Take over what the resolver now says of this address; True where that is news."""
        if endpoint == self.endpoint:
            return False
        self.endpoint = endpoint
        if self.handle is not None:
            self.handle.endpoint = endpoint
        self._changed(turn)
        return True

    # --- health ----------------------------------------------------------------------------

    def health_reported(self, watch: int, status: int, turn: Turn) -> None:
        """A status arrived on Watch number `watch`."""
        if not self._is_present(watch):
            return
        self._answered(turn)
        if not self._has_answered:
            self._has_answered = True
            self._restarts.answered()
        self._heard(status, turn)
        self._health_reason = serving_name(status)
        is_serving = status == ServingStatus.SERVING
        self._signal(Signal.SERVING if is_serving else Signal.OTHER, turn)
        self._conclude(turn)

    def watch_closed(self, watch: int, code: Code, details: str, turn: Turn) -> None:
        """Watch number `watch` ended."""
        if not self._is_present(watch):
            return
        self._answered(turn)
        if code is Code.UNIMPLEMENTED:
            self._unimplemented(details, turn)
            return
        self._signal(Signal.ENDED, turn)
        text = f"health watch ended with {code.name}"
        self._health_reason = f"{text}: {details}" if details else text
        self._conclude(turn)

    def _is_present(self, watch: int) -> bool:
        return watch == self._watch and self._phase in health.STREAMING

    def _answered(self, turn: Turn) -> None:
        # A connection alone is no sign of life: a hung backend's kernel accepts it.
        self.is_silent = False
        turn.timers.cancel((self.id, "response", 0))

    def _heard(self, status: int | None, turn: Turn) -> None:
        if status != self._serving:
            self._serving = status
            self._changed(turn)

    def _unimplemented(self, details: str, turn: Turn) -> None:
        turn.effects.append(Report(HealthCheckingUnavailable(turn.now, self.id, self.endpoint.address, details)))
        is_healthy = self._policy.on_unimplemented == "healthy"
        self._signal(Signal.UNIMPLEMENTED if is_healthy else Signal.UNSUPPORTED, turn)
        self._heard(None, turn)
        self._health_reason = "no health service"
        self._conclude(turn)

    def response_due(self, turn: Turn) -> None:
        """The Watch has said nothing for too long."""
        self._signal(Signal.NO_RESPONSE, turn)
        self._health_reason = "no health response"
        self._conclude(turn)

    def retry_due(self, turn: Turn) -> None:
        """Open the next Watch."""
        self._signal(Signal.DUE, turn)

    def _signal(self, signal: Signal, turn: Turn) -> None:
        entry = health.TABLE.get((self._phase, signal))
        if entry is None:
            return
        self._phase, action = entry
        if action in (Action.STOP_WATCH, Action.STOP_AND_RETRY_LATER):
            turn.effects.append(StopWatch(self.id, self._watch))
        if action in (Action.RETRY_LATER, Action.STOP_AND_RETRY_LATER):
            lasted = turn.now - self._watch_started_at if self._has_answered else None
            turn.timers.set((self.id, "retry", 0), turn.now + self._restarts.delay(lasted))
        elif action is Action.START_WATCH:
            self._start_watch(turn)

    def _start_watch(self, turn: Turn) -> None:
        assert self._service is not None
        self._watch += 1
        self._watch_started_at = turn.now
        self._has_answered = False
        turn.effects.append(StartWatch(self.id, self._watch, self._service))
        turn.timers.set((self.id, "response", 0), turn.now + self._policy.first_response_timeout_ns)

    # --- passive health ----------------------------------------------------------------------

    @property
    def is_healthy(self) -> bool:
        """Whether it could take calls, but for an ejection."""
        return self._phase in health.HEALTHY and self._is_data_ready and not self._is_data_failed

    def eject(self, reason: str, turn: Turn) -> None:
        """Keep it out, whatever its health."""
        self.ejection = reason
        self._passive_is(False, turn)

    def allow_probe(self, turn: Turn) -> None:
        """Keep it out but for one call."""
        if not self.is_on_probe:
            self.ejection = self.ejection.replace("ejected for", "on probe after")
            self._passive_is(True, turn)

    def readmit(self, turn: Turn) -> None:
        """End the ejection."""
        self.ejection = ""
        self._passive_is(False, turn)

    def _passive_is(self, is_on_probe: bool, turn: Turn) -> None:
        self.is_on_probe = is_on_probe
        self._changed(turn)
        new = self._conclusion()
        # Without health, what it lacks beside that is the reason again.
        self._become(self.concluded_state if new is _CONNECTING else new, self._present_reason(), turn)

    # --- the conclusion ----------------------------------------------------------------------

    def _conclude(self, turn: Turn) -> None:
        new = self._conclusion()
        if self.concluded_state is _FAILURE and new is _CONNECTING:
            return
        self._become(new, self._present_reason(), turn)

    def _conclusion(self) -> ConnectivityState:
        if self._is_data_failed or self._phase in health.UNHEALTHY:
            return _FAILURE
        if self.is_healthy:
            # A50: an ejected subchannel is in TRANSIENT_FAILURE, whatever its health.
            return _FAILURE if self.ejection else _READY
        return _FAILURE if self.raw_state is _FAILURE else _CONNECTING

    def _present_reason(self) -> str:
        if self.is_healthy and self.ejection:
            return self.ejection
        if self._phase is Phase.DISCONNECTED:
            return self._link_reason
        is_data_lacking = self._phase in health.HEALTHY and not self._is_data_ready
        if is_data_lacking or (self._is_data_failed and self._phase is Phase.WATCHING):
            return self._data_reason
        return self._health_reason

    def _become(self, new: ConnectivityState, reason: str, turn: Turn) -> None:
        old = self.concluded_state
        if new is old and reason == self.reason:
            return
        self.reason = reason
        self._changed(turn)
        if new is not old:
            turn.tally[old] -= 1
            turn.tally[new] += 1
            self.concluded_state = new
            self.since = turn.now
            turn.effects.append(Report(StateChange(turn.now, self.id, self.endpoint.address, old, new, reason)))

    def _changed(self, turn: Turn) -> None:
        self._view = None
        turn.is_changed = True

    @property
    def view(self) -> SubchannelView:
        """What is published of this subchannel."""
        if self._view is None:
            handles = [*self.draining.values(), *([self.handle] if self.handle else [])]
            loads = tuple(handle.load for handle in handles)
            state, is_out = self.concluded_state, bool(self.ejection)
            self._view = SubchannelView(
                self.id, self.endpoint, state, self._serving, self.reason, self.since, loads, self._past, is_out
            )
        return self._view
