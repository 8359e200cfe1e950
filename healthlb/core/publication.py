"""What a driver does with a balancer's effects and snapshots, whatever it is that drives.

The one rule: after the events that wait together come open, publish, close, report, in that order; so a picker never
holds what is closed already, and a mass flip is one new picker.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from healthlb.core.messages import (
    CloseConnection,
    CloseSubchannel,
    Drain,
    Effect,
    Endpoint,
    Fact,
    Report,
    StopWatch,
)
from healthlb.core.pickers import Picker, PickerFactory
from healthlb.core.probing import with_probes
from healthlb.core.snapshot import Snapshot

_CLOSING = (StopWatch, Drain, CloseConnection, CloseSubchannel)


def in_order(effects: Iterable[Effect]) -> tuple[list[Effect], list[Effect], list[Fact]]:
    """Return what is to be done before the snapshot is published, what after it, and what is to be told then."""
    opening: list[Effect] = []
    closing: list[Effect] = []
    facts: list[Fact] = []
    for effect in effects:
        if isinstance(effect, Report):
            facts.append(effect.fact)
        elif isinstance(effect, _CLOSING):
            closing.append(effect)
        else:
            opening.append(effect)
    return opening, closing, facts


class Publisher:
    """Gives snapshots their pickers.

    Args:
        factory: builds them.
        first: the snapshot before anything has happened.

    Attributes:
        published: the last one.
        error: what the factory raised at it, None where it did not; the last good picker stands then.
        builds: how many pickers were built.
    """

    def __init__(self, factory: PickerFactory, first: Snapshot) -> None:
        self.published = first
        self.error: Exception | None = None
        self.builds = 0
        self._factory = factory
        self._built_from = first.ready
        self._picker = first.picker
        self._endpoints: tuple[Endpoint, ...] = ()

    def publish(self, snapshot: Snapshot) -> bool:
        """Make `published` of the balancer's snapshot; False where that is no news."""
        if snapshot.generation == self.published.generation:
            return False
        self.error = None
        try:
            self._picker = self._build(snapshot)
        except Exception as error:
            self.error = error
        self.published = replace(snapshot, picker=with_probes(self._picker, snapshot.probes))
        return True

    def _build(self, snapshot: Snapshot) -> Picker:
        tell = getattr(self._factory, "endpoints", None)
        endpoints = self._endpoints if tell is None else tuple(view.endpoint for view in snapshot.views)
        if snapshot.ready is self._built_from and endpoints == self._endpoints:
            return self._picker
        if tell is not None and endpoints != self._endpoints:
            tell(endpoints)
        picker = self._factory.build(snapshot.ready)
        self.builds += 1
        self._built_from, self._endpoints = snapshot.ready, endpoints
        return picker
