"""What the balancer publishes: one immutable value that any thread may read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from healthlb.core.load import Load, Subchannel
from healthlb.core.messages import Code, ConnectivityState, Endpoint, Fail
from healthlb.core.pickers import Picker

_MOST_REASONS = 5


class NothingToPick:
    """The picker over nothing."""

    def pick(self, call: object) -> None:
        """Return None."""


NOTHING = NothingToPick()


@dataclass(frozen=True, slots=True)
class SubchannelView:
    """One subchannel as the balancer sees it.

    Attributes:
        id: its number in the channel.
        endpoint: what the resolver said of it.
        state: the concluded state.
        serving: the last serving status on the present connection, or None.
        reason: why it is in this state.
        since: nanoseconds on the monotonic clock.
        loads: the counters of the connections that live.
        past: picks, successes and failures of those that are gone.
        is_ejected: whether passive health keeps it out, whatever else does.
        is_damped: whether its flaps keep it out, whatever else does.
        weight: its endpoint's, or a part of it during slow start.
    """

    id: int
    endpoint: Endpoint
    state: ConnectivityState
    serving: int | None
    reason: str
    since: int
    loads: tuple[Load, ...]
    past: tuple[int, int, int]
    is_ejected: bool = False
    is_damped: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One generation of a channel's picture.

    Attributes:
        generation: grows with each publication.
        state: aggregated over the subchannels (gRFC A61: READY, else CONNECTING, else TRANSIENT_FAILURE).
        ready: what the picker was built from, in the resolver's order.
        probes: healthy ones whose ejection is over but for one call; not among `ready`.
        picker: chooses among `ready`.
        views: every subchannel, in the resolver's order.
        service: the service name that health is asked for.
        error: what the resolver last said went wrong, or "".
        is_panicking: whether so few are healthy that `ready` holds all that are connected.
    """

    generation: int
    state: ConnectivityState
    ready: tuple[Subchannel, ...] = ()
    picker: Picker = NOTHING
    views: tuple[SubchannelView, ...] = ()
    service: str | None = ""
    error: str = ""
    probes: tuple[Subchannel, ...] = ()
    is_panicking: bool = False

    @property
    def failure(self) -> Fail | None:
        """How a call ends that does not wait for ready, or None where it waits."""
        if self.state is ConnectivityState.TRANSIENT_FAILURE:
            return Fail(Code.UNAVAILABLE, self.describe())
        return None

    def describe(self) -> str:
        """Say which subchannels are in which state and what each lacks, at most the first five."""
        service = "" if self.service is None else f" for service {self.service!r}"
        if not self.views:
            return f"no addresses{service}: {self.error or 'not resolved yet'}"
        counts = Counter(view.state for view in self.views)
        states = ", ".join(f"{counts[state]} {state.name}" for state in ConnectivityState if counts[state])
        lacking = [view for view in self.views if view.state is not ConnectivityState.READY]
        reasons = [f"{view.endpoint.address}: {view.reason}" for view in lacking[:_MOST_REASONS]]
        if len(lacking) > _MOST_REASONS:
            reasons.append(f"and {len(lacking) - _MOST_REASONS} more")
        reasons += [f"resolver: {self.error}"] if self.error else []
        plural = "" if len(self.views) == 1 else "s"
        return f"{len(self.views)} subchannel{plural}{service}: {'; '.join([states, *reasons])}"
