"""Subchannels that were removed from the list while calls are in flight on them.

The calls run to their own ends, as in gRPC. With a limit, those that are left are ended after that time.

The one rule: the limit counts from when the address left for the last time. While it is back in the list, nothing ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from healthlb.core.event_context import EventContext
from healthlb.core.load import Load
from healthlb.core.messages import SECOND, CloseConnection, EndCalls
from healthlb.core.subchannel.machine import SubchannelMachine


class Draining:
    """The subchannels that were removed and still have calls.

    Args:
        limit: for how many seconds calls may run on after the removal; None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._machines: dict[int, SubchannelMachine] = {}
        self._by_address: dict[str, dict[int, None]] = {}

    def __iter__(self) -> Iterator[SubchannelMachine]:
        return iter(tuple(self._machines.values()))

    def add(self, machine: SubchannelMachine, context: EventContext) -> None:
        """Add a subchannel that was removed."""
        address = machine.endpoint.address
        if machine.draining:
            self._machines[machine.id] = machine
            self._by_address.setdefault(address, {})[machine.id] = None
        if self._limit is not None:
            # Those as well that were left alone since it was back.
            for sub in self._by_address.get(address, ()):
                context.timers.set((sub, "drain", 0), context.now + round(self._limit * SECOND))

    def returned(self, address: str, context: EventContext) -> tuple[Load, ...]:
        """Take in that an address is back: calls on it that are under way have no limit. Return their counters."""
        subs = self._by_address.get(address, ())
        for sub in subs:
            context.timers.cancel((sub, "drain", 0))
        return tuple(handle.load for sub in subs for handle in self._machines[sub].draining.values())

    def drained(
        self, sub: int, generation: int, present: Mapping[int, SubchannelMachine], context: EventContext
    ) -> None:
        """Close a connection whose last call has ended, whether its subchannel is in use or removed."""
        machine = present.get(sub) or self._machines.get(sub)
        if machine is None or generation not in machine.draining:
            return
        machine.drained(generation, context)
        context.effects.append(CloseConnection(sub, generation))
        if not machine.draining and self._machines.pop(sub, None) is not None:
            context.timers.cancel((sub, "drain", 0))
            of_address = self._by_address[machine.endpoint.address]
            del of_address[sub]
            if not of_address:
                del self._by_address[machine.endpoint.address]

    def close_all(self, context: EventContext) -> None:
        """Close all connections that are left, with or without calls."""
        for sub, generation in [(machine.id, generation) for machine in self for generation in machine.draining]:
            self.drained(sub, generation, {}, context)

    def due(self, sub: int, context: EventContext) -> None:
        """End the calls of a subchannel whose time is over."""
        machine = self._machines[sub]
        limit = f"{self._limit:g} s"
        details = f"{machine.endpoint.address} left the address list {limit} ago, and calls there have {limit} (drain)"
        context.effects += [EndCalls(handle, details) for handle in machine.draining.values()]
