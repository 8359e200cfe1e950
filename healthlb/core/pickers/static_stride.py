"""The static-stride scheduler: each subchannel in turn, in proportion to its weight (gRFC A58).

Who is next is read off a running number: its remainder by the size names an entry, its quotient is the lap. An entry
with 80 % of the largest weight is taken in 80 % of the laps, spread evenly over them; so there is no state but the
number, no lock, and no herd. Of 65,535 laps each entry takes part in exactly as many as its scaled weight.

A58 cuts weights off at ten times the mean, so that few laps are passed over. Here a weight that large is split over
several entries instead: shares are exact whatever the weights, and on average at most three entries are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from healthlb.core.load import Subchannel
from healthlb.core.pickers.contract import CallInfo

MOST = 65_535
_OFFSET = MOST // 2
_LARGEST_SHARE = 2.0
_MOST_TRIES = 16


class StaticStride:
    """The schedule for one set of weights.

    Args:
        subs: what to choose from.
        weights: one for each, above 0.
        numbers: the running number; of the owner, so that it goes on with new weights. `next` on it is atomic.
    """

    __slots__ = ("_entries", "_numbers", "_size", "_strides", "_subs")

    def __init__(self, subs: Sequence[Subchannel], weights: Sequence[float], numbers: Iterator[int]) -> None:
        self._subs = subs
        self._numbers = numbers
        self._entries, self._strides = _split(subs, weights)
        self._size = len(self._entries)

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the next one, past those that this call has tried."""
        size = self._size
        if not size:
            return None
        if call.exclude:
            return self._pick_untried(call)
        strides = self._strides
        while True:
            lap, place = divmod(next(self._numbers), size)
            stride = strides[place]
            if stride == MOST or (stride * lap + place * _OFFSET) % MOST >= MOST - stride:
                return self._entries[place]

    def _pick_untried(self, call: CallInfo) -> Subchannel | None:
        for _ in range(_MOST_TRIES):
            sub = self.pick(call._replace(exclude=frozenset()))
            if sub is None or sub.id not in call.exclude:
                return sub
        return next((other for other in self._subs if other.id not in call.exclude), sub)


def _split(subs: Sequence[Subchannel], weights: Sequence[float]) -> tuple[list[Subchannel], list[int]]:
    """Return the entries and their weights on a scale to `MOST`, the large ones split."""
    if len(set(weights)) <= 1:
        return list(subs), [MOST] * len(subs)
    largest = _LARGEST_SHARE * sum(weights) / len(weights)
    counts = [math.ceil(weight / largest) for weight in weights]
    parts = [weight / count for weight, count in zip(weights, counts, strict=True)]
    scale = MOST / max(parts)
    strides = [max(1, round(part * scale)) for part in parts]
    entries, spread = list(subs), list(strides)
    # The parts of one stand as far apart as they can: a round of all, then one of those that have more, and so on.
    for part in range(1, max(counts)):
        more = [place for place, count in enumerate(counts) if count > part]
        entries += [subs[place] for place in more]
        spread += [strides[place] for place in more]
    return entries, spread
