"""How calls arrive at a client.

When a call comes, and how much work its first attempt is, depends neither on the policy nor on how calls fare. So two
policies see the same calls, and their difference is theirs alone (common random numbers). A closed loop, in which the
next call waits for the last, has a stream for each user.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from heapq import heappush

from healthlb.core.random_streams import Streams
from healthlb.core.states import Code
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.scenario import SECOND, Load
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.work import Work, Works, WorkSource

_PATIENCE = 1_000_000
_log = math.log

KINDS = ("poisson", "steady", "closed", "burst", "trace")


class Arrivals:
    """Has a client make calls.

    Args:
        client: who calls.
        load: how.
        rate: calls, or user requests, per second, where `load` is "poisson" or "steady".
        work: where the work of calls comes from.
        streams: where all is drawn from.
        until: no call begins then or later.
    """

    def __init__(
        self, client: Client, load: Load, rate: float, *, work: WorkSource, streams: Streams, until: int
    ) -> None:
        if load.kind not in KINDS:
            raise ConfigError(f"load.kind must be one of {', '.join(KINDS)}, not {load.kind!r}")
        self._client = client
        self._engine = client.engine
        self._load = load
        self._source = work
        self._streams = streams
        self._until = until
        self._gap = SECOND / rate if rate > 0 else 0.0
        self._random = streams.stream("arrivals", client.id).random
        self._work = work.of("work", client.id)
        self._next_work = self._work.next
        self._call: Callable[[Works, int | None], object] = client.call
        self._on_user: Callable[[int, int, Code], object] = self._user_done
        if load.fanout > 1:
            fan_out = FanOut(client, load.fanout, self._next_work, on_user=self._user_done)
            self._call, self._on_user = fan_out.call, fan_out.over
        self._again = self._arrive
        self._is_poisson = load.kind == "poisson"
        self._made = 0
        self._started_at = 0
        self._users: dict[int, tuple[Work, random.Random]] = {}

    def start(self) -> None:
        """Begin."""
        load, engine = self._load, self._engine
        self._started_at = engine.now
        if load.kind == "closed" or load.fanout > 1:
            self._client.on_user = self._on_user
        if load.kind == "closed":
            for user in range(load.users):
                self._users[user] = (
                    self._source.of("work", self._client.id, "user", user),
                    self._streams.stream("think", self._client.id, user),
                )
                engine.after(self._think(user), self._user_calls, user)
        elif load.kind == "burst":
            self._burst()
        elif load.kind == "trace":
            self._next_of_trace()
        elif self._gap:
            engine.after(self._draw_gap(), self._arrive)

    def _draw_gap(self) -> int:
        if self._is_poisson:
            return int(-_log(1.0 - self._random()) * self._gap + 0.5)
        self._made += 1
        at = self._started_at + round(self._made * self._gap)
        return at - self._engine.now

    def _arrive(self) -> None:
        engine = self._engine
        now = engine.now
        if now >= self._until:
            return
        # By itself, not through `after` and `_draw_gap`: every call comes by here.
        gap = int(-_log(1.0 - self._random()) * self._gap + 0.5) if self._is_poisson else self._draw_gap()
        engine.sequence = sequence = engine.sequence + 1
        heappush(engine.heap, (now + gap, sequence, self._again, ()))
        works = self._next_work()
        if self._client.is_stalled:
            self._client.defer(self._call, works, None)
        else:
            self._call(works, None)

    def _burst(self) -> None:
        if self._engine.now >= self._until:
            return
        for _ in range(self._load.size):
            self._make_call(self._next_work(), None)
        self._engine.after(self._load.period, self._burst)

    def _next_of_trace(self) -> None:
        times = self._load.times
        if self._made < len(times) and times[self._made] < self._until:
            self._engine.at(times[self._made], self._replay)

    def _replay(self) -> None:
        self._made += 1
        self._make_call(self._next_work(), None)
        self._next_of_trace()

    def _make_call(self, works: Works, user: int | None) -> None:
        if self._client.is_stalled:
            self._client.defer(self._call, works, user)
        else:
            self._call(works, user)

    # --- closed loops ----------------------------------------------------------------------------------

    def _think(self, user: int) -> int:
        think = self._load.think
        return 0 if think is None else think.draw(self._users[user][1].random)

    def _user_calls(self, user: int) -> None:
        if self._engine.now < self._until:
            self._make_call(self._users[user][0].next(), user)

    def _user_done(self, user: int, arrived_at: int, code: Code) -> None:
        # Who thinks of nothing and whose calls fail at once would stop the time.
        least = _PATIENCE if self._engine.now == arrived_at else 1
        self._engine.after(max(least, self._think(user)), self._user_calls, user)


class _Request:
    """One user request: who made it, in a closed loop, and how many of its calls are not over."""

    __slots__ = ("has_failed", "left", "user")

    def __init__(self, left: int, user: int | None) -> None:
        self.left = left
        self.user = user
        self.has_failed = False


class FanOut:
    """Makes user requests, each of several calls that begin together (`fanout` of a load).

    A user request is as slow as its slowest call, and has failed where one of its calls has.

    Args:
        client: makes the calls.
        count: how many there are to a request.
        next_work: draws the work of one.
        on_user: called with the user of a closed loop, when the request began and its last status, once it is over.
    """

    def __init__(
        self,
        client: Client,
        count: int,
        next_work: Callable[[], Works],
        *,
        on_user: Callable[[int, int, Code], object],
    ) -> None:
        self._client = client
        self._count = count
        self._next_work = next_work
        self._on_user = on_user
        self._made = 0
        self._requests: dict[int, _Request] = {}

    def call(self, works: Works, user: int | None = None) -> None:
        """Make a request; `works` is of its first call."""
        self._made = number = self._made + 1
        self._requests[number] = _Request(self._count, user)
        self._client.call(works, number)
        for _ in range(self._count - 1):
            self._client.call(self._next_work(), number)

    def over(self, number: int, arrived_at: int, code: Code) -> None:
        """Take in that one of a request's calls has ended."""
        request = self._requests[number]
        request.left -= 1
        request.has_failed |= code is not Code.OK
        if request.left == 0:
            del self._requests[number]
            now = self._client.engine.now
            self._client.tally.user_over(arrived_at, now, has_failed=request.has_failed)
            if request.user is not None:
                self._on_user(request.user, arrived_at, code)
