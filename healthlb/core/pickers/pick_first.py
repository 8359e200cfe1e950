"""The first READY subchannel in the resolver's order, or in a random one (gRPC's `pick_first`, gRFC A62).

Unlike gRPC's, it does not ignore health: an unhealthy address is passed over.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from healthlb.core.load import Subchannel
from healthlb.core.pickers.contract import CallInfo, PickerFactory
from healthlb.core.random_streams import Streams
from healthlb.errors import ConfigError


class PickFirst(PickerFactory):
    """The factory. It stays with its choice while that is READY, as gRPC does.

    Args:
        shuffle_address_list: take the addresses in a random order, another one in each channel (gRFC A62); so that
            clients with one and the same list do not all go to its first. Who has twice the weight comes first twice as
            often (gRFC A113).

    Raises:
        ConfigError: it is not a bool.
    """

    needs_call = False
    reads_weight = False

    def __init__(self, *, shuffle_address_list: bool = False) -> None:
        if not isinstance(shuffle_address_list, bool):
            raise ConfigError(f"PickFirst.shuffle_address_list must be True or False, not {shuffle_address_list!r}")
        self._is_shuffled = shuffle_address_list
        self._rng = Streams(0).stream("pick_first")
        self._ranks: dict[int, float] = {}
        self._current_id: int | None = None

    def seed(self, rng: random.Random) -> None:
        """Shuffle by this stream from now on."""
        self._rng = rng

    def build(self, ready: Sequence[Subchannel]) -> PickFirstPicker:
        """Return a picker that prefers the present choice, else the first address."""
        if self._is_shuffled:
            # A draw with weights and without replacement: the smallest of exponential times goes first.
            self._ranks = {sub.id: self._ranks.get(sub.id) or self._draw() / sub.endpoint.weight for sub in ready}
        order = sorted(ready, key=lambda sub: (sub.id != self._current_id, self._ranks.get(sub.id, 0.0)))
        self._current_id = order[0].id if order else None
        return PickFirstPicker(tuple(order))

    def _draw(self) -> float:
        return -math.log(1.0 - self._rng.random())


class PickFirstPicker:
    """Always the first, but for calls that have tried it."""

    __slots__ = ("_order",)

    def __init__(self, order: tuple[Subchannel, ...]) -> None:
        self._order = order

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the first subchannel that this call has not tried."""
        if not self._order:
            return None
        if not call.exclude:
            return self._order[0]
        return next((sub for sub in self._order if sub.id not in call.exclude), self._order[0])
