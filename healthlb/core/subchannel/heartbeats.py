"""The heartbeats of a channel's subchannels, and what their answers and silences mean for subchannels and calls.

The one rule: who hangs is told of once, until it has answered something: a Check, a ping, a Watch or a call.

Calls in flight on a backend that hangs are sent elsewhere. From which subchannel is said here; whether a call may leave
is decided by its own plan (`CallPlan.rescue`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from healthlb.config import Heartbeat
from healthlb.core.event_context import EventContext, HeartbeatTimer
from healthlb.core.load import Load
from healthlb.core.messages import (
    SECOND,
    BusyBackend,
    CallsRescued,
    CheckEnded,
    Code,
    HealthReported,
    HeartbeatLoss,
    PingEnded,
    Report,
    Rescue,
    RescueCalls,
)
from healthlb.core.random_streams import Streams
from healthlb.core.subchannel.dialling import Pace
from healthlb.core.subchannel.eligibility import is_reported_hung, may_exclude
from healthlb.core.subchannel.heartbeat import HeartbeatMachine
from healthlb.core.subchannel.machine import SubchannelMachine
from healthlb.core.subchannel.silence import NO_HEARTBEAT, Trust, is_answer
from healthlb.core.subchannel.suspicion import Suspicion

_WINDOW = 5 * SECOND  # Between two marks of how many calls each has had.


class Heartbeats:
    """The heartbeats of a channel's subchannels.

    Args:
        policy: None for no heartbeats; then Checks that tell the health are sent at the default's pace.
        pace: shared with other channels.
        streams: where the jitter comes from.
    """

    def __init__(self, policy: Heartbeat | None, pace: Pace, streams: Streams) -> None:
        self._is_on = policy is not None
        self._policy = policy or Heartbeat(ping=False)
        self._pace, self._streams = pace, streams
        self._suspicion = Suspicion(is_on=self._policy.ping)
        self._shares = CallShares()
        self._machines: dict[int, HeartbeatMachine] = {}

    def add(self, sub: int, context: EventContext) -> None:
        """A subchannel was added."""
        self._suspicion.start(context)
        rng = self._streams.late("heartbeat", sub)
        self._machines[sub] = HeartbeatMachine(sub, self._policy, self._pace, rng=rng)
        if self._is_on:
            self._machines[sub].count()

    def remove(self, sub: int, context: EventContext) -> None:
        """A subchannel was removed."""
        self.stop(sub, context)
        self._machines.pop(sub).forget()
        self._suspicion.forget(sub)
        if not self._machines:
            self._suspicion.stop(context)

    def look(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> list[int]:
        """Find subchannels whose calls go unanswered: send them Checks, and return their ids."""
        self._shares.look(machines, context.now)
        suspects = self._suspicion.due(machines, context)
        for sub in suspects:
            self.suspect(sub, context)
        return suspects

    def start(self, sub: int, context: EventContext) -> None:
        """A subchannel's connection is READY."""
        # Where Checks tell the health, its timer is set already: the first one is due at once.
        if self._is_on and not context.timers.is_set((sub, "heartbeat", 0)):
            self._machines[sub].start(context)

    def stop(self, sub: int, context: EventContext) -> None:
        """A subchannel's connection is gone."""
        self._machines[sub].stop(context)

    def health_reported(self, machine: SubchannelMachine, event: HealthReported, context: EventContext) -> None:
        """A Watch has said something; its first word tells how long an answer takes."""
        if machine.health.is_present(event.watch):
            machine.kept_at = 0
        machine.health_reported(event.watch, event.status, context)
        took, machine.health.took = machine.health.took, None
        if took is not None:
            self._machines[machine.id].learn(took)
            if machine.exclusion.silence:
                self.suspect(machine.id, context)

    def suspect(self, sub: int, context: EventContext) -> None:
        """A call on a subchannel got no answer in time."""
        if self._is_on:
            self._machines[sub].suspect(context)

    def check_ended(self, machine: SubchannelMachine, event: CheckEnded, context: EventContext) -> bool:
        """Take in how a Check ended; True where nothing answered."""
        heartbeat = self._machines[machine.id]
        machine.dials.answered(event.code)
        if not heartbeat.is_present(event.check):
            return False
        if is_answer(event):
            self._heard(machine, heartbeat.trust, context, is_news=heartbeat.check_answered(context))
        if heartbeat.ended(event.check, event.code, context) and self._is_on:
            return not self._is_busy(machine, context)
        if not heartbeat.is_present(event.check):
            self._answered(machine, event, context)
        return False

    def ping_ended(self, machine: SubchannelMachine, event: PingEnded, context: EventContext) -> bool:
        """Take in how a ping ended; True where nothing answered."""
        heartbeat = self._machines[machine.id]
        machine.dials.answered(event.code)
        if not heartbeat.is_ping_present(event.ping):
            return False
        if is_answer(event):
            self._heard(machine, heartbeat.trust, context, is_news=heartbeat.ping_answered(context))
        return heartbeat.ping_ended(event.code, context) and not self._is_busy(machine, context)

    def _heard(self, machine: SubchannelMachine, trust: Trust, context: EventContext, *, is_news: bool) -> None:
        """Take in that a Check or a ping was answered, which may end a silence."""
        machine.kept_at = 0
        machine.health.revivals += is_news
        # A subchannel whose Watch was not believed is back with its first answer to something else.
        if trust.answered() and machine.exclusion.silence:
            machine.is_silent = False
            machine.set_exclusion(machine.exclusion.silenced(""), context)

    def _is_busy(self, machine: SubchannelMachine, context: EventContext) -> bool:
        # A server whose health nobody knows, since it has no Watch and answers no Check, is not to be waited for.
        is_known = machine.health.is_healthy or not machine.health.is_polling
        if not (is_known and self._machines[machine.id].is_alive(machine.last_success_at, context)):
            return False
        self._set_busy(machine, True, context)
        return True

    def _set_busy(self, machine: SubchannelMachine, is_busy: bool, context: EventContext) -> None:
        if is_busy or machine.health.is_busy:
            machine.set_busy(is_busy, context)
            fact = BusyBackend(context.now, machine.id, machine.endpoint.address, is_over=not is_busy)
            context.effects.append(Report(fact))

    def _answered(self, machine: SubchannelMachine, event: CheckEnded, context: EventContext) -> None:
        if machine.health.is_busy:
            self._set_busy(machine, False, context)
        if machine.health.is_polling:
            machine.checked(event, context)
            if machine.health.next_check is not None:
                self._machines[machine.id].ask_again(machine.health.next_check, context)
        if not (self._is_on or machine.health.is_polling):
            self.stop(machine.id, context)

    def due(self, machine: SubchannelMachine, kind: HeartbeatTimer, number: int, context: EventContext) -> bool:
        """A timer of a subchannel's heartbeat is due; True where nothing answered."""
        heartbeat = self._machines[machine.id]
        if kind == "check":
            return self._check_due(machine, heartbeat, context)
        if kind == "ping" and number:
            return heartbeat.ping_timed_out(context) and not self._is_busy(machine, context)
        if kind == "ping":
            heartbeat.ping_due(context)
        elif number:
            heartbeat.suspicion_due(context)
        elif heartbeat.due(machine.last_success_at, context, is_polling=machine.health.is_polling):
            machine.kept_at = 0
            self._set_busy(machine, False, context)
        return False

    def _check_due(self, machine: SubchannelMachine, heartbeat: HeartbeatMachine, context: EventContext) -> bool:
        if heartbeat.timed_out(context) and self._is_on:
            return not self._is_busy(machine, context)
        if not self._is_on:
            self._answered(machine, CheckEnded(machine.id, 0, Code.DEADLINE_EXCEEDED), context)
        return False

    def silence(
        self, machine: SubchannelMachine, machines: Collection[SubchannelMachine], context: EventContext
    ) -> bool:
        """Take a subchannel out that answers nothing, and say so; False where the cap keeps it in.

        One that is out for that already, though its Watch is answered, keeps its connection and is asked again later.
        """
        if machine.exclusion.silence and machine.health.is_healthy:
            return False
        is_excluded = may_exclude(machine, machines)
        if is_excluded or not is_reported_hung(machine):
            context.effects.append(
                Report(HeartbeatLoss(context.now, machine.id, machine.endpoint.address, is_excluded))
            )
        machine.kept_at = 0 if is_excluded else context.now
        if is_excluded:
            if not machine.is_silent:
                machine.call_share = self._shares.part(machine, machines)
            self.stop(machine.id, context)
            trust = self._machines[machine.id].trust
            trust.fell_silent(machine.last_success_at, context.now)
            machine.set_exclusion(machine.exclusion.silenced(NO_HEARTBEAT if trust.is_lost else ""), context)
            machine.fall_silent(context)
        return is_excluded


def rescue_calls(machine: SubchannelMachine, context: EventContext) -> None:
    """Ask for calls to be sent elsewhere that are in flight on any connection of a subchannel that was found hung."""
    handles = machine.draining.values()
    context.effects += [RescueCalls(handle) for handle in handles if handle.load.in_flight]


def calls_rescued(machine: SubchannelMachine, event: CallsRescued, context: EventContext) -> None:
    """Report the fact that calls were sent elsewhere."""
    context.effects.append(Report(Rescue(context.now, machine.id, machine.endpoint.address, event.calls)))


class CallShares:
    """Which part of the channel's calls a subchannel had before it fell silent.

    The pickers decide how many calls each subchannel has: by weights, by order, by the calls' keys. So the part is
    counted, over the last five to ten seconds, and not derived from the number of subchannels. Where nobody looks for
    suspicions (`Heartbeat.ping` is off), nothing is marked: then the whole life of the present connections counts.
    """

    __slots__ = ("_marked_at", "_marks")

    def __init__(self) -> None:
        self._marked_at: int | None = None
        # By subchannel: its counters, and how many calls they had at the last mark but one and at the last.
        self._marks: dict[int, tuple[Load, int, int]] = {}

    def look(self, machines: Mapping[int, SubchannelMachine], now: int) -> None:
        """Mark the counts of all subchannels, if the last marks are old enough."""
        if self._marked_at is not None and now - self._marked_at < _WINDOW:
            return
        self._marked_at, before, self._marks = now, self._marks, {}
        for sub, machine in machines.items():
            if machine.handle is not None:
                load = machine.handle.load
                old = before.get(sub)
                self._marks[sub] = (load, old[2] if old is not None and old[0] is load else 0, load.picks)

    def part(self, machine: SubchannelMachine, machines: Collection[SubchannelMachine]) -> float:
        """Return the part of the calls, from 0 to 1, that a subchannel has had which falls silent now."""
        rest = sum(other.call_share for other in machines if other.is_silent and other is not machine)
        total = sum(self._calls(other) for other in machines if not other.is_silent or other is machine)
        # What those have had that are silent already is the others' by now.
        return self._calls(machine) / total * max(0.0, 1 - rest) if total else 0.0

    def _calls(self, machine: SubchannelMachine) -> int:
        if machine.handle is None:
            return 0
        load = machine.handle.load
        mark = self._marks.get(machine.id)
        return load.picks - (mark[1] if mark is not None and mark[0] is load else 0)
