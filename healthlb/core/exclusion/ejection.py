"""Who is ejected, for how long, and the way back: one call, the probe.

Theory: an ejection is a time that grows with each one that follows soon, and then a half-open state. In that
one call goes to the subchannel. If the call speaks against it, it is out again, for longer; otherwise it is back with
its full share. A50 would give it the full share at once.

        eject ──▶ OUT ──time is over, or a fresh connection──▶ ON PROBE ──the call is answered──▶ in
                   ▲                                              │  └────no call comes for 2 s──────▶ in
                   └───────────────the call fails─────────────────┘

Where its calls had no answer, a fresh connection on which the health service says SERVING ends the ejection, and so
does an answer to a Check or a ping after silence (`healthlb.core.subchannel.silence`): calls without answer say nothing
of a process that answers now. Such an answer is believed once: who is silent again soon has shown that it means
nothing.

The one rule: the cap and the last healthy one are looked at after every event. Where others go out for reasons of their
own, ejected ones come back, probed or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from healthlb.config.outliers import Outliers
from healthlb.core.event_context import CallTimer, EventContext
from healthlb.core.messages import SECOND, ConnectivityState, Ejection, Probe, Report, Return
from healthlb.core.random_streams import Streams
from healthlb.core.subchannel.eligibility import excess
from healthlb.core.subchannel.machine import SubchannelMachine

_TIMERS: tuple[CallTimer, ...] = ("ejection", "probe")
# More growth than any bounds allow for; without it the power would overflow.
_MOST_GROWTH = 60
# Where no call comes for so long, the channel is idle: nobody is spared by a probe, and who waits for READY would wait
# for good. The count of consecutive failures stands, so that one more ejects again.
_IDLE = 2 * SECOND
# For so long the probe waits for a call that can be made again, so that a failed one costs nobody a call.
_MOMENT = SECOND // 2


@dataclass(slots=True)
class _Out:
    """One subchannel that is out.

    Attributes:
        until: when its time is over, in nanoseconds.
        connections: how many it had had when it was ejected.
        generation: its connection for calls then.
        survives_reconnect: whether a fresh connection does not end it: lost connections are its cause.
        is_silence: whether its calls had no answer, rather than failed.
        revivals: how often it had answered after a silence then; None where no such answer is believed.
        patience: nanoseconds until a probe that does not end makes room for another.
        offered: the connection that a probe was offered on, or None; offered_at: when.
        base: picks, answers, failures and late calls of that connection then.
    """

    until: int
    connections: int
    generation: int
    survives_reconnect: bool
    is_silence: bool
    revivals: int | None
    patience: int
    offered: int | None = None
    offered_at: int = 0
    base: tuple[int, int, int, int] = (0, 0, 0, 0)


class Ejections:
    """The ejections of a channel.

    Args:
        policy: how long they last, and how many there may be.
        streams: the random streams for jitter.

    Attributes:
        times: how many times each subchannel was ejected of late; less one for each interval in which it is in.
    """

    def __init__(self, policy: Outliers, streams: Streams) -> None:
        self._policy = policy
        self._jitter = streams.late("ejection")
        self._out: dict[int, _Out] = {}
        self._believed: dict[int, int] = {}
        self.times: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._out)

    def __contains__(self, sub: int) -> bool:
        return sub in self._out

    def silent_since(self, machine: SubchannelMachine) -> int:
        """Return since when a subchannel whose calls are all late has been silent, in nanoseconds.

        Calls that were in flight during a silence that is over may still be late, and are no new one.
        """
        assert machine.handle is not None
        load = machine.handle.load
        return max(load.last_success_at, machine.connected_at, self._believed.get(machine.id, 0))

    def has_room(self, context: EventContext) -> bool:
        """Whether the cap allows one more subchannel to be ejected."""
        return excess(context.tally, self._policy.max_ejection_percent) < 0

    def eject(
        self,
        machine: SubchannelMachine,
        cause: str,
        context: EventContext,
        *,
        survives_reconnect: bool = False,
        is_silence: bool = False,
    ) -> None:
        """Eject a subchannel. The caller has checked `has_room`."""
        assert machine.handle is not None
        times = self.times[machine.id] = self.times.get(machine.id, 0) + 1
        duration = round(_duration(self._policy, times) * (1 + self._policy.jitter * self._jitter.random()))
        until, handle = context.now + duration, machine.handle
        revivals = None if machine.id in self._believed else machine.health.revivals
        out = _Out(
            until, machine.connections, handle.generation, survives_reconnect, is_silence, revivals, patience=duration
        )
        self._out[machine.id] = out
        context.timers.cancel((machine.id, "probe", 0))
        context.timers.set((machine.id, "ejection", 0), until)
        handle.load.end_probe()
        machine.set_exclusion(machine.exclusion.ejected(duration, cause), context)
        fact = Ejection(context.now, machine.id, machine.endpoint.address, cause, duration, times, is_enforced=True)
        context.effects.append(Report(fact))

    def forget(self, sub: int, context: EventContext) -> None:
        """Forget a subchannel that was removed."""
        self.times.pop(sub, None)
        self._believed.pop(sub, None)
        self._drop(sub, context)

    def decay(self) -> None:
        """Shorten, at the end of an interval, the next ejection of those that are in (gRFC A50)."""
        self.times = {sub: times - (sub not in self._out) for sub, times in self.times.items()}
        self.times = {sub: times for sub, times in self.times.items() if times}
        self._believed = {sub: at for sub, at in self._believed.items() if sub in self.times}

    def expire(self, machine: SubchannelMachine, context: EventContext) -> None:
        """The time of an ejection is over; `settle` offers the probe."""
        machine.set_exclusion(machine.exclusion.on_probe(), context)

    def renew(self, machine: SubchannelMachine, context: EventContext) -> None:
        """Have `settle` offer another probe: no call took the last one, or it has not ended for long."""
        out = self._out[machine.id]
        if machine.handle is not None and machine.handle.load.has_probe:
            if machine.handle.load.open_probe():
                context.timers.set((machine.id, "probe", 0), out.offered_at + _IDLE)
                return
            if machine.is_healthy:
                self._release(machine, "no call has come to probe it", context)
                return
        until = out.offered_at + out.patience
        if context.now < until:
            context.timers.set((machine.id, "probe", 0), until)
        else:
            out.offered = None
            out.patience = min(2 * out.patience, self._policy.max_ejection_time_ns)

    def probe_ended(self, machine: SubchannelMachine, generation: int, context: EventContext) -> None:
        """Judge a subchannel on probe by a call that has ended on it."""
        out = self._out.get(machine.id)
        if out is None or out.offered != generation or machine.handle is None:
            return
        load = machine.handle.load
        picks, answers, failures, lates = out.base
        if load.picks == picks:
            return  # one that was begun before the ejection
        if load.backend_failures > failures:
            is_silence = out.is_silence and load.lates - lates == load.backend_failures - failures
            self.eject(
                machine, "the probe failed", context, survives_reconnect=out.survives_reconnect, is_silence=is_silence
            )
        elif load.judged - load.backend_failures > answers:
            self._release(machine, "the probe was answered", context)
        else:
            out.offered = None

    def settle(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> None:
        """Offer, after an event, the probes that are due; and let back in those for whom the cap has no room."""
        for sub, out in list(self._out.items()):
            machine = machines[sub]
            if machine.handle is None or not machine.is_healthy:
                continue
            if self._has_returned(machine, out, context):
                self._release(machine, "it answers again", context)
                continue
            if self._is_replaced(machine, out):
                machine.set_exclusion(machine.exclusion.on_probe(), context)
            if machine.exclusion.is_on_probe and out.offered != machine.handle.generation:
                self._offer(machine, out, context)
        while (one := self._superfluous(machines, context)) is not None:
            self._release(machines[one], "too few are left", context)

    def _has_returned(self, machine: SubchannelMachine, out: _Out, context: EventContext) -> bool:
        """Whether silence was all that spoke against it, and is over."""
        if not out.is_silence:
            return False
        if machine.connections != out.connections:
            return True
        if out.revivals is not None and machine.health.revivals > out.revivals:
            self._believed[machine.id] = context.now
            return True
        return False

    @staticmethod
    def _is_replaced(machine: SubchannelMachine, out: _Out) -> bool:
        """Whether it may be another process by now, or nothing but the way to it was wrong."""
        assert machine.handle is not None
        if out.is_silence:
            return machine.handle.generation != out.generation
        return machine.connections != out.connections and not out.survives_reconnect

    def end_all(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> None:
        """Let all healthy ones back in, because the others cannot do their work."""
        for sub in list(self._out):
            if machines[sub].is_healthy and machines[sub].handle is not None:
                self._release(machines[sub], "the others have too much to do", context)

    def _superfluous(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> int | None:
        is_short = excess(context.tally, self._policy.max_ejection_percent) > 0
        if not is_short and context.tally[ConnectivityState.READY]:
            return None
        waiting = [(out.until, sub) for sub, out in self._out.items() if machines[sub].is_healthy]
        return min(waiting)[1] if waiting else None

    def _offer(self, machine: SubchannelMachine, out: _Out, context: EventContext) -> None:
        assert machine.handle is not None
        load = machine.handle.load
        out.offered = machine.handle.generation
        out.offered_at = context.now
        out.base = (load.picks, load.judged - load.backend_failures, load.backend_failures, load.lates)
        context.timers.cancel((machine.id, "ejection", 0))
        context.timers.set((machine.id, "probe", 0), context.now + _MOMENT)
        context.effects.append(Probe(machine.handle))

    def _release(self, machine: SubchannelMachine, cause: str, context: EventContext) -> None:
        assert machine.handle is not None
        self._drop(machine.id, context)
        machine.handle.load.end_probe()
        machine.set_exclusion(machine.exclusion.readmitted(), context)
        context.effects.append(Report(Return(context.now, machine.id, machine.endpoint.address, cause)))

    def _drop(self, sub: int, context: EventContext) -> None:
        self._out.pop(sub, None)
        for kind in _TIMERS:
            context.timers.cancel((sub, kind, 0))


def _duration(policy: Outliers, times: int) -> int:
    """Return how long the n-th ejection in short order is, before jitter, in nanoseconds."""
    growth = policy.ejection_growth
    # A50 adds the first duration again each time.
    factor = times if growth is None else growth ** min(times - 1, _MOST_GROWTH)
    return round(min(policy.base_ejection_time_ns * factor, policy.max_ejection_time_ns))
