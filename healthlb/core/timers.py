"""All of a balancer's timers in one heap, so that there is one deadline and no handle to leak.

Theory: an event loop that has stood still wakes up with its timers, and with answers that came in time but could not be
heard. So where a timer is seen late, all wait a moment for what is still in the loop's queues: else a pause of the own
process would look like the silence of everybody else.

The one rule: timers that are due fire in the order of their times, ties in the order they were set.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_LATE = 100_000_000  # nanoseconds, beyond any loop that is merely busy
_MOMENT = 50_000_000


class Timers(Generic[Key]):
    """At most one time per key; setting a key again moves it."""

    def __init__(self) -> None:
        self._live: dict[Key, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, Key]] = []
        self._sequence = 0
        self._held_until = 0

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Key, at: int) -> None:
        """Have `key` fire at `at` (and no longer at any earlier set time)."""
        self._sequence += 1
        self._live[key] = (at, self._sequence)
        heapq.heappush(self._heap, (at, self._sequence, key))
        if len(self._heap) > 2 * len(self._live) + 64:
            self._heap = [(at, sequence, key) for key, (at, sequence) in self._live.items()]
            heapq.heapify(self._heap)

    def cancel(self, key: Key) -> None:
        """Forget `key`; nothing happens where it is not set."""
        self._live.pop(key, None)

    def is_set(self, key: Key) -> bool:
        """Whether `key` will fire."""
        return key in self._live

    @property
    def deadline(self) -> int | None:
        """When the next timer fires, or None."""
        self._drop_stale()
        return max(self._heap[0][0], self._held_until) if self._heap else None

    def hold(self, now: int) -> bool:
        """Put off what is due, where that is seen so late that the loop must have stood still; not twice in a row."""
        self._drop_stale()
        due_at = self._heap[0][0] if self._heap else now
        is_late = now - due_at >= _LATE and due_at > self._held_until
        self._held_until = now + _MOMENT if is_late else 0
        return is_late

    def pop_due(self, now: int) -> Key | None:
        """Remove and return the next key that is due, or None."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now:
            return None
        key = heapq.heappop(self._heap)[2]
        del self._live[key]
        return key

    def _drop_stale(self) -> None:
        while self._heap and self._live.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
