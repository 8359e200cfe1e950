"""Keeps healthy addresses in use for a while after the resolver has dropped them.

Theory: a DNS server with many addresses answers with a few of them, different ones each time. To drop the missing ones
would cost a connection each, and all that is known about them. While the health service says SERVING on a connection
that is up, it is better evidence than the list (Envoy keeps such hosts, too). So they stay in rotation for `keep`
seconds; an address that is listed again in that time was never dropped.

The one rule: only healthy subchannels are kept, and only while they are healthy.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.core.event_context import Turn
from healthlb.core.messages import SECOND, Endpoint
from healthlb.core.subchannel.machine import SubchannelMachine


class KeptAddresses:
    """The addresses that are kept.

    Args:
        keep: for how many seconds after the first list without it an address is kept; 0 for none.
    """

    def __init__(self, keep: float) -> None:
        self._keep = round(keep * SECOND)
        self._kept: dict[int, None] = {}

    def merge(
        self, wanted: Mapping[str, Endpoint], machines: Mapping[int, SubchannelMachine], turn: Turn
    ) -> Mapping[str, Endpoint]:
        """Return the endpoints of a new list, followed by those that are kept."""
        merged = dict(wanted)
        for sub, machine in machines.items():
            address = machine.endpoint.address
            if address in wanted:
                self.forget(sub, turn)
            elif self._keep and machine.is_healthy:
                merged[address] = machine.endpoint
                if sub not in self._kept:
                    self._kept[sub] = None
                    turn.timers.set((sub, "keep", 0), turn.now + self._keep)
        return merged

    def ended(self, machines: Mapping[int, SubchannelMachine]) -> list[str]:
        """Return the addresses that were kept and are no longer healthy."""
        return [machines[sub].endpoint.address for sub in self._kept if not machines[sub].is_healthy]

    def forget(self, sub: int, turn: Turn) -> None:
        """Forget a subchannel that is listed again, or removed."""
        self._kept.pop(sub, None)
        turn.timers.cancel((sub, "keep", 0))
