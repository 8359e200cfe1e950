"""Which part of the channel's calls a subchannel had before it fell silent.

The pickers decide how many calls each subchannel has: by weights, by order, by the calls' keys. So the part is counted,
over the last five to ten seconds, and not derived from the number of subchannels.

Where nobody looks for suspicions (`Heartbeat.ping` is off), nothing is marked: then the whole life of the present
connections counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from healthlb.core.load import Load
from healthlb.core.messages import SECOND
from healthlb.core.subchannel.machine import SubchannelMachine

_WINDOW = 5 * SECOND


class CallShares:
    """Marks how many calls each subchannel has had, every few seconds."""

    __slots__ = ("_marked_at", "_marks")

    def __init__(self) -> None:
        self._marked_at: int | None = None
        # By subchannel: its counters, and how many calls they had at the last mark but one and at the last.
        self._marks: dict[int, tuple[Load, int, int]] = {}

    def look(self, machines: Mapping[int, SubchannelMachine], now: int) -> None:
        """Mark all, if the last marks are old enough."""
        if self._marked_at is not None and now - self._marked_at < _WINDOW:
            return
        self._marked_at, before, self._marks = now, self._marks, {}
        for sub, machine in machines.items():
            if machine.handle is not None:
                load = machine.handle.load
                old = before.get(sub)
                self._marks[sub] = (load, old[2] if old is not None and old[0] is load else 0, load.picks)

    def part(self, machine: SubchannelMachine, machines: Collection[SubchannelMachine]) -> float:
        """Return the part of the calls, from 0 to 1, that a subchannel has had which falls silent now."""
        rest = sum(other.call_share for other in machines if other.is_silent and other is not machine)
        total = sum(self._calls(other) for other in machines if not other.is_silent or other is machine)
        # What those have had that are silent already is the others' by now.
        return self._calls(machine) / total * max(0.0, 1 - rest) if total else 0.0

    def _calls(self, machine: SubchannelMachine) -> int:
        if machine.handle is None:
            return 0
        load = machine.handle.load
        mark = self._marks.get(machine.id)
        return load.picks - (mark[1] if mark is not None and mark[0] is load else 0)
