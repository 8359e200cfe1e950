"""The less busy of a few READY subchannels drawn at random (gRPC's `least_request`, gRFC A48; Envoy's weights).

The drawn ones are never the same one twice, unlike gRPC's and Envoy's: of two backends the worse one would still get
a quarter of all calls. Where endpoints have weights, each is drawn in proportion to its weight, and the calls in
flight are compared per unit of it; so shares follow the weights while nobody waits, and the free capacity when
somebody does. Envoy's weight / (in flight + 1) has the same ends in view.

A backend that fails fast is always idle, and would draw calls on itself (a sinkhole). So a failed call stays on the
books of its backend as `failure_penalty` calls in flight, twice as many for each failure on end, at most 64; each time
that the backend is compared with another, one is taken off. That takes no clock, and costs the less of the traffic the
longer it goes on.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

from healthlb.config import check_count
from healthlb.core.load import Load, Subchannel
from healthlb.core.pickers.contract import CallEnd, CallInfo, PickerFactory
from healthlb.core.random_streams import Streams

_MOST_CHOICES = 10
_LONGEST_PENALTY = 64


class Candidate:
    """A subchannel, and the penalty for its failures.

    Attributes:
        sub: the subchannel.
        load: its counters.
        weight: its share relative to the others.
        penalty: how many calls it counts as having in flight beyond those it has.
    """

    __slots__ = ("_last_penalty", "_successes", "load", "penalty", "sub", "weight")

    def __init__(self, sub: Subchannel) -> None:
        self.sub: Subchannel = sub
        self.load: Load = sub.load
        self.weight: float = sub.weight
        self.penalty: int = 0
        self._last_penalty = 0
        self._successes = 0

    def failed(self, penalty: int) -> None:
        """Take in a failure: twice the last penalty, unless a call has succeeded since."""
        successes = self.load.successes
        is_on_end = self._last_penalty and successes == self._successes
        self._last_penalty = self._last_penalty * 2 if is_on_end else penalty
        self._last_penalty = min(self._last_penalty, max(penalty, _LONGEST_PENALTY))
        self._successes = successes
        self.penalty = self._last_penalty


class LeastRequest(PickerFactory):
    """The factory: it owns the random stream, and the penalties of those that stay READY.

    Args:
        choice_count: how many are drawn for a call, 2 by default; at least 2, and more than 10 count as 10 (A48).
        failure_penalty: how many calls in flight a failed one counts for at first; 0 for none.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    needs_call = False

    def __init__(self, *, choice_count: int = 2, failure_penalty: int = 4) -> None:
        check_count("LeastRequest.choice_count", choice_count, low=2)
        check_count("LeastRequest.failure_penalty", failure_penalty, low=0, high=1_000)
        self._choice_count = min(choice_count, _MOST_CHOICES)
        self._failure_penalty = failure_penalty
        self._rng = Streams(0).stream("least_request")
        self._candidates: dict[Subchannel, Candidate] = {}

    def seed(self, rng: random.Random) -> None:
        """Draw from this stream from now on."""
        self._rng = rng

    def build(self, ready: Sequence[Subchannel]) -> LeastRequestPicker | WeightedLeastRequestPicker:
        """Return a picker over `ready`."""
        known = self._candidates
        self._candidates = {sub: known.get(sub) or Candidate(sub) for sub in ready}
        candidates = tuple(self._candidates.values())
        # Equal weights are one object: of thousands that lie apart, each look would be a cache miss.
        weights: dict[float, float] = {}
        for candidate in candidates:
            weight = candidate.sub.weight
            candidate.weight = weights.setdefault(weight, weight)
        if len(weights) > 1:
            return WeightedLeastRequestPicker(candidates, self._rng, self._choice_count)
        return LeastRequestPicker(candidates, self._rng, self._choice_count)

    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        """Take in a failed attempt."""
        candidate = self._candidates.get(sub)
        if candidate is not None and end.is_failure:
            candidate.failed(self._failure_penalty)


class LeastRequestPicker:
    """Over endpoints of equal weight."""

    __slots__ = ("_candidates", "_choice_count", "_random", "_size")

    def __init__(self, candidates: tuple[Candidate, ...], rng: random.Random, choice_count: int) -> None:
        self._candidates = candidates
        self._size = len(candidates)
        self._random = rng.random
        self._choice_count = min(choice_count, self._size)

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the one of those drawn that has the fewest calls in flight, the first of them where they are even."""
        if call.exclude or self._choice_count != 2:
            return self._pick_with_care(call)
        candidates, size = self._candidates, self._size
        place = int(self._random() * size)
        first = candidates[place]
        if not (first.penalty or first.load.in_flight):
            # No other can be less busy.
            return first.sub
        other = int(self._random() * (size - 1))
        second = candidates[other if other < place else other + 1]
        if first.penalty or second.penalty:
            return least((first, second)).sub
        return (second if second.load.in_flight < first.load.in_flight else first).sub

    def _pick_with_care(self, call: CallInfo) -> Subchannel | None:
        candidates = untried(self._candidates, call)
        drawn: dict[int, Candidate] = {}
        while len(drawn) < min(self._choice_count, len(candidates)):
            place = int(self._random() * len(candidates))
            drawn[place] = candidates[place]
        return least(tuple(drawn.values())).sub if drawn else None


class WeightedLeastRequestPicker:
    """Over endpoints of different weights."""

    __slots__ = ("_bounds", "_candidates", "_choice_count", "_last", "_others", "_random", "_rng", "_total")

    def __init__(self, candidates: tuple[Candidate, ...], rng: random.Random, choice_count: int) -> None:
        self._candidates = candidates
        self._bounds = list(accumulate(candidate.weight for candidate in candidates))
        self._total = self._bounds[-1]
        self._last = len(candidates) - 1
        self._rng = rng
        self._random = rng.random
        self._choice_count = choice_count
        self._others = (None,) * min(choice_count - 1, self._last)

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the one of those drawn with the fewest calls in flight per unit of weight."""
        candidates, draw = self._candidates, self._random
        if call.exclude and (left := untried(candidates, call)) is not candidates:
            picker = WeightedLeastRequestPicker(left, self._rng, self._choice_count)
            return picker.pick(call._replace(exclude=frozenset()))
        bounds, last, total = self._bounds, self._last, self._total
        place = bisect(bounds, draw() * total, 0, last)
        best = candidates[place]
        for _ in self._others:
            if not (best.penalty or best.load.in_flight):
                break
            # From all but the best so far: its stretch of the line is left out.
            weight = best.weight
            point = draw() * (total - weight)
            if point >= bounds[place] - weight:
                point += weight
            other = bisect(bounds, point, 0, last)
            challenger = candidates[other]
            if best.penalty or challenger.penalty:
                is_less = least((best, challenger)) is challenger
            else:
                is_less = challenger.load.in_flight * weight < best.load.in_flight * challenger.weight
            if is_less:
                place, best = other, challenger
        return best.sub


def untried(candidates: tuple[Candidate, ...], call: CallInfo) -> tuple[Candidate, ...]:
    """Return those that this call has not tried, all of them if there are none."""
    if not call.exclude:
        return candidates
    return tuple(candidate for candidate in candidates if candidate.sub.id not in call.exclude) or candidates


def least(drawn: tuple[Candidate, ...]) -> Candidate:
    """Return the least busy, the first where they are even; what is drawn has a little less of a penalty."""
    best = min(drawn, key=_cost)
    for candidate in drawn:
        if candidate.penalty:
            candidate.penalty -= 1
    return best


def _cost(candidate: Candidate) -> float:
    return (candidate.load.in_flight + candidate.penalty) / candidate.weight
