"""Panic: where too few subchannels are healthy, health is not believed (Envoy's panic threshold).

Theory: if most of a fleet says that it is ill, it is likelier that what they all depend on is, or the check; and the
few that are left would get the calls of all, and fall in their turn. So below a share of healthy ones picks go to all
that are connected. One that is CONNECTING is undecided and counts as healthy: a channel does not begin in a panic.

The one rule: a function of what the machines say now, at a cost that does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.core.facts import Panic
from healthlb.core.messages import ConnectivityState, Report
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.turn import Turn

_READY = ConnectivityState.READY


class PanicMode:
    """Whether a channel panics.

    Args:
        threshold: the share of healthy subchannels below which it does; 0 for never.

    Attributes:
        is_on: whether it does.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._picks_before = 0
        self._connected: dict[int, None] = {}
        self.is_on = False

    @property
    def is_open(self) -> bool:
        """Whether it has anybody to pick."""
        return self.is_on and bool(self._connected)

    def settle(self, machines: Mapping[int, SubchannelMachine], turn: Turn) -> None:
        """After every event: begin or end."""
        if not self._threshold:
            return
        for sub in turn.changed:
            if sub in machines and machines[sub].is_connected:
                self._connected[sub] = None
            else:
                self._connected.pop(sub, None)
        total = len(machines)
        hopeful = turn.tally[_READY] + turn.tally[ConnectivityState.CONNECTING]
        # Envoy: strictly below.
        is_on = bool(total) and hopeful / total < self._threshold
        if is_on is self.is_on:
            return
        self.is_on = is_on
        turn.is_changed = True
        picks = sum(machine.picks for machine in machines.values())
        made, self._picks_before = picks - self._picks_before, picks
        turn.effects.append(Report(Panic(turn.now, not is_on, turn.tally[_READY], total, 0 if is_on else made)))

    def forget(self, machine: SubchannelMachine) -> None:
        """The subchannel was removed; its picks are no longer among those of all."""
        self._picks_before -= machine.picks
        self._connected.pop(machine.id, None)
