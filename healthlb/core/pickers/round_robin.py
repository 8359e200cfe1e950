"""Each READY subchannel in turn (gRPC's `round_robin`)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from healthlb.core.load import Subchannel
from healthlb.core.pickers.contract import CallInfo, PickerFactory


class RoundRobin(PickerFactory):
    """The factory: it owns the one counter, so that the rotation survives rebuilds.

    A rotation that starts again with each picker sends three to four times the load to early
    addresses (grpc-java#4462); one that starts at 0 in each client does so across clients.
    """

    needs_call = False
    reads_weight = False

    def __init__(self) -> None:
        self._counter: Iterator[int] = itertools.count()

    def seed(self, rng: random.Random) -> None:
        """Start the rotation at a random place."""
        self._counter = itertools.count(rng.getrandbits(16))

    def build(self, ready: Sequence[Subchannel]) -> RoundRobinPicker:
        """Return a picker that continues the rotation over `ready`."""
        return RoundRobinPicker(tuple(ready), self._counter)


class RoundRobinPicker:
    """Takes the next place of a counter that threads share: `next` on it is atomic."""

    __slots__ = ("_counter", "_ready", "_size")

    def __init__(self, ready: tuple[Subchannel, ...], counter: Iterator[int]) -> None:
        self._ready = ready
        self._size = len(ready)
        self._counter = counter

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the next subchannel, past those that this call has tried."""
        if not self._size:
            return None
        start = next(self._counter)
        chosen = self._ready[start % self._size]
        if call.exclude and chosen.id in call.exclude:
            places = range(start + 1, start + self._size)
            rest = (self._ready[place % self._size] for place in places)
            return next((other for other in rest if other.id not in call.exclude), chosen)
        return chosen
