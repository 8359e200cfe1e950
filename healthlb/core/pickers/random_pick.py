"""Any READY subchannel, each with the same chance (Envoy's `RANDOM`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from healthlb.core.load import Subchannel
from healthlb.core.pickers.contract import CallInfo, PickerFactory
from healthlb.core.random_streams import Streams


class RandomPick(PickerFactory):
    """The factory: it owns the random stream."""

    needs_call = False
    reads_weight = False

    def __init__(self) -> None:
        self._rng = Streams(0).stream("random")

    def seed(self, rng: random.Random) -> None:
        """Draw from this stream from now on."""
        self._rng = rng

    def build(self, ready: Sequence[Subchannel]) -> RandomPicker:
        """Return a picker over `ready`."""
        return RandomPicker(tuple(ready), self._rng)


class RandomPicker:
    """One draw per pick."""

    __slots__ = ("_random", "_ready")

    def __init__(self, ready: tuple[Subchannel, ...], rng: random.Random) -> None:
        self._ready = ready
        self._random = rng.random

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return a subchannel at random, from those this call has not tried if there are any."""
        choices = self._ready
        if call.exclude:
            choices = tuple(sub for sub in choices if sub.id not in call.exclude) or choices
        return choices[int(self._random() * len(choices))] if choices else None
