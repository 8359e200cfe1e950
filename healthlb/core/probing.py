"""How ejected subchannels get their one call, whatever the picker."""

from __future__ import annotations

from healthlb.core.load import Subchannel
from healthlb.core.pickers import CallInfo, Picker


class ProbingPicker:
    """Sends one call to each subchannel on probe, and leaves all others to the picker.

    At first that is one that can be made again if it fails (`Load.open_probe`).

    It is published only while there are such subchannels; so the picker is not built anew for them, and calls pay
    nothing for it at other times.

    Args:
        picker: chooses among those that are in.
        probes: each holds one place, which its load cell gives away once.
    """

    __slots__ = ("_picker", "_probes")

    def __init__(self, picker: Picker, probes: tuple[Subchannel, ...]) -> None:
        self._picker = picker
        self._probes = probes

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the first whose place is free, else what the picker says."""
        for sub in self._probes:
            if sub.id not in call.exclude and sub.load.take_probe(call.is_repeatable):
                return sub
        return self._picker.pick(call)


def with_probes(picker: Picker, probes: tuple[Subchannel, ...]) -> Picker:
    """Return the picker to publish."""
    return ProbingPicker(picker, probes) if probes else picker
