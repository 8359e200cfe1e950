"""Panic mode: if too few subchannels are healthy, calls go to all that are connected (Envoy's panic threshold).

Theory: when most of a fleet reports ill health, the likely cause is something that all depend on, or the health check
itself. The few that remain would get the calls of all, and fail in turn. So below a share of healthy subchannels, a
connection is enough to be picked. A subchannel that is CONNECTING counts as healthy, so that no channel starts in a
panic. Absent addresses (see `presence`) are not counted; while all are absent, the mode stays as it was.

The one rule: whether there is a panic follows from what the machines say now, at a cost that does not grow with their
number.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.core.event_context import EventContext
from healthlb.core.facts import Panic
from healthlb.core.messages import ConnectivityState, Report
from healthlb.core.subchannel.machine import SubchannelMachine

_READY = ConnectivityState.READY


class PanicMode:
    """Whether a channel is in panic mode.

    Args:
        threshold: the share of healthy subchannels, from 0 to 1, below which it is; 0 for never.

    Attributes:
        is_on: whether it is in panic mode now.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._picks_before = 0
        self._connected: dict[int, None] = {}
        self.is_on = False

    @property
    def is_open(self) -> bool:
        """Whether the channel is in panic mode and has a connected subchannel to pick."""
        return self.is_on and bool(self._connected)

    def settle(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> None:
        """Begin or end the panic after an event."""
        if not self._threshold:
            return
        for sub in context.changed:
            if sub in machines and machines[sub].is_connected:
                self._connected[sub] = None
            else:
                self._connected.pop(sub, None)
        total = sum(context.tally.values())
        if machines and not total:
            return
        hopeful = context.tally[_READY] + context.tally[ConnectivityState.CONNECTING]
        # Envoy: strictly below.
        is_on = bool(total) and hopeful / total < self._threshold
        if is_on is self.is_on:
            return
        self.is_on = is_on
        context.is_changed = True
        picks = sum(machine.picks for machine in machines.values())
        made, self._picks_before = picks - self._picks_before, picks
        context.effects.append(
            Report(Panic(context.now, not is_on, context.tally[_READY], total, 0 if is_on else made))
        )

    def forget(self, machine: SubchannelMachine) -> None:
        """Forget a subchannel that was removed: its picks no longer count."""
        self._picks_before -= machine.picks
        self._connected.pop(machine.id, None)
