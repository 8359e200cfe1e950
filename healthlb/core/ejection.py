"""Who is ejected, for how long, and the way back: one call, the probe.

Theory: an ejection is a time that grows with each one that follows soon (gRFC A50), and then a half-open state. In that
one call goes to the subchannel. If the call speaks against it, it is out again, for longer; otherwise it is back with
its full share. A50 would give it the full share at once.

        eject ──▶ OUT ──time is over, or a fresh connection──▶ ON PROBE ──the call is answered──▶ in
                   ▲                                              │  └────no call comes for 2 s──────▶ in
                   └───────────────the call fails─────────────────┘

Where its calls had no answer, a fresh connection on which the health service says SERVING ends the ejection: silence
says nothing of a process that answers now.

The one rule: the cap and the last healthy one are looked at after every event. Where others go out for reasons of their
own, ejected ones come back, probed or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from healthlb.config_outliers import Outliers
from healthlb.core.eligibility import excess
from healthlb.core.messages import SECOND, ConnectivityState, Ejection, Probe, Report, Return
from healthlb.core.streams import Streams
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.turn import Turn

_TIMERS = ("ejection", "probe")
# One that was late may have been busy: it is asked again soon, and each time after twice as long.
_LATE = SECOND
# Where no call comes for so long, the channel is idle: nobody is spared by a probe, and who waits for READY would wait
# for good. The row of failures stands, so that one more ejects again.
_IDLE = 2 * SECOND
# For so long the probe waits for a call that can be made again, so that a failed one costs nobody a call.
_MOMENT = SECOND // 2


@dataclass(slots=True)
class _Out:
    """One subchannel that is out.

    Attributes:
        until: when its time is over, in nanoseconds.
        connections: how many it had had when it was ejected.
        holds: whether a fresh connection changes nothing: its connections are what is wrong.
        is_late: whether its calls were late, which may be its load and not its fault.
        offered: the connection that a probe was offered on, or None; offered_at: when.
        base: picks, answers and strikes of that connection then.
    """

    until: int
    connections: int
    holds: bool
    is_late: bool = False
    offered: int | None = None
    offered_at: int = 0
    base: tuple[int, int, int] = (0, 0, 0)


class Ejections:
    """The ejections of a channel.

    Args:
        policy: how long, and how many.
        streams: where the jitter comes from.

    Attributes:
        times: how many times each was ejected of late.
    """

    def __init__(self, policy: Outliers, streams: Streams) -> None:
        self._policy = policy
        self._jitter = streams.stream("ejection")
        self._out: dict[int, _Out] = {}
        self.times: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._out)

    def __contains__(self, sub: int) -> bool:
        return sub in self._out

    def has_room(self, turn: Turn) -> bool:
        """Whether one more may go out."""
        return excess(turn.tally, self._policy.max_ejection_percent) < 0

    def eject(
        self, machine: SubchannelMachine, cause: str, turn: Turn, *, holds: bool = False, is_late: bool = False
    ) -> None:
        """Take a subchannel out; the caller has seen that there is room."""
        assert machine.handle is not None
        times = self.times[machine.id] = self.times.get(machine.id, 0) + 1
        duration = min(self._policy.base_ejection_time_ns * times, self._policy.max_ejection_time_ns)
        if is_late:
            duration = min(duration, _LATE << min(times - 1, 32))
        duration = round(duration * (1 + self._policy.jitter * self._jitter.random()))
        self._out[machine.id] = _Out(turn.now + duration, machine.connections, holds, is_late)
        turn.timers.cancel((machine.id, "probe", 0))
        turn.timers.set((machine.id, "ejection", 0), turn.now + duration)
        machine.handle.load.end_probe()
        machine.hold(machine.holds.ejected(f"ejected for {duration / SECOND:.1f} s: {cause}"), turn)
        fact = Ejection(turn.now, machine.id, machine.endpoint.address, cause, duration, times, is_enforced=True)
        turn.effects.append(Report(fact))

    def forget(self, sub: int, turn: Turn) -> None:
        """The subchannel was removed."""
        self.times.pop(sub, None)
        self._drop(sub, turn)

    def decay(self) -> None:
        """An interval has passed: who is in may be ejected for less long (gRFC A50)."""
        self.times = {sub: times - (sub not in self._out) for sub, times in self.times.items()}
        self.times = {sub: times for sub, times in self.times.items() if times}

    def expire(self, machine: SubchannelMachine, turn: Turn) -> None:
        """The ejection's time is over; `settle` offers the probe."""
        machine.hold(machine.holds.on_probe(), turn)

    def renew(self, machine: SubchannelMachine, turn: Turn) -> None:
        """No call has taken the probe, or it has been under way for long; then `settle` offers another one."""
        out = self._out[machine.id]
        if machine.handle is not None and machine.handle.load.has_probe:
            if machine.handle.load.open_probe():
                turn.timers.set((machine.id, "probe", 0), out.offered_at + _IDLE)
                return
            if machine.is_healthy:
                self._release(machine, "no call has come to probe it", turn)
                return
        until = out.offered_at + self._policy.base_ejection_time_ns
        if turn.now < until:
            turn.timers.set((machine.id, "probe", 0), until)
        else:
            out.offered = None

    def probe_ended(self, machine: SubchannelMachine, generation: int, turn: Turn) -> None:
        """A call has ended on a subchannel that is on probe."""
        out = self._out.get(machine.id)
        if out is None or out.offered != generation or machine.handle is None:
            return
        load = machine.handle.load
        picks, answers, strikes = out.base
        if load.picks == picks:
            return  # one that was begun before the ejection
        if load.strikes > strikes:
            self.eject(machine, "the probe failed", turn, holds=out.holds, is_late=out.is_late)
        elif load.judged - load.strikes > answers:
            self._release(machine, "the probe was answered", turn)
        else:
            out.offered = None

    def settle(self, machines: Mapping[int, SubchannelMachine], turn: Turn) -> None:
        """After every event: offer probes, and take back whom the cap has no room for any more."""
        for sub, out in list(self._out.items()):
            machine = machines[sub]
            if machine.handle is None or not machine.is_healthy:
                continue
            if machine.connections != out.connections and not out.holds:
                if out.is_late:
                    self._release(machine, "it answers again", turn)
                    continue
                machine.hold(machine.holds.on_probe(), turn)
            if machine.holds.is_on_probe and out.offered != machine.handle.generation:
                self._offer(machine, out, turn)
        while (one := self._superfluous(machines, turn)) is not None:
            self._release(machines[one], "too few are left", turn)

    def _superfluous(self, machines: Mapping[int, SubchannelMachine], turn: Turn) -> int | None:
        is_short = excess(turn.tally, self._policy.max_ejection_percent) > 0
        if not is_short and turn.tally[ConnectivityState.READY]:
            return None
        waiting = [(out.until, sub) for sub, out in self._out.items() if machines[sub].is_healthy]
        return min(waiting)[1] if waiting else None

    def _offer(self, machine: SubchannelMachine, out: _Out, turn: Turn) -> None:
        assert machine.handle is not None
        load = machine.handle.load
        out.offered = machine.handle.generation
        out.offered_at = turn.now
        out.base = (load.picks, load.judged - load.strikes, load.strikes)
        turn.timers.cancel((machine.id, "ejection", 0))
        turn.timers.set((machine.id, "probe", 0), turn.now + _MOMENT)
        turn.effects.append(Probe(machine.handle))

    def _release(self, machine: SubchannelMachine, cause: str, turn: Turn) -> None:
        assert machine.handle is not None
        self._drop(machine.id, turn)
        machine.handle.load.end_probe()
        machine.hold(machine.holds.readmitted(), turn)
        turn.effects.append(Report(Return(turn.now, machine.id, machine.endpoint.address, cause)))

    def _drop(self, sub: int, turn: Turn) -> None:
        self._out.pop(sub, None)
        for kind in _TIMERS:
            turn.timers.cancel((sub, kind, 0))
