"""User requests that wait for many calls, which begin together (`fanout` of a load).

A user request is as slow as its slowest call, and has failed where one of its calls has.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.core.states import Code
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.world.run_counts import RunCounts
from healthlb.simulation.world.work import Works

Over = Callable[[int, int, Code], object]


class _Request:
    """One user request: who made it, in a closed loop, and how many of its calls are not over."""

    __slots__ = ("has_failed", "left", "user")

    def __init__(self, left: int, user: int | None) -> None:
        self.left = left
        self.user = user
        self.has_failed = False


class FanOut:
    """Makes several calls of each.

    Args:
        count: how many.
        call: makes one, given its work and a number that comes back when it is over.
        next_work: draws the work of one.
        tally: counts requests.
        on_user: called with the user of a closed loop, when the request began and its last status, once it is over.
        engine: virtual time.
    """

    def __init__(
        self,
        count: int,
        call: Callable[[Works, int], object],
        next_work: Callable[[], Works],
        *,
        tally: RunCounts,
        on_user: Over,
        engine: Engine,
    ) -> None:
        self._count = count
        self._call = call
        self._next_work = next_work
        self._tally = tally
        self._on_user = on_user
        self._engine = engine
        self._made = 0
        self._requests: dict[int, _Request] = {}

    def call(self, works: Works, user: int | None = None) -> None:
        """Make a request; `works` is of its first call."""
        self._made = number = self._made + 1
        self._requests[number] = _Request(self._count, user)
        self._call(works, number)
        for _ in range(self._count - 1):
            self._call(self._next_work(), number)

    def over(self, number: int, arrived_at: int, code: Code) -> None:
        """Take in that one of a request's calls has ended."""
        request = self._requests[number]
        request.left -= 1
        request.has_failed |= code is not Code.OK
        if request.left == 0:
            del self._requests[number]
            self._tally.user_over(arrived_at, self._engine.now, has_failed=request.has_failed)
            if request.user is not None:
                self._on_user(request.user, arrived_at, code)
