"""All of a balancer's timers in one heap, so that there is one deadline and no handle to leak.

Theory: an event loop that has stood still wakes up with its timers, and with answers that came in time but could not be
heard. So where a timer is seen late, all wait a moment for what is still in the loop's queues: else a pause of the own
process would look like the silence of everybody else.

The one rule: timers that are due fire in the order of their times, ties in the order they were set.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_LATE = 100_000_000  # nanoseconds, beyond any loop that is merely busy
_MOMENT = 50_000_000


class Timers(Generic[Key]):
    """At most one time per key; setting a key again moves it."""

    def __init__(self) -> None:
        self._live: dict[Key, tuple[int, int, Key]] = {}  # the entry of the heap that counts
        self._heap: list[tuple[int, int, Key]] = []
        self._sequence = 0
        self._held_until = 0

    def __len__(self) -> int:
        return len(self._live)

    def set(self, key: Key, at: int) -> None:
        """Have `key` fire at `at` (and no longer at any earlier set time)."""
        self._sequence = sequence = self._sequence + 1
        heap, live = self._heap, self._live
        live[key] = entry = (at, sequence, key)
        heappush(heap, entry)
        if len(heap) > 2 * len(live) + 64:
            heap[:] = live.values()
            heapify(heap)

    def cancel(self, *keys: Key) -> None:
        """Forget these keys; nothing happens where they are not set."""
        for key in keys:
            self._live.pop(key, None)

    def is_set(self, key: Key) -> bool:
        """Whether `key` will fire."""
        return key in self._live

    @property
    def deadline(self) -> int | None:
        """When the next timer fires, or None."""
        heap, live = self._heap, self._live
        while heap:
            first = heap[0]
            if live.get(first[2]) is first:
                return first[0] if first[0] > self._held_until else self._held_until
            heappop(heap)
        return None

    def postpone(self, now: int) -> bool:
        """Put off what is due, where that is seen so late that the loop must have stood still; not twice in a row."""
        heap = self._heap
        is_late = False
        # What was cancelled may be first; what counts is no earlier.
        if heap and now - heap[0][0] >= _LATE and self.deadline is not None:
            due_at = heap[0][0]
            is_late = now - due_at >= _LATE and due_at > self._held_until
        self._held_until = now + _MOMENT if is_late else 0
        return is_late

    def pop_due(self, now: int) -> Key | None:
        """Remove and return the next key that is due, or None."""
        heap, live = self._heap, self._live
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            key = entry[2]
            if live.get(key) is entry:
                del live[key]
                return key
        return None
