"""The first READY subchannel in the resolver's order (gRPC's `pick_first`, on healthy ones only).

Unlike gRPC's, it does not ignore health: an unhealthy address is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from healthlb.core.load import Subchannel
    from healthlb.core.pickers import CallInfo


class PickFirst:
    """The factory. It stays with its choice while that is READY, as gRPC does."""

    needs_call = False

    def __init__(self) -> None:
        self._current_id: int | None = None

    def build(self, ready: Sequence[Subchannel]) -> PickFirstPicker:
        """Return a picker that prefers the present choice, else the first address."""
        order = sorted(ready, key=lambda sub: sub.id != self._current_id)
        self._current_id = order[0].id if order else None
        return PickFirstPicker(tuple(order))


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
