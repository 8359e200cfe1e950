"""What calls write and pickers read: one cell per connection for calls.

The one rule: only counters live here, behind one small lock; everything else in the core is
touched by one event loop only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from healthlb.core.messages import Endpoint


class Load:
    """Counters of one connection for calls. They outlive pickers.

    Attributes:
        in_flight: calls that are under way.
        picks: calls ever started.
        successes: calls that ended with OK.
        failures: calls that ended otherwise, the caller's own cancellations excepted.
        last_success_at: nanoseconds on the monotonic clock, 0 before the first.
    """

    __slots__ = ("_lock", "_on_idle", "failures", "in_flight", "is_retired", "last_success_at", "picks", "successes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on_idle: Callable[[], None] | None = None
        self.is_retired = False
        self.in_flight = 0
        self.picks = 0
        self.successes = 0
        self.failures = 0
        self.last_success_at = 0

    def start(self) -> bool:
        """Count a call in; False where the connection is gone and the call must pick again."""
        with self._lock:
            if self.is_retired:
                return False
            self.in_flight += 1
            self.picks += 1
        return True

    def succeed(self, now: int) -> None:
        """Count a call out that ended with OK."""
        with self._lock:
            self.in_flight -= 1
            self.successes += 1
            self.last_success_at = now
            on_idle = self._on_idle if not self.in_flight else None
        if on_idle:
            on_idle()

    def fail(self) -> None:
        """Count a call out that ended with another status."""
        self._leave(failures=1)

    def abandon(self) -> None:
        """Count a call out that says nothing about the backend: its caller cancelled it."""
        self._leave(failures=0)

    def retire(self, on_idle: Callable[[], None]) -> None:
        """Take no more calls once idle, and then call `on_idle`, from whatever thread is last."""
        with self._lock:
            self.is_retired = True
            if self.in_flight:
                self._on_idle = on_idle
                return
        on_idle()

    def _leave(self, failures: int) -> None:
        with self._lock:
            self.in_flight -= 1
            self.failures += failures
            on_idle = self._on_idle if not self.in_flight else None
        if on_idle:
            on_idle()


class Subchannel:
    """What pickers choose: one READY address. Compared by identity.

    Attributes:
        id: its number in the channel; ties are broken by it.
        generation: which of its connections for calls this is.
        endpoint: what the resolver said of it.
        load: its counters.
    """

    __slots__ = ("endpoint", "generation", "id", "load")

    def __init__(self, id: int, generation: int, endpoint: Endpoint) -> None:
        self.id = id
        self.generation = generation
        self.endpoint = endpoint
        self.load = Load()

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self.endpoint.address

    @property
    def weight(self) -> float:
        """The endpoint's weight."""
        return self.endpoint.weight

    def __repr__(self) -> str:
        return f"<Subchannel {self.id} {self.address}, {self.load.in_flight} in flight>"
