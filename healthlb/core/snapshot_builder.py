"""Builds the channel's snapshot: its aggregated state, and the subchannels that a picker may choose.

What an event costs here does not grow with the number of subchannels, but for the copies of two tuples: only those that
have changed are looked at, unless the list is another one.

The one rule: three stages decide independently. `eligibility` says which subchannels may be picked, `slow_start` with
which weight, and the driver's picker factory builds the picker that chooses among them.
"""

from __future__ import annotations

from collections import Counter

from healthlb.core.event_context import EventContext
from healthlb.core.load import CallLimiter, Subchannel
from healthlb.core.messages import ConnectivityState
from healthlb.core.resolution import Resolution
from healthlb.core.snapshot import Snapshot, SubchannelView
from healthlb.core.subchannel.eligibility import on_probe, pickable
from healthlb.core.subchannel.machine import SubchannelMachine

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING


class SnapshotBuilder:
    """Makes snapshots, each only where something is new.

    Args:
        service: the service name asked for, None for no health checking.
        limiter: knows which part of the calls is refused.

    Attributes:
        is_stale: whether something has changed since the last one.
        is_reweighted: whether pickers must be built anew though their subchannels are the same.
        snapshot: the last one, without a picker: the driver builds that.
    """

    def __init__(self, service: str | None, limiter: CallLimiter) -> None:
        self._limiter = limiter
        self.is_stale = False
        self.is_reweighted = False
        self._machines: dict[int, SubchannelMachine] = {}
        self._changed: list[int] = []
        self._places: dict[int, int] = {}
        self._views: list[SubchannelView] = []
        self._pickable: list[Subchannel | None] = []
        self._probing: dict[int, None] = {}
        self.snapshot = Snapshot(0, _CONNECTING, service=service)

    def note(self, context: EventContext) -> None:
        """Take in whether an event has changed anything."""
        self.is_stale |= context.is_changed
        self.is_reweighted |= context.is_reweighted
        self._changed += context.changed

    def renew(
        self,
        machines: dict[int, SubchannelMachine],
        state: ConnectivityState,
        resolution: Resolution,
        *,
        is_panicking: bool,
    ) -> None:
        """Make the present snapshot."""
        old = self.snapshot
        if self._is_relisted(machines) or is_panicking is not old.is_panicking:
            self._relist(machines, is_panicking=is_panicking)
            has_others = True
        else:
            has_others = self._follow(machines, is_panicking=is_panicking)
        ready = old.ready
        if has_others or self.is_reweighted:
            ready = tuple([sub for sub in self._pickable if sub is not None])
            if ready == old.ready and not self.is_reweighted:
                ready = old.ready
        self.is_stale = self.is_reweighted = False
        self._changed.clear()
        self.snapshot = Snapshot(
            old.generation + 1,
            state,
            ready,
            views=tuple(self._views),
            service=old.service,
            error=resolution.error,
            list_age=resolution.list_age,
            probes=on_probe(machines.values()) if self._probing else (),
            is_panicking=is_panicking,
            shedding=self._limiter.shedding,
        )

    def _is_relisted(self, machines: dict[int, SubchannelMachine]) -> bool:
        """Whether subchannels were added, removed or put into another order, which makes another mapping."""
        # Numbers grow and are given once, so what was added is at the end.
        if machines is not self._machines or len(machines) != len(self._places):
            return True
        return bool(machines) and next(reversed(machines)) not in self._places

    def _relist(self, machines: dict[int, SubchannelMachine], *, is_panicking: bool) -> None:
        """Look at all subchannels."""
        self._machines = machines
        self._places = dict(zip(machines, range(len(machines)), strict=True))
        # Of thousands few have changed: the others cost no call.
        self._views = [machine.made_view or machine.view for machine in machines.values()]
        self._pickable = [pickable(machine, is_panicking=is_panicking) for machine in machines.values()]
        self._probing = {sub: None for sub, machine in machines.items() if machine.exclusion.is_on_probe}

    def _follow(self, machines: dict[int, SubchannelMachine], *, is_panicking: bool) -> bool:
        """Look at the subchannels that have changed; return whether others may be picked now."""
        has_others = False
        for sub in self._changed:
            place = self._places.get(sub)
            if place is None:
                continue  # It was removed, and the last of its calls has ended.
            machine = machines[sub]
            self._views[place] = machine.view
            handle = pickable(machine, is_panicking=is_panicking)
            if handle is not self._pickable[place]:
                self._pickable[place] = handle
                has_others = True
            if machine.exclusion.is_on_probe:
                self._probing[sub] = None
            else:
                self._probing.pop(sub, None)
        return has_others


def aggregate(tally: Counter[ConnectivityState], *, is_empty: bool, is_open: bool) -> ConnectivityState:
    """Return the channel's state (gRFC A61).

    Args:
        tally: subchannels by concluded state.
        is_empty: whether there were neither addresses nor an error so far.
        is_open: whether calls are taken though no subchannel is READY: in a panic.
    """
    if tally[_READY] or is_open:
        return _READY
    return _CONNECTING if tally[_CONNECTING] or is_empty else ConnectivityState.TRANSIENT_FAILURE
