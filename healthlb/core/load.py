"""The counters that calls write and pickers read: one object for each connection for calls.

The one rule: only counters live here, each behind a small lock, and any thread may change them. Everything else in the
core is touched by one event loop only.
"""

from __future__ import annotations

import enum
import itertools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from healthlb.core.endpoint import Endpoint
from healthlb.core.shedding import Shedding

Lock = AbstractContextManager[Any]

_LOCKS = 16
# So many failures in a row: of a backend that does half of its work they come about once in a thousand calls.
_ONLY_FAILS = 10


class Verdict(enum.Enum):
    """What a call that ended with an error tells about its backend."""

    ANSWER = enum.auto()  # it works: the status is the application's own
    FAILURE = enum.auto()  # it does not
    LATE = enum.auto()  # nothing came in time, which may be the deadline's fault


class _PerCall:
    """The fields that every call touches, side by side: with thousands of subchannels a pick costs its cache misses."""

    __slots__ = ("_lock", "_on_end", "in_flight", "is_retired", "last_success_at", "successes")


class Load(_PerCall):
    """The counters of one connection for calls. They outlive pickers.

    Args:
        lock: guards the counters; several objects may share one. None makes a new one.

    Attributes:
        in_flight: calls that are under way.
        successes: calls that ended with OK.
        failures: calls that ended with another status, except those that their caller cancelled.
        abandoned: calls whose end says nothing about the backend, as those that their caller cancelled.
        superseded: hedged calls that were cancelled because a later attempt was answered first.
        backend_failures: failed and superseded calls that count against the backend; includes `lates`.
        lates: those of `backend_failures` in which no answer came before the deadline.
        last_success_at: when the last call ended with OK, in nanoseconds on the monotonic clock; 0 before the first.
        is_retired: whether the connection takes no new calls.
    """

    __slots__ = (
        "_failures_in_row",
        "_has_probe",
        "_is_probe_for_all",
        "_lates_in_row",
        "_lost_at",
        "_on_idle",
        "_row_since",
        "abandoned",
        "backend_failures",
        "failures",
        "lates",
        "superseded",
    )

    def __init__(self, lock: Lock | None = None) -> None:
        self._lock = lock or threading.RLock()
        self._on_end: Callable[[], None] | None = None
        self._on_idle: Callable[[], None] | None = None
        self._has_probe = False
        self._is_probe_for_all = False
        self._row_since = 0
        self._lost_at = -1
        self._failures_in_row = 0
        self._lates_in_row = 0
        self.is_retired: bool = False
        self.in_flight: int = 0
        self.successes: int = 0
        self.failures: int = 0
        self.abandoned: int = 0
        self.superseded: int = 0
        self.backend_failures: int = 0
        self.lates: int = 0
        self.last_success_at: int = 0

    def start(self) -> bool:
        """Count a call in. False if the connection takes no new calls; the caller must pick again then."""
        with self._lock:
            if self.is_retired:
                return False
            self.in_flight += 1
        return True

    def succeed(self, now: int) -> None:
        """Count out a call that ended with OK at `now`, in nanoseconds on the monotonic clock."""
        with self._lock:
            self.in_flight -= 1
            self.successes += 1
            self.last_success_at = now
            on_end = self._on_end
        if on_end:
            on_end()

    def fail(self, verdict: Verdict = Verdict.ANSWER) -> None:
        """Count out a call that ended with another status than OK."""
        with self._lock:
            self.in_flight -= 1
            self.failures += 1
            self._judge(verdict)
            on_end = self._on_end
        if on_end:
            on_end()

    def lose(self, began_at: int, now: int) -> None:
        """Count out a call (from, to in ns) that was lost with its connection; in a row, all on it are one failure."""
        with self._lock:
            self.in_flight -= 1
            self.failures += 1
            if began_at > self._lost_at:
                self._lost_at = now
                self._judge(Verdict.FAILURE)
            else:  # no answer either
                self.backend_failures += 1
            on_end = self._on_end
        if on_end:
            on_end()

    def abandon(self) -> None:
        """Count out a call whose end says nothing about the backend, for example because its caller cancelled it."""
        with self._lock:
            self.in_flight -= 1
            self.abandoned += 1
            on_end = self._on_end
        if on_end:
            on_end()

    def supersede(self) -> None:
        """Count against the backend that a later attempt was answered first. `abandon` counts this one out."""
        with self._lock:
            self.superseded += 1
            self._judge(Verdict.LATE)

    def _judge(self, verdict: Verdict) -> None:
        # Successes leave this count alone, so that they cost nothing for it; here it is seen whether there were any.
        if verdict is Verdict.ANSWER or self._row_since != self.successes:
            self._row_since = self.successes
            self._failures_in_row = 0
            self._lates_in_row = 0
        if verdict is not Verdict.ANSWER:
            is_late = verdict is Verdict.LATE
            self.backend_failures += 1
            self._failures_in_row += 1
            self.lates += is_late
            self._lates_in_row += is_late

    @property
    def is_full(self) -> bool:
        """Whether a cap (`Overload`) keeps further calls out."""
        return False

    @property
    def picks(self) -> int:
        """How many calls were ever started. It is a sum of the other counters, so that calls need not count it."""
        with self._lock:
            return self.in_flight + self.successes + self.failures + self.abandoned

    @property
    def judged(self) -> int:
        """How many calls have said whether the backend works: those that succeeded, failed or were superseded."""
        return self.successes + self.failures + self.superseded

    def consecutive_failures(self) -> tuple[int, int]:
        """Return how many of the last calls in a row count against the backend, and how many of those were late."""
        with self._lock:
            return (self._failures_in_row, self._lates_in_row) if self._row_since == self.successes else (0, 0)

    @property
    def only_fails(self) -> bool:
        """Whether the last ten calls failed before their deadlines: it does no work, so retries elsewhere add none."""
        failures, lates = self.consecutive_failures()
        return failures - lates >= _ONLY_FAILS

    def offer_probe(self, on_end: Callable[[], None]) -> None:
        """Let one call through to a subchannel that is ejected (see `take_probe`).

        Until `open_probe`, only a call that may be repeated takes it.

        Args:
            on_end: called at the end of each call on this connection, from any thread.
        """
        with self._lock:
            if not self.is_retired:
                self._has_probe = True
                self._is_probe_for_all = False
                self._on_end = on_end

    @property
    def has_probe(self) -> bool:
        """Whether a probe is offered and no call has taken it yet."""
        return self._has_probe

    def open_probe(self) -> bool:
        """Let any call take the probe, not only one that may be repeated. False if that was so already."""
        with self._lock:
            was_open, self._is_probe_for_all = self._is_probe_for_all, True
        return not was_open

    def take_probe(self, is_repeatable: bool) -> bool:
        """Return True if this call, which may be repeated or not, is the probe; True once for each offer."""
        if not (self._has_probe and (is_repeatable or self._is_probe_for_all)):
            return False
        with self._lock:
            is_taken, self._has_probe = self._has_probe, False
        return is_taken

    def end_probe(self) -> None:
        """Withdraw the probe, and call `on_end` no more."""
        with self._lock:
            if not self.is_retired:
                self._has_probe = False
                self._on_end = None

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Take no new calls, and call `on_idle` once when no call is in flight.

        Args:
            on_idle: called at once if no call is in flight; else from the thread in which the last one ends.
        """
        with self._lock:
            self.is_retired = True
            self._has_probe = False
            if self.in_flight:
                self._on_idle = on_idle
                self._on_end = self._notify_if_idle
                return
        on_idle()

    def _notify_if_idle(self) -> None:
        with self._lock:
            if self.in_flight:
                return
            on_idle, self._on_idle = self._on_idle, None
        if on_idle:
            on_idle()


class WaitingSlot:
    """What a waiting call takes of the limit on those; given back by `leave`, or when the call is garbage-collected."""

    __slots__ = ("_slots",)

    def __init__(self, slots: dict[int, None]) -> None:
        self._slots = slots
        slots[id(self)] = None

    def leave(self) -> None:
        """Give it back; a second time does nothing."""
        # No lock: the garbage collector may come by here at any moment, in a thread that holds one.
        self._slots.pop(id(self), None)

    __del__ = leave


class CallLimiter:
    """The calls of one channel together, counted against the channel's caps (`Overload`).

    Args:
        most_waiting: how many may wait for a subchannel at a time; None for no cap.
        most: how many may be in flight on all subchannels together; None for no cap.
        most_each: how many may be in flight on each subchannel; None for no cap.

    Attributes:
        in_flight: calls under way on all subchannels; counted only if `most` or `most_each` is set.
        is_strained: whether the backends have more work than they can do, so that no call may be sent twice.
        shedding: which part of the calls is refused since some backends hang, None for none.
        shed: how many calls were refused for that.
    """

    __slots__ = (
        "_most_waiting", "_next_lock", "_slots", "in_flight", "is_strained", "locks", "most", "most_each", "shed",
        "shedding",
    )  # fmt: skip

    def __init__(self, most_waiting: int | None, most: int | None, most_each: int | None) -> None:
        # Of a few locks that all share each stays in the cache; and they let the same thread in again, as the garbage
        # collector may run in the middle of a count, and close what it finds.
        self.locks: tuple[Lock, ...] = tuple(threading.RLock() for _ in range(_LOCKS))
        self._next_lock = itertools.cycle(self.locks)
        self.in_flight = 0
        self.is_strained = False
        self.shed = 0
        self.shedding: Shedding | None = None
        self.most: int | None = most
        self.most_each: int | None = most_each
        self._most_waiting = most_waiting
        self._slots: dict[int, None] = {}

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as may be, on all subchannels together."""
        return self.most is not None and self.in_flight >= self.most

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._slots)

    def wait(self) -> WaitingSlot | None:
        """Return a slot for a call that waits, None where all are taken."""
        with self.locks[0]:
            if self._most_waiting is not None and len(self._slots) >= self._most_waiting:
                return None
            return WaitingSlot(self._slots)

    def refuse(self) -> None:
        """Count a call that is refused since some backends hang."""
        with self.locks[0]:
            self.shed += 1

    def make_load(self) -> Load:
        """Return the counters of a new connection: `CappedLoad` if calls in flight are capped, else `Load`."""
        return Load(next(self._next_lock)) if self.most is self.most_each is None else CappedLoad(self)


class CappedLoad(Load):
    """`Load` for channels that cap the calls in flight. All share one lock, so that no cap is ever exceeded.

    Args:
        limiter: of all calls of the channel.
    """

    __slots__ = ("_limiter",)

    def __init__(self, limiter: CallLimiter) -> None:
        super().__init__(limiter.locks[0])
        self._limiter = limiter

    @property
    def is_full(self) -> bool:
        """Whether as many calls are in flight as may be, here or on all subchannels together."""
        most = self._limiter.most_each
        return self._limiter.is_full or (most is not None and self.in_flight >= most)

    def start(self) -> bool:
        """Count a call in; False where a cap is reached, or the connection is gone."""
        with self._lock:
            if self.is_retired or self.is_full:
                return False
            self.in_flight += 1
            self._limiter.in_flight += 1
        return True

    def succeed(self, now: int) -> None:
        """Count a call out that ended with OK."""
        super().succeed(now)
        self._count_out()

    def fail(self, verdict: Verdict = Verdict.ANSWER) -> None:
        """Count a call out that ended with another status."""
        super().fail(verdict)
        self._count_out()

    def lose(self, began_at: int, now: int) -> None:
        """Count a call out whose connection was lost."""
        super().lose(began_at, now)
        self._count_out()

    def abandon(self) -> None:
        """Count a call out that says nothing about the backend."""
        super().abandon()
        self._count_out()

    def _count_out(self) -> None:
        with self._lock:
            self._limiter.in_flight -= 1

    def take_probe(self, is_repeatable: bool) -> bool:
        """Return True if this call is to be the probe; never while a cap is reached. See `Load.take_probe`."""
        return not self.is_full and super().take_probe(is_repeatable)


class Subchannel:
    """A connection to one address that is READY: what pickers choose. Compared by identity.

    Attributes:
        id: its number in the channel, from 1. Ties between subchannels are broken by it.
        generation: the number of its connection for calls; a fresh connection has a higher one.
        load: its counters.
    """

    __slots__ = ("_endpoint", "_share", "generation", "id", "load")

    id: int
    generation: int
    load: Load

    def __init__(
        self, id: int, generation: int, endpoint: Endpoint, load: Load | None = None, share: float = 1.0
    ) -> None:
        self.id = id
        self.generation = generation
        self.load = load or Load()
        self._endpoint = endpoint
        self._share = share

    @property
    def endpoint(self) -> Endpoint:
        """What the resolver last said of it. Pickers are built anew when that changes."""
        return self._endpoint

    @property
    def share(self) -> float:
        """The part of its weight that it has now: 1.0, or less during slow start."""
        return self._share

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self._endpoint.address

    @property
    def weight(self) -> float:
        """The endpoint's weight, or a part of it during slow start."""
        return self._endpoint.weight * self._share

    def __repr__(self) -> str:
        return f"<Subchannel {self.id} {self.address}, {self.load.in_flight} in flight>"


def reweigh(sub: Subchannel, endpoint: Endpoint, share: float) -> None:
    """Set the endpoint and the share of a subchannel.

    Only the core calls this, and it has a new picker built afterwards, so that no picker sees a weight change.
    """
    sub._endpoint = endpoint
    sub._share = share
