"""Publishes snapshots with their pickers, and sorts effects around that, for the driver and for the simulator's host.

The one rule: after the events that wait together come open, publish, close, report, in that order; so a picker never
holds what is closed already, and a mass flip is one new picker.
"""

from __future__ import annotations

from healthlb.core.call.load_shedding import with_share
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    CloseConnection,
    CloseSubchannel,
    Disconnect,
    Drain,
    Endpoint,
    RescueCalls,
    StopWatch,
)
from healthlb.core.pickers import CallInfo, Picker, PickerBuilder, hook, is_shipped
from healthlb.core.pickers.checked import CheckedPicker, FailedPicker
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.snapshot import NOTHING, Snapshot
from healthlb.core.user_code import Guard, name_of, shown, words


class ProbingPicker:
    """Sends one call to each subchannel that is on probe, and leaves all other calls to the channel's picker.

    At first only a call that may be repeated is taken; after `Load.open_probe` any call is. It is published only while
    there are subchannels on probe: the picker is not rebuilt for them, and calls pay nothing at other times.

    Args:
        picker: picks for all other calls.
        probes: the subchannels on probe.
    """

    __slots__ = ("_picker", "_probes")

    def __init__(self, picker: Picker, probes: tuple[Subchannel, ...]) -> None:
        self._picker = picker
        self._probes = probes

    @property
    def name(self) -> str:
        """That of the picker, for errors; empty for healthlb's own."""
        return str(getattr(self._picker, "name", ""))

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return a subchannel whose probe this call takes, else what the picker returns."""
        for sub in self._probes:
            if sub.id not in call.exclude and sub.load.take_probe(call.is_repeatable):
                return sub
        return self._picker.pick(call)


def with_probes(picker: Picker, probes: tuple[Subchannel, ...]) -> Picker:
    """Return the picker to publish: `picker` itself if nobody is on probe."""
    return ProbingPicker(picker, probes) if probes else picker


CLOSING = (StopWatch, Disconnect, Drain, RescueCalls, CloseConnection, CloseSubchannel)
"""What is done once the snapshot is published: pickers hold nothing of it any more."""


class Publisher:
    """Gives snapshots their pickers.

    Where one cannot be built, the last good one stays, for what of its choices is READY still, and everything else that
    is READY is taken in turn. Where none was ever built, calls end with the reason.

    Args:
        factory: builds them.
        first: the snapshot before anything has happened.
        guard: is told of what the factory and its pickers do wrong.

    Attributes:
        published: the last one.
        error: what the factory raised at it, None where it did not.
        builds: how many pickers were built.
    """

    def __init__(self, factory: PickerBuilder, first: Snapshot, guard: Guard | None = None) -> None:
        self.published = first
        self.error: BaseException | None = None
        self.builds = 0
        self._factory = factory
        self._guard = guard or Guard()
        self._name = name_of(factory)
        self._is_trusted = is_shipped(factory)
        self._spare = RoundRobin()
        self._built_from = first.ready
        self._picker = first.picker
        self._endpoints: tuple[Endpoint, ...] = ()
        self._reported = ""

    def adopt(self, before: Publisher) -> None:
        """Go on where another one of the same factory ended: its last good picker stays until there is another."""
        self.builds, self._picker, self._built_from = before.builds, before._picker, before._built_from
        self._endpoints, self._name, self._is_trusted = before._endpoints, before._name, before._is_trusted

    def publish(self, snapshot: Snapshot) -> bool:
        """Make `published` of the balancer's snapshot; False where that is no news."""
        if snapshot.generation == self.published.generation:
            return False
        self._publish(snapshot)
        return True

    def retry(self) -> bool:
        """Try again to build the picker that could not be built; False where there is none to build."""
        if self.error is None:
            return False
        self._publish(self.published)
        return True

    def _publish(self, snapshot: Snapshot) -> None:
        self.error = None
        try:
            picker = self._picker = self._build(snapshot)
        except BaseException as error:
            if self._guard.is_interrupt(error):
                raise
            self.error = error
            picker = self._failed(snapshot, f"the picker {self._name} could not be built: {words(error)}", error)
        else:
            self._reported = ""
        picker = with_share(with_probes(picker, snapshot.probes), snapshot.shedding if snapshot.ready else None)
        self.published = snapshot.picked_by(picker)

    def _build(self, snapshot: Snapshot) -> Picker:
        tell = hook(self._factory, "endpoints")
        endpoints = self._endpoints if tell is None else tuple(view.endpoint for view in snapshot.views)
        if snapshot.ready is self._built_from and endpoints == self._endpoints:
            return self._picker
        if tell is not None and endpoints != self._endpoints:
            tell(endpoints)
        picker = self._factory.build(snapshot.ready)
        if not self._is_trusted:
            picker = self._checked(picker, snapshot)
        self.builds += 1
        self._built_from, self._endpoints = snapshot.ready, endpoints
        return picker

    def _checked(self, picker: Picker, snapshot: Snapshot, *, is_stale: bool = False) -> Picker:
        if not callable(getattr(picker, "pick", None)):
            raise TypeError(f"build returned {shown(picker)}, not a picker with a method pick")
        spare = self._spare.build(snapshot.ready)
        return CheckedPicker(picker, snapshot.ready, spare, name=self._name, guard=self._guard, is_stale=is_stale)

    def _failed(self, snapshot: Snapshot, reason: str, error: BaseException) -> Picker:
        if reason != self._reported:
            self._reported = reason
            self._guard.tell(f"{reason}; the last good picker stays" if self.builds else reason, error)
            if self.builds:
                self._guard.tell(f"calls for which the last picker {self._name} has nothing take what is READY in turn")
        if self.builds:
            return self._checked(self._picker, snapshot, is_stale=True)
        return FailedPicker(reason) if snapshot.ready else NOTHING
