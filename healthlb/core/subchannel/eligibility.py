"""Which subchannels a picker is built from: the stage between health and picking.

The one rule: these are pure functions of what the machines say now. No counter is kept, so none can go wrong when a
subchannel leaves while it is out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from healthlb.core.load import Subchannel
from healthlb.core.states import ConnectivityState
from healthlb.core.subchannel.machine import SubchannelMachine

_READY = ConnectivityState.READY


def pickable(machine: SubchannelMachine, *, is_panicking: bool) -> Subchannel | None:
    """Return what may be picked of a subchannel that is healthy and not held out; in panic mode, that is connected."""
    if is_panicking:
        return machine.handle if machine.is_connected else None
    return machine.handle if machine.concluded_state is _READY else None


def eligible(machines: Iterable[SubchannelMachine]) -> tuple[Subchannel, ...]:
    """Return those that are healthy and not held out."""
    return tuple([m.handle for m in machines if m.concluded_state is _READY and m.handle is not None])


def on_probe(machines: Iterable[SubchannelMachine]) -> tuple[Subchannel, ...]:
    """Return the healthy subchannels whose ejection is over except for one call that decides."""
    return tuple([m.handle for m in machines if m.exclusion.is_on_probe and m.is_healthy and m.handle is not None])


def excess(tally: Mapping[ConnectivityState, int], percent: int) -> int:
    """Return by how many the subchannels that are out exceed the cap; negative if there is room.

    Args:
        tally: subchannels by concluded state, without absent ones.
        percent: the share of them that may be out, from 0 to 100, rounded up; at least one always stays in.
    """
    count = sum(tally.values())
    most = min(-(-count * percent // 100), max(0, count - 1))
    return count - tally.get(_READY, 0) - most


def is_hung(machine: SubchannelMachine) -> bool:
    """Return whether it answers nothing, be it out for that or kept in since too few are left."""
    return machine.is_silent or machine.kept_at > 0


def is_reported_hung(machine: SubchannelMachine) -> bool:
    """Return whether it was kept in though it hangs, and no call has succeeded on it since."""
    return machine.kept_at > (machine.handle.load.last_success_at if machine.handle else 0)


def may_exclude(machine: SubchannelMachine, machines: Collection[SubchannelMachine]) -> bool:
    """Return whether a missed heartbeat may take one more subchannel out.

    At least half stay in, and so does the last READY one: a fleet whose worker pools are all full answers no
    heartbeats, and must not go out one by one.
    """
    if machine.concluded_state is not _READY:
        return True
    others = [other for other in machines if other is not machine]
    silent = sum(other.is_silent for other in others)
    return any(other.concluded_state is _READY for other in others) and 2 * (silent + 1) <= len(machines) + 1
