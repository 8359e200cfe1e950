"""Which addresses stay in use for a while though the resolver gives them no more.

Theory: DNS servers with many addresses answer with a few of them, others each time. To leave who is missing costs
a connection for each, and all that was known of them. Where the health service says SERVING on a connection that
stands, a list says less than the backend itself (Envoy keeps such hosts, too). So they stay in rotation for `keep`
seconds; who comes back in that time was never gone.

The one rule: only who is healthy is kept, and only for as long as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.core.messages import SECOND, Endpoint
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.turn import Turn


class Keeping:
    """The addresses that are kept.

    Args:
        keep: seconds from the first list without an address; 0 for none.
    """

    def __init__(self, keep: float) -> None:
        self._keep = round(keep * SECOND)
        self._kept: dict[int, None] = {}

    def merge(
        self, wanted: Mapping[str, Endpoint], machines: Mapping[int, SubchannelMachine], turn: Turn
    ) -> Mapping[str, Endpoint]:
        """Return the endpoints of a new list, and after them those that are kept."""
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
        """Return the addresses that were kept and are not healthy any more."""
        return [machines[sub].endpoint.address for sub in self._kept if not machines[sub].is_healthy]

    def forget(self, sub: int, turn: Turn) -> None:
        """The subchannel is listed again, or removed."""
        self._kept.pop(sub, None)
        turn.timers.cancel((sub, "keep", 0))
