"""How much work an attempt is.

Each attempt of a call draws its own service time, by the law of the backend that it goes to: a retry or a hedge does
not inherit the luck of the attempt before it. A group of clients with a law of `work` is the exception: there the work
belongs to the call, and each of its attempts is as much.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from healthlb.core.random_streams import Streams
from healthlb.simulation.scenario.laws import Law

Works = tuple[int, ...]
"""The work of one attempt by each of the scenario's laws, in nanoseconds; a server takes what its own law has drawn."""


class Work:
    """Draws the work of attempts.

    Args:
        laws: one for each kind of backend.
        streams: of random numbers, one for each law.
    """

    __slots__ = ("_draws", "_only")

    def __init__(self, laws: Sequence[Law], streams: Sequence[random.Random]) -> None:
        self._draws = [(law.draw, stream.random) for law, stream in zip(laws, streams, strict=True)]
        self._only = self._draws[0] if len(self._draws) == 1 else None

    def next(self) -> Works:
        """Return the work of the next attempt."""
        if self._only is not None:
            draw, number = self._only
            return (draw(number),)
        return tuple(draw(number) for draw, number in self._draws)


class _SameEverywhere(Work):
    """Draws the work of calls, which is the same by each of the scenario's laws."""

    __slots__ = ("_count",)

    def __init__(self, law: Law, stream: random.Random, count: int) -> None:
        super().__init__((law,), (stream,))
        self._count = count

    def next(self) -> Works:
        """Return the work of the next call."""
        return super().next() * self._count


class WorkSource:
    """Where the work of one group's calls comes from.

    Args:
        laws: of the scenario's backends.
        own: the group's own law, None for the backends'.
        streams: of random numbers.
    """

    def __init__(self, laws: Sequence[Law], own: Law | None, streams: Streams) -> None:
        self._laws = laws
        self._own = own
        self._streams = streams

    def of(self, *name: str | int) -> Work:
        """Return what draws the work of first attempts, from the streams of this name."""
        if self._own is not None:
            return _SameEverywhere(self._own, self._streams.stream(*name, 0), len(self._laws))
        return Work(self._laws, [self._streams.stream(*name, place) for place in range(len(self._laws))])

    def again(self, client: str) -> Callable[[], Works] | None:
        """Return what draws the work of a client's later attempts, None where the work belongs to the call."""
        return None if self._own is not None else self.of("work again", client).next
