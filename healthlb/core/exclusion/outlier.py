"""Passive health: what the calls themselves say of their backends.

Theory: rows of failures act at once, since the call path tells of each failure. Rates and latencies are looked at in
intervals (gRFC A50). The counters are the load cells'; an interval is the difference to the marks that were made at its
beginning. The intervals begin with the first failure, or with the suspicion that somebody hangs, and end where nothing
is left to look at, so that a channel that is well is never woken.

The one rule: only what the backend can be blamed for counts, and all is seen beside what the others do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from healthlb.config.outliers import Outliers
from healthlb.core.event_context import CallTimer, EventContext, TimerKey
from healthlb.core.exclusion import outlier_rules as rules
from healthlb.core.exclusion.ejection import Ejections
from healthlb.core.exclusion.outlier_rules import CallCounts, Others
from healthlb.core.exclusion.shedding import Shedder, silent_share
from healthlb.core.exclusion.strain import Strain
from healthlb.core.load import CallLimiter, Load
from healthlb.core.messages import SECOND, ConnectivityState, Ejection, Report
from healthlb.core.random_streams import Streams
from healthlb.core.subchannel.eligibility import eligible
from healthlb.core.subchannel.machine import SubchannelMachine

_READY = ConnectivityState.READY
_SAMPLES = 40
# To look at all others costs time in proportion to their number; so it is done the less often the more there are.
_LOOK_EVERY = SECOND // 10_000
DEFAULT = Outliers()
_INTERVAL: TimerKey = (0, "outliers", 0)
_SAMPLE: TimerKey = (0, "outliers", 1)
_STRAIN: TimerKey = (0, "outliers", 2)

Machines = Mapping[int, SubchannelMachine]
Mark = tuple[Load, int, int, int]


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A connection that may be of no use: which one, since when, its counters, and whether calls on it have failed."""

    connections: int
    connected_at: int
    load: Load
    has_failed: bool


class OutlierDetector:
    """Ejects the outliers among a channel's subchannels.

    Args:
        policy: which, None for none.
        streams: where jitter and enforcement come from.
        limiter: shared with the calls, which are told of strain.
    """

    def __init__(self, policy: Outliers | None, streams: Streams, limiter: CallLimiter) -> None:
        self._policy = policy or DEFAULT
        self._is_on = policy is not None
        self._dice = streams.stream("enforcement")
        self._ejections = Ejections(self._policy, streams)
        self._marks: dict[int, Mark] = {}
        self._before: dict[int, Mark] = {}
        self._in_flight: dict[int, int] = {}
        self._samples = 0
        self._began_at = 0
        # Of those whose calls have failed: the present connection, and how many before it were of no use.
        self._suspects: dict[int, _Suspect] = {}
        self._useless: dict[int, int] = {}
        self._told: dict[int, None] = {}
        self._all: tuple[int, Others] | None = None
        self._strain = Strain(self._policy.latency_floor_ns, limiter)
        self._shedder = Shedder(limiter, streams.stream("shedding"))

    # --- at once -----------------------------------------------------------------------------------

    def started(self, machines: Machines, context: EventContext) -> None:
        """The channel has its first address: latencies are measured from then on."""
        if self._is_on and self._policy.latency_factor is not None and not context.timers.is_set(_INTERVAL):
            self._begin(machines, context)

    def suspected(self, suspects: Collection[int], machines: Machines, context: EventContext) -> None:
        """Some subchannels may hang: see what is usual, before the others have their calls to do."""
        if self._is_on and suspects:
            self._watch(machines, context)

    def _watch(self, machines: Machines, context: EventContext) -> None:
        if not context.timers.is_set(_INTERVAL):
            self._begin(machines, context)
        if not context.timers.is_set(_STRAIN):
            context.timers.set(_STRAIN, self._strain.begin(eligible(machines.values()), context.now))

    def call_failed(self, machine: SubchannelMachine, machines: Machines, context: EventContext) -> None:
        """Take in that calls failed on the present connection."""
        if not self._is_on or machine.handle is None:
            return
        self._watch(machines, context)
        load = machine.handle.load
        self._suspects[machine.id] = _Suspect(machine.connections, machine.connected_at, load, has_failed=True)
        failures, lates = load.consecutive_failures()
        limit = self._policy.consecutive_failures
        if limit is None or failures < limit or machine.concluded_state is not _READY:
            return
        of_late = failures - lates < limit
        if of_late and not rules.is_silence(context.now - self._ejections.silent_since(machine)):
            return
        others = self._others(machine.id, load, machines, context.now)
        if rules.is_no_chance(failures, others, of_late=of_late):
            self._eject(machine, rules.words(failures, lates), context, is_silence=lates == failures)

    def _others(self, sub: int, load: Load, machines: Machines, now: int) -> Others:
        """Return what all others' calls came to in this interval and the one before."""
        if self._all is None or now - self._all[0] >= (len(machines) // 100) * 100 * _LOOK_EVERY:
            self._all = (now, self._sum(machines, self._before))
        everyone = self._all[1]
        calls, failures, lates = _since(load, self._before.get(sub))
        is_in_time = rules.is_in_time(calls, lates)
        return Others(
            max(0, everyone.calls - calls),
            max(0, everyone.failures - failures),
            max(0, everyone.in_time - is_in_time),
            max(0, everyone.late - (not is_in_time)),
        )

    def connected(self, machine: SubchannelMachine) -> None:
        """A connection for calls is up; see whether the one before was of any use."""
        sub, old = machine.id, self._suspects.get(machine.id)
        if old is None or machine.handle is None or machine.connections == old.connections:
            return
        if old.load.last_success_at > old.connected_at:
            self._useless.pop(sub, None)
            del self._suspects[sub]
            return
        if old.has_failed and old.load.backend_failures:
            self._useless[sub] = self._useless.get(sub, 0) + 1
        now = _Suspect(machine.connections, machine.connected_at, machine.handle.load, has_failed=False)
        self._suspects[sub] = now

    def probe_ended(self, machine: SubchannelMachine, generation: int, context: EventContext) -> None:
        """A call has ended on a subchannel that is on probe."""
        self._ejections.probe_ended(machine, generation, context)

    @property
    def is_waiting(self) -> bool:
        """Whether there is an ejection to end, or a connection that was of no use."""
        return bool(self._ejections or self._useless)

    def settle(self, machines: Machines, context: EventContext) -> None:
        """After every event: eject who cannot keep a connection, and keep to the cap."""
        limit = self._policy.consecutive_connection_failures
        for sub, count in list(self._useless.items()) if self._useless else ():
            if limit is not None and count >= limit and machines[sub].concluded_state is _READY:
                del self._useless[sub]
                self._eject(machines[sub], f"{count} connections were lost in a row", context, survives_reconnect=True)
        if self._ejections:
            self._ejections.settle(machines, context)
        if (context.changed or context.is_changed) and self._shedder.is_on:
            # Who hangs no longer has its share again at once.
            self._strain.refuse_at_most(silent_share(machines.values()))
            self._shed(machines, context)

    def forget(self, sub: int, context: EventContext) -> None:
        """The subchannel was removed."""
        for known in (self._marks, self._before, self._in_flight, self._suspects, self._useless, self._told):
            known.pop(sub, None)
        self._ejections.forget(sub, context)

    def stop(self, context: EventContext) -> None:
        """The channel is being closed."""
        for key in (_INTERVAL, _SAMPLE, _STRAIN):
            context.timers.cancel(key)

    def _eject(
        self,
        machine: SubchannelMachine,
        cause: str,
        context: EventContext,
        *,
        survives_reconnect: bool = False,
        is_silence: bool = False,
    ) -> None:
        if self._ejections.has_room(context) and not self._strain.is_on:
            self._ejections.eject(machine, cause, context, survives_reconnect=survives_reconnect, is_silence=is_silence)
        else:
            self._tell(machine, cause, context)

    def _tell(self, machine: SubchannelMachine, cause: str, context: EventContext) -> None:
        # Once an interval is enough: nothing comes of it.
        if machine.id not in self._told:
            self._told[machine.id] = None
            times = self._ejections.times.get(machine.id, 0)
            fact = Ejection(context.now, machine.id, machine.endpoint.address, cause, 0, times, is_enforced=False)
            context.effects.append(Report(fact))

    # --- by intervals --------------------------------------------------------------------------------

    def due(self, machine: SubchannelMachine, kind: CallTimer, context: EventContext) -> None:
        """A timer of one ejection is due."""
        if kind == "ejection":
            self._ejections.expire(machine, context)
        else:
            self._ejections.renew(machine, context)

    def interval_due(self, number: int, machines: Machines, context: EventContext) -> None:
        """An interval has passed, or it is time to see how many calls are in flight, or whether there is strain."""
        if number == _SAMPLE[2]:
            self._sample(machines, context)
        elif number == _STRAIN[2]:
            self._look(machines, context)
        else:
            self._interval_over(machines, context)

    def _interval_over(self, machines: Machines, context: EventContext) -> None:
        tallies = self._tallies(machines, self._marks)
        self._ejections.decay()
        self._told.clear()
        silent = {tally.sub for tally in tallies if tally.lates == tally.calls}
        for sub, cause, enforcement in self._outliers(rules.without_lates(tallies)):
            machine = machines[sub]
            if sub in self._ejections or machine.concluded_state is not _READY:
                continue
            if self._dice.randrange(100) < enforcement:
                self._eject(machine, cause, context, is_silence=sub in silent)
            else:
                self._tell(machine, cause, context)
        if not self._is_needed(tallies, machines) and self._policy.latency_factor is None:
            self._marks = self._before = {}
            self._strain.end()
            self._shedder.refuse(0.0, machines.values(), context)
            context.timers.cancel(_STRAIN)
        else:
            self._begin(machines, context)

    def _is_needed(self, tallies: list[CallCounts], machines: Machines) -> bool:
        has_failed = any(tally.failures for tally in tallies)
        return has_failed or bool(self._ejections or self._ejections.times) or silent_share(machines.values()) > 0

    def _outliers(self, tallies: list[CallCounts]) -> Iterable[tuple[int, str, int]]:
        policy = self._policy
        if policy.success_rate is not None:
            found = rules.by_success_rate(tallies, policy.success_rate)
            yield from ((*one, policy.success_rate.enforcement) for one in found)
        if policy.failure_percentage is not None:
            found = rules.by_failure_percentage(tallies, policy.failure_percentage)
            yield from ((*one, policy.failure_percentage.enforcement) for one in found)
        if policy.latency_factor is not None:
            found = rules.by_latency(tallies, policy.latency_factor, policy.latency_floor)
            yield from ((*one, 100) for one in found)

    def _begin(self, machines: Machines, context: EventContext) -> None:
        self._before = self._marks
        self._marks = {sub: (load, load.judged, load.backend_failures, load.lates) for sub, load in _loads(machines)}
        self._before = self._before or self._marks
        self._all = None
        self._in_flight = {}
        self._samples = 0
        self._began_at = context.now
        context.timers.set(_INTERVAL, context.now + self._policy.interval_ns)
        if self._policy.latency_factor is not None:
            context.timers.set(_SAMPLE, context.now + self._policy.interval_ns // _SAMPLES)

    def _look(self, machines: Machines, context: EventContext) -> None:
        share = silent_share(machines.values()) if self._policy.load_shedding else 0.0
        look_at = self._strain.look(eligible(machines.values()), context.now, share)
        if look_at is not None:
            context.timers.set(_STRAIN, look_at)
        if self._strain.is_on:
            self._ejections.end_all(machines, context)
        self._shed(machines, context)

    def _shed(self, machines: Machines, context: EventContext) -> None:
        self._shedder.refuse(self._strain.refused, machines.values(), context)

    def _sample(self, machines: Machines, context: EventContext) -> None:
        self._samples += 1
        for sub, load in _loads(machines):
            self._in_flight[sub] = self._in_flight.get(sub, 0) + load.in_flight
        context.timers.set(_SAMPLE, context.now + self._policy.interval_ns // _SAMPLES)

    def _tallies(self, machines: Machines, marks: Mapping[int, Mark]) -> list[CallCounts]:
        seconds = self._policy.interval_ns / SECOND
        return [
            CallCounts(sub, *counts, rules.mean_busy(self._in_flight.get(sub, 0), self._samples, seconds))
            for sub, counts in self._counts(machines, marks)
            if counts[0]
        ]

    def _sum(self, machines: Machines, marks: Mapping[int, Mark]) -> Others:
        counts = [counts for _, counts in self._counts(machines, marks)]
        in_time = sum(rules.is_in_time(calls, lates) for calls, _, lates in counts)
        calls, failures = sum(one[0] for one in counts), sum(one[1] for one in counts)
        return Others(calls, failures, in_time, len(counts) - in_time)

    def _counts(self, machines: Machines, marks: Mapping[int, Mark]) -> Iterable[tuple[int, tuple[int, int, int]]]:
        loads = _loads(machines)
        return ((sub, _since(load, marks.get(sub))) for sub, load in loads if sub not in self._ejections)


def _loads(machines: Machines) -> Iterable[tuple[int, Load]]:
    return ((sub, machine.handle.load) for sub, machine in machines.items() if machine.handle is not None)


def _since(load: Load, mark: Mark | None) -> tuple[int, int, int]:
    calls, failures, lates = load.judged, load.backend_failures, load.lates
    if mark is None or mark[0] is not load:
        return calls, failures, lates
    return calls - mark[1], failures - mark[2], lates - mark[3]
