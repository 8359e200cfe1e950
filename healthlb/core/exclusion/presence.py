"""Which addresses count as part of the fleet. One that has had no connection for long is absent.

Theory: the caps on exclusions and the panic threshold are shares of a fleet that can take load. A stale address, or
one of a family that this host cannot reach, takes none, and its state says nothing about the others. So it is counted
neither in the total nor among those that are out. A backend that has just gone still counts, because the others carry
its load.

The one rule: an address is absent if it has failed to connect and was never connected, or not for 30 s; until its
health is known again, or without health checking until calls have a connection. This needs no timer, because each
failed attempt to connect is an event.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.core.event_context import EventContext
from healthlb.core.messages import SECOND, ConnectivityState
from healthlb.core.subchannel.health import Phase
from healthlb.core.subchannel.machine import SubchannelMachine

_READY = ConnectivityState.READY
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_LONG = 30 * SECOND


class Presence:
    """The absent subchannels of a channel. They are left out of its tally.

    Attributes:
        lost_at: when connections were lost that may make an address absent with time, the earliest first.
    """

    def __init__(self) -> None:
        self.lost_at: dict[int, int] = {}
        self._absent: dict[int, None] = {}

    def connection_is(self, machine: SubchannelMachine, context: EventContext) -> None:
        """Take in that the state of a subchannel's control connection has changed."""
        if machine.connections and machine.raw_state is not _READY:
            self.lost_at.setdefault(machine.id, context.now)
        elif not machine.connections and machine.concluded_state is _FAILURE:
            self._leave(machine.id, context)

    def settle(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> None:
        """Find, after an event, which subchannels have come back, and which have become absent."""
        for sub in context.changed if self._absent or self.lost_at else ():
            machine = machines.get(sub)
            if machine is not None and machine.raw_state is _READY and _has_word(machine):
                self.forget(sub, context)
        while self.lost_at:
            sub, lost_at = next(iter(self.lost_at.items()))
            if context.now - lost_at < _LONG:
                return
            del self.lost_at[sub]
            if machines[sub].concluded_state is _FAILURE:
                self._leave(sub, context)

    def forget(self, sub: int, context: EventContext) -> None:
        """Forget a subchannel that is back or was removed."""
        self.lost_at.pop(sub, None)
        if sub in self._absent:
            del self._absent[sub]
            context.tally[_FAILURE] += 1

    def _leave(self, sub: int, context: EventContext) -> None:
        if sub not in self._absent:
            self._absent[sub] = None
            context.is_recounted = True
            context.tally[_FAILURE] -= 1


def _has_word(machine: SubchannelMachine) -> bool:
    """Whether its health is known; without health checking, who has no connection for calls has taken nothing over."""
    if machine.health.phase is Phase.UNCHECKED:
        return machine.is_connected
    return machine.health.is_healthy or machine.health.is_unhealthy
