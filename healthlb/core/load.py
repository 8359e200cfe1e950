"""What calls write and pickers read: one cell per connection for calls.

The one rule: only counters live here, behind one small lock; everything else in the core is
touched by one event loop only.
"""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from healthlb.core.messages import Endpoint

Lock = AbstractContextManager[Any]

_LOCKS = 16


class Verdict(enum.Enum):
    """What a call that did not end with OK says of its backend."""

    ANSWER = enum.auto()  # it works: the status is the application's own
    STRIKE = enum.auto()  # it does not
    LATE = enum.auto()  # nothing came in time, which may be the deadline's fault


class _PerCall:
    """What every call touches, close together: with thousands of subchannels a pick's cost is that of cache misses."""

    __slots__ = ("_lock", "_on_end", "in_flight", "is_retired", "last_success_at", "successes")


class Load(_PerCall):
    """Counters of one connection for calls. They outlive pickers.

    Args:
        lock: guards them; others may share it. None makes one.

    Attributes:
        in_flight: calls that are under way.
        successes: calls that ended with OK.
        failures: calls that ended otherwise, the caller's own cancellations excepted.
        abandoned: calls that ended in a way that says nothing.
        beaten: calls that were cancelled since a later attempt had its answer first.
        strikes: failures and beaten calls that speak against the backend, the late ones among them.
        lates: strikes for which nothing came in time.
        last_success_at: nanoseconds on the monotonic clock, 0 before the first.
    """

    __slots__ = (
        "_has_probe",
        "_is_probe_for_all",
        "_lates_in_row",
        "_on_idle",
        "_row_since",
        "_strikes_in_row",
        "abandoned",
        "beaten",
        "failures",
        "lates",
        "strikes",
    )

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or threading.RLock()
        self._on_end: Callable[[], None] | None = None
        self._on_idle: Callable[[], None] | None = None
        self._has_probe = self._is_probe_for_all = False
        self._row_since = self._strikes_in_row = self._lates_in_row = 0
        self.is_retired = False
        self.in_flight = 0
        self.successes = 0
        self.failures = 0
        self.abandoned = 0
        self.beaten = 0
        self.strikes = 0
        self.lates = 0
        self.last_success_at = 0

    def start(self) -> bool:
        """Count a call in; False where the connection is gone and the call must pick again."""
        with self._lock:
            if self.is_retired:
                return False
            self.in_flight += 1
        return True

    def succeed(self, now: int) -> None:
        """Count a call out that ended with OK."""
        with self._lock:
            self.in_flight -= 1
            self.successes += 1
            self.last_success_at = now
            on_end = self._on_end
        if on_end:
            on_end()

    def fail(self, verdict: Verdict = Verdict.ANSWER) -> None:
        """Count a call out that ended with another status."""
        with self._lock:
            self.in_flight -= 1
            self.failures += 1
            self._judge(verdict)
            on_end = self._on_end
        if on_end:
            on_end()

    def abandon(self) -> None:
        """Count a call out that says nothing about the backend: its caller cancelled it."""
        with self._lock:
            self.in_flight -= 1
            self.abandoned += 1
            on_end = self._on_end
        if on_end:
            on_end()

    def beat(self) -> None:
        """A later attempt has won against a call that is to be cancelled; `abandon` counts that one out."""
        with self._lock:
            self.beaten += 1
            self._judge(Verdict.LATE)

    def _judge(self, verdict: Verdict) -> None:
        # Successes leave the row alone, so that they cost nothing for it; here it is seen whether there were any.
        if verdict is Verdict.ANSWER or self._row_since != self.successes:
            self._row_since = self.successes
            self._strikes_in_row = self._lates_in_row = 0
        if verdict is not Verdict.ANSWER:
            is_late = verdict is Verdict.LATE
            self.strikes += 1
            self._strikes_in_row += 1
            self.lates += is_late
            self._lates_in_row += is_late

    @property
    def is_full(self) -> bool:
        """Whether a cap keeps further calls out."""
        return False

    @property
    def picks(self) -> int:
        """How many calls were ever started. Not counted but summed up, which spares each call a counter."""
        with self._lock:
            return self.in_flight + self.successes + self.failures + self.abandoned

    @property
    def judged(self) -> int:
        """How many calls say anything of the backend."""
        return self.successes + self.failures + self.beaten

    def row(self) -> tuple[int, int]:
        """Return how many calls in a row have spoken against the backend, and how many of those were late."""
        with self._lock:
            return (self._strikes_in_row, self._lates_in_row) if self._row_since == self.successes else (0, 0)

    def offer_probe(self, on_end: Callable[[], None]) -> None:
        """Have one call taken by `take_probe`, and `on_end` called at each end of a call, from any thread.

        At first it must be one that can be made again, until `open_probe`.
        """
        with self._lock:
            if not self.is_retired:
                self._has_probe, self._is_probe_for_all = True, False
                self._on_end = on_end

    @property
    def has_probe(self) -> bool:
        """Whether a probe is offered that no call has taken."""
        return self._has_probe

    def open_probe(self) -> bool:
        """Have the probe taken by any call; False where it is no news."""
        with self._lock:
            was_open, self._is_probe_for_all = self._is_probe_for_all, True
        return not was_open

    def take_probe(self, is_repeatable: bool) -> bool:
        """Whether this call, which can be made again or cannot, is the probe; True once."""
        if not (self._has_probe and (is_repeatable or self._is_probe_for_all)):
            return False
        with self._lock:
            is_taken, self._has_probe = self._has_probe, False
        return is_taken

    def end_probe(self) -> None:
        """Offer nothing any more."""
        with self._lock:
            if not self.is_retired:
                self._has_probe = False
                self._on_end = None

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Take no more calls once idle, and then call `on_idle`, from whatever thread is last."""
        with self._lock:
            self.is_retired = True
            self._has_probe = False
            if self.in_flight:
                self._on_idle = on_idle
                self._on_end = self._tell_if_idle
                return
        on_idle()

    def _tell_if_idle(self) -> None:
        with self._lock:
            if self.in_flight:
                return
            on_idle, self._on_idle = self._on_idle, None
        if on_idle:
            on_idle()


class Place:
    """One call's place among those that wait: given back by `leave`, or with a call that nobody wants any more."""

    __slots__ = ("_places",)

    def __init__(self, places: dict[int, None]) -> None:
        self._places = places
        places[id(self)] = None

    def leave(self) -> None:
        """Give it back; a second time does nothing."""
        # No lock: the garbage collector may come by here at any moment, in a thread that holds one.
        self._places.pop(id(self), None)

    __del__ = leave


class Crowd:
    """All calls of one channel, counted against its caps; None is no cap.

    Args:
        most_waiting: that may wait at a time.
        most: that may be in flight on all subchannels together.
        most_each: that may be in flight on each.

    Attributes:
        in_flight: calls under way on all subchannels, counted where there is a cap on calls in flight.
    """

    __slots__ = ("_most_waiting", "_next_lock", "_places", "in_flight", "locks", "most", "most_each")

    def __init__(self, most_waiting: int | None, most: int | None, most_each: int | None) -> None:
        # Of a few locks that all share each stays in the cache; and they let the same thread in again, as the garbage
        # collector may run in the middle of a count, and close what it finds.
        self.locks = tuple(threading.RLock() for _ in range(_LOCKS))
        self._next_lock = itertools.cycle(self.locks)
        self.in_flight = 0
        self.most = most
        self.most_each = most_each
        self._most_waiting = most_waiting
        self._places: dict[int, None] = {}

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as may be, on all subchannels together."""
        return self.most is not None and self.in_flight >= self.most

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._places)

    def wait(self) -> Place | None:
        """Return a place among those that wait, None where there is none."""
        with self.locks[0]:
            if self._most_waiting is not None and len(self._places) >= self._most_waiting:
                return None
            return Place(self._places)

    def make_load(self) -> Load:
        """Return the counters of a new connection; they know of the caps where there are any."""
        return Load(next(self._next_lock)) if self.most is self.most_each is None else CappedLoad(self)


class CappedLoad(Load):
    """The same counters where calls in flight are capped. They share one lock, so that no cap is ever exceeded.

    Args:
        crowd: all calls of the channel.
    """

    __slots__ = ("_crowd",)

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd.locks[0])
        self._crowd = crowd

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as may be, here or on all subchannels together."""
        most = self._crowd.most_each
        return self._crowd.is_full or (most is not None and self.in_flight >= most)

    def start(self) -> bool:
        """Count a call in; False where a cap is reached, or the connection is gone."""
        with self._lock:
            if self.is_retired or self.is_full:
                return False
            self.in_flight += 1
            self._crowd.in_flight += 1
        return True

    def succeed(self, now: int) -> None:
        """Count a call out that ended with OK."""
        super().succeed(now)
        self._count_out()

    def fail(self, verdict: Verdict = Verdict.ANSWER) -> None:
        """Count a call out that ended with another status."""
        super().fail(verdict)
        self._count_out()

    def abandon(self) -> None:
        """Count a call out that says nothing about the backend."""
        super().abandon()
        self._count_out()

    def _count_out(self) -> None:
        with self._lock:
            self._crowd.in_flight -= 1

    def take_probe(self, is_repeatable: bool) -> bool:
        """Whether this call is the probe; True once, and not while there is no room for it."""
        return not self.is_full and super().take_probe(is_repeatable)


class Subchannel:
    """What pickers choose: one READY address. Compared by identity.

    Attributes:
        id: its number in the channel; ties are broken by it.
        generation: which of its connections for calls this is.
        endpoint: what the resolver said of it.
        load: its counters.
        share: the part of its weight that it has now; below 1 during slow start.
    """

    __slots__ = ("endpoint", "generation", "id", "load", "share")

    def __init__(
        self, id: int, generation: int, endpoint: Endpoint, load: Load | None = None, share: float = 1.0
    ) -> None:
        self.id = id
        self.generation = generation
        self.endpoint = endpoint
        self.load = load or Load()
        self.share = share

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self.endpoint.address

    @property
    def weight(self) -> float:
        """The endpoint's weight, or a part of it during slow start."""
        return self.endpoint.weight * self.share

    def __repr__(self) -> str:
        return f"<Subchannel {self.id} {self.address}, {self.load.in_flight} in flight>"
