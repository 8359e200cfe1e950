"""The stage between health and picking: which subchannels a picker is built from.

The one rule: pure functions of what the machines say now. Nothing is counted up and down, so that nothing can drift
when a subchannel leaves while it is out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from healthlb.core.load import Subchannel
from healthlb.core.states import ConnectivityState
from healthlb.core.subchannel import SubchannelMachine

_READY = ConnectivityState.READY


def eligible(machines: Iterable[SubchannelMachine], *, is_panicking: bool = False) -> tuple[Subchannel, ...]:
    """Return whom a picker may choose: the healthy ones that nothing holds out; in a panic all that are connected."""
    if is_panicking:
        return tuple([m.handle for m in machines if m.is_connected and m.handle is not None])
    return tuple([m.handle for m in machines if m.concluded_state is _READY and m.handle is not None])


def on_probe(machines: Iterable[SubchannelMachine]) -> tuple[Subchannel, ...]:
    """Return the healthy ones whose ejection is over but for one call."""
    return tuple([m.handle for m in machines if m.holds.is_on_probe and m.is_healthy and m.handle is not None])


def excess(tally: Mapping[ConnectivityState, int], percent: int) -> int:
    """Return by how many the subchannels that are out, for whatever reason, exceed the cap; negative for room.

    Args:
        tally: subchannels by concluded state.
        percent: of them, rounded up, that may be out; one stays in even then.
    """
    count = sum(tally.values())
    most = min(-(-count * percent // 100), max(0, count - 1))
    return count - tally.get(_READY, 0) - most
