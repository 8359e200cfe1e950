"""Who sends next: work that waits for a sender thread, in an order that no client can turn against the others.

Clients take turns, each client's work comes in the order in which it arrived, and neither a queue nor a client in it
may hold more than its number of senders at a time.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Protocol

USUAL = 3  # Senders that work at a time.


class Work(Protocol):
    """What waits for a sender."""

    @property
    def client(self) -> str:
        """Who holds the sender meanwhile."""

    def run(self) -> None:
        """Do it; a client may make this take long."""

    def cut_off(self) -> None:
        """Have a `run` under way return; from any thread."""


class FairQueue:
    """Work of many clients. Not thread-safe: the senders' lock guards it.

    Few senders work at a time, more would only fight for the interpreter. One that is slow does not count: most likely
    its client does not read. Where nothing moves at all, twice as many may work with every look.

    Args:
        limit: senders that this queue may hold, slow ones included; at least 1.
        client_limit: senders that one client of it may hold; at least 1.

    Attributes:
        held: senders that it holds.
        stuck_for: looks since work was done last.
    """

    def __init__(self, limit: int, client_limit: int) -> None:
        self._limit = limit
        self._client_limit = client_limit
        self._waiting: OrderedDict[str, deque[Work]] = OrderedDict()
        self._held_by: Counter[str] = Counter()
        self._count = 0
        self._active = 0
        self._width = USUAL
        self.held = 0
        self.stuck_for = 0

    def __len__(self) -> int:
        return self._count

    @property
    def takeable(self) -> int:
        """Work that waits only because no thread is free; at most."""
        return max(0, min(self._count, self._limit - self.held, self._width - self._active))

    def put(self, work: Work) -> None:
        """Add work."""
        self._waiting.setdefault(work.client, deque()).append(work)
        self._count += 1

    def take(self) -> Work | None:
        """Return the work to do next, None where there is none that may be done now; give it back when it is done."""
        if not self.takeable:
            return None
        client = next((client for client in self._waiting if self._held_by[client] < self._client_limit), None)
        if client is None:
            return None
        waiting = self._waiting[client]
        work = waiting.popleft()
        if waiting:
            self._waiting.move_to_end(client)
        else:
            del self._waiting[client]
        self._held_by[client] += 1
        self.held += 1
        self._count -= 1
        self._active += 1
        return work

    def give_back(self, work: Work, *, is_done: bool = True, is_slow: bool = False) -> None:
        """Count a sender as free again; `is_done` unless the work was cut off, `is_slow` where `slow` was called."""
        if is_done:
            self.stuck_for = 0
            self._width = USUAL
        if not is_slow:
            self._active -= 1
        self.held -= 1
        self._held_by[work.client] -= 1
        if not self._held_by[work.client]:
            del self._held_by[work.client]

    def slow(self) -> None:
        """Count a sender as slow; once for each."""
        self._active -= 1

    def look(self) -> None:
        """Note that time has passed."""
        self.stuck_for += 1
        if self._count and self.stuck_for > 1:
            self._width = min(self._limit, 2 * self._width)

    def is_held_up(self, client: str) -> bool:
        """Whether work waits for a sender that `client` holds."""
        is_full = self.held >= self._limit and self._count > 0
        return is_full or (client in self._waiting and self._held_by[client] >= self._client_limit)
