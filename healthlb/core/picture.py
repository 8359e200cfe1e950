"""The present picture of a channel: its aggregated state, and the snapshot that the driver publishes.

The one rule: three stages, side by side. `eligibility` says who may be picked: whom the machines call healthy and
nothing holds out. `warmup` says with which weight. The driver's picker factory chooses among those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from healthlb.core.eligibility import eligible, on_probe
from healthlb.core.messages import ConnectivityState
from healthlb.core.resolution import Resolution
from healthlb.core.snapshot import Snapshot
from healthlb.core.subchannel import SubchannelMachine

_READY = ConnectivityState.READY
_CONNECTING = ConnectivityState.CONNECTING


class Picture:
    """Makes snapshots, each only where something is new.

    Args:
        service: the service name asked for, None for no health checking.

    Attributes:
        is_stale: whether something has changed since the last one.
        is_reweighted: whether pickers must be built anew though their subchannels are the same.
    """

    def __init__(self, service: str | None) -> None:
        self.is_stale = False
        self.is_reweighted = False
        self._snapshot = Snapshot(0, _CONNECTING, service=service)

    def take(
        self,
        machines: Collection[SubchannelMachine],
        state: ConnectivityState,
        resolution: Resolution,
        *,
        is_panicking: bool,
    ) -> Snapshot:
        """Return the present snapshot, without a picker: the driver builds that."""
        if not self.is_stale:
            return self._snapshot
        old = self._snapshot
        ready = eligible(machines, is_panicking=is_panicking)
        if ready == old.ready and not self.is_reweighted:
            ready = old.ready
        self.is_stale = self.is_reweighted = False
        # Of thousands few have changed: the others cost no call.
        views = tuple([machine.made_view or machine.view for machine in machines])
        self._snapshot = Snapshot(
            old.generation + 1,
            state,
            ready,
            views=views,
            service=old.service,
            error=resolution.error,
            list_age=resolution.list_age,
            probes=on_probe(machines),
            is_panicking=is_panicking,
        )
        return self._snapshot


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
