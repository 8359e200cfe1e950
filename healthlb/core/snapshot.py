"""What the balancer publishes: one immutable value that any thread may read."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from healthlb.core.load import Load, Subchannel
from healthlb.core.messages import SECOND, Code, ConnectivityState, Endpoint, Fail
from healthlb.core.pickers import Picker
from healthlb.core.remedies import explained, of_connection
from healthlb.core.shedding import Shedding
from healthlb.core.values import value

_MOST_REASONS = 5


class NothingToPick:
    """The picker over nothing."""

    def pick(self, call: object) -> None:
        """Return None."""


NOTHING = NothingToPick()


@value
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
        remedy: what to do about its reason, "" where nothing is known.
        earlier: the counters of calls that began before its address left the list and came back.
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
    remedy: str = ""
    earlier: tuple[Load, ...] = ()


@value
class Snapshot:
    """What calls read of a channel, in one generation.

    Attributes:
        generation: grows with each publication.
        state: aggregated over the subchannels (gRFC A61: READY, else CONNECTING, else TRANSIENT_FAILURE).
        ready: what the picker was built from, in the resolver's order.
        probes: healthy ones whose ejection is over but for one call; not among `ready`.
        picker: chooses among `ready`.
        views: every subchannel, in the resolver's order.
        service: the service name that health is asked for.
        error: what the resolver last said went wrong, or "".
        list_age: how old the resolver's list was then, in nanoseconds, None where there was none.
        is_panicking: whether so few are healthy that `ready` holds all that are connected.
        shedding: which part of the calls is refused, as some hang and the others have too much to do; None for none.
    """

    generation: int
    state: ConnectivityState
    ready: tuple[Subchannel, ...] = ()
    picker: Picker = NOTHING
    views: tuple[SubchannelView, ...] = ()
    service: str | None = ""
    error: str = ""
    list_age: int | None = None
    probes: tuple[Subchannel, ...] = ()
    is_panicking: bool = False
    shedding: Shedding | None = None
    _failure: Fail | None = field(default=None, init=False, repr=False, compare=False)

    def picked_by(self, picker: Picker) -> Snapshot:
        """Return the same with a picker."""
        # As `dataclasses.replace` does, in a third of its time.
        return Snapshot(
            self.generation, self.state, self.ready, picker, self.views, self.service, self.error, self.list_age,
            self.probes, self.is_panicking, self.shedding,
        )  # fmt: skip

    @property
    def failure(self) -> Fail | None:
        """How a call ends that does not wait for ready, or None where it waits."""
        if self.state is not ConnectivityState.TRANSIENT_FAILURE:
            return None
        if self._failure is None:
            # Written once for all calls that fail on it, which may be thousands; any thread would write the same.
            object.__setattr__(self, "_failure", Fail(Code.UNAVAILABLE, self.describe()))
        return self._failure

    def describe(self, *, has_waited: bool = False) -> str:
        """Say which subchannels are in which state, what each lacks (at most five of them), and what to do about it.

        Args:
            has_waited: whether it is said to a call for which the picker chose none of those that are READY.
        """
        name = getattr(self.picker, "name", "")
        chosen = f"; the picker {name} returned None from pick" if has_waited and self.ready and name else ""
        text = self._describe() + chosen
        return explained(text, self._remedies(text))

    def _remedies(self, text: str) -> list[str]:
        """Return what to do, with the addresses where it is not of all of them."""
        remedies = [of_connection(self.error, is_secure=False) if self.error else ""]
        places: dict[str, list[str]] = {}
        for view in self.views:
            if view.state is not ConnectivityState.READY and view.remedy and view.remedy not in text:
                places.setdefault(view.remedy, []).append(view.endpoint.address)
        for remedy, addresses in places.items():
            is_of_all = len(addresses) == len(self.views)
            remedies.append(remedy if is_of_all else f"for {_enumerated(addresses)}: {remedy}")
        return remedies

    def _describe(self) -> str:
        service = "" if self.service is None else f" for service {self.service!r}"
        if not self.views:
            return f"no addresses{service}: {self.error or 'not resolved yet'}"
        counts = Counter(view.state for view in self.views)
        states = ", ".join(f"{counts[state]} {state.name}" for state in ConnectivityState if counts[state])
        lacking = [view for view in self.views if view.state is not ConnectivityState.READY]
        reasons = [f"{view.endpoint.address}: {view.reason}" for view in lacking[:_MOST_REASONS]]
        if len(lacking) > _MOST_REASONS:
            reasons.append(f"and {len(lacking) - _MOST_REASONS} more")
        if self.error:
            age = "" if self.list_age is None else f"; the list of {self.list_age / SECOND:.0f} s before stays"
            reasons.append(f"resolver: {self.error}{age}")
        plural = "" if len(self.views) == 1 else "s"
        return f"{len(self.views)} subchannel{plural}{service}: {'; '.join([states, *reasons])}"


def _enumerated(addresses: list[str]) -> str:
    more = len(addresses) - _MOST_REASONS
    return ", ".join(addresses[:_MOST_REASONS]) + (f" and {more} more" if more > 0 else "")
