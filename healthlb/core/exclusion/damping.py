"""Flap damping: who comes and goes too often stays out until it has been quiet for a while (RFC 2439).

Theory: each flap adds `penalty` to a figure that halves every `half_life`, H. One that flaps with the period T comes to
penalty / (1 - 2^(-T/H)) in the end; so it is suppressed if T < -H log2(1 - penalty / suppress), and a single flap never
is. After the last flap the figure falls to `reuse` in H log2(figure / reuse), at most `max_suppress`.

A flap is an end of good health, whatever made the subchannel unfit for calls: its status, silence or connection.
Ejections are no flaps, since they are our own doing, and neither are removals. Flaps count while it is suppressed, too.

The one rule: the cap and the last healthy one are looked at after every event, as for ejections. Who is ejected is not
suppressed as well, so that either can be taken back alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from healthlb.config import FlapDamping
from healthlb.core.event_context import EventContext
from healthlb.core.messages import SECOND, Release, Report, Suppression
from healthlb.core.subchannel.eligibility import excess
from healthlb.core.subchannel.machine import SubchannelMachine


@dataclass(slots=True)
class _Record:
    """The flaps of one subchannel.

    Attributes:
        figure: the penalty right after the last flap.
        at: when that flap was, in nanoseconds.
        flaps: how many flaps there were since the penalty was last negligible.
    """

    figure: float
    at: int
    flaps: int


class Damping:
    """The penalties of a channel's subchannels.

    Args:
        policy: how penalties grow and decay; None for no damping.
        percent: the share of subchannels that may be out, from 0 to 100, rounded up; at least one stays in.
    """

    def __init__(self, policy: FlapDamping | None, percent: int) -> None:
        self._policy = policy
        self._percent = percent
        self._records: dict[int, _Record] = {}
        self._suppressed: dict[int, None] = {}
        # Of those the healthy ones, so that a fleet that is all down costs no look at each at every event.
        self._held_out: dict[int, None] = {}

    def settle(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> None:
        """Count, after an event, the flaps in it; and let back in those for whom the cap has no room any more."""
        if self._policy is None:
            return
        for sub in context.flaps:
            self._flapped(machines[sub], self._policy, context)
        for sub in context.changed:
            if sub in self._suppressed and machines[sub].is_healthy:
                self._held_out[sub] = None
            else:
                self._held_out.pop(sub, None)
        while self._held_out and excess(context.tally, self._percent) > 0:
            least = min((_decayed(self._records[sub], self._policy, context.now), sub) for sub in self._held_out)
            self._release(machines[least[1]], "too few are left", context)

    def due(self, machine: SubchannelMachine, context: EventContext) -> None:
        """Let a subchannel back in whose penalty has fallen below `reuse`."""
        self._release(machine, "quiet for long enough", context)

    def forget(self, sub: int, context: EventContext) -> None:
        """Forget a subchannel that was removed."""
        self._records.pop(sub, None)
        self._suppressed.pop(sub, None)
        self._held_out.pop(sub, None)
        context.timers.cancel((sub, "damping", 0))

    def _flapped(self, machine: SubchannelMachine, policy: FlapDamping, context: EventContext) -> None:
        sub = machine.id
        record = self._records.setdefault(sub, _Record(0.0, context.now, 0))
        figure = _decayed(record, policy, context.now)
        # RFC 2439, 4.2: below half of the reuse threshold, what was is forgotten.
        record.flaps = record.flaps + 1 if figure >= policy.reuse / 2 else 1
        record.figure = min(figure + policy.penalty, policy.ceiling)
        record.at = context.now
        if sub not in self._suppressed and (record.figure <= policy.suppress or machine.exclusion.ejection):
            return
        duration = math.floor(policy.half_life_ns * math.log2(record.figure / policy.reuse)) + 1
        context.timers.set((sub, "damping", 0), context.now + duration)
        machine.set_exclusion(
            machine.exclusion.damped(f"damped for {duration / SECOND:.1f} s: {record.flaps} flaps"), context
        )
        if sub not in self._suppressed:
            self._suppressed[sub] = None
            fact = Suppression(context.now, sub, machine.endpoint.address, record.flaps, record.figure, duration)
            context.effects.append(Report(fact))

    def _release(self, machine: SubchannelMachine, cause: str, context: EventContext) -> None:
        del self._suppressed[machine.id]
        self._held_out.pop(machine.id, None)
        context.timers.cancel((machine.id, "damping", 0))
        machine.set_exclusion(machine.exclusion.damped(""), context)
        context.effects.append(Report(Release(context.now, machine.id, machine.endpoint.address, cause)))


def _decayed(record: _Record, policy: FlapDamping, now: int) -> float:
    return record.figure * math.exp2((record.at - now) / policy.half_life_ns)
