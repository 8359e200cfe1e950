"""Virtual time: a heap of things to do, in integer nanoseconds.

The order is total. What is due first is done first, and what is due at the same time in the order it was
asked for; so the same program with the same random streams does the same to the nanosecond, everywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Act = Callable[..., object]
Entry = tuple[int, int, Act, tuple[Any, ...]]
_LAST = 1 << 62


class Engine:
    """Runs callbacks at their times. Nothing is cancelled: who is called looks whether it is still wanted.

    Attributes:
        now: the present time, in nanoseconds from the beginning.
        events: how many callbacks were run.
        heap: what is to be done: time, sequence, whom to call, and with what. The few places through which every call
            goes push by themselves, since a call of `after` costs as much as the push.
        sequence: how often something was asked for.
    """

    __slots__ = ("_ready", "events", "heap", "now", "sequence")

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self.sequence = 0
        self.heap: list[Entry] = []
        self._ready: deque[Entry] = deque()  # what is due now, in its order, which no heap has to find

    def at(self, time: int, act: Act, *arguments: object) -> None:
        """Have `act(*arguments)` called at `time`, at the earliest now."""
        self.sequence = sequence = self.sequence + 1
        heappush(self.heap, (time if time > self.now else self.now, sequence, act, arguments))

    def first(self, time: int, act: Act) -> None:
        """Have `act()` called at `time`, before all else that is due then; one for each time."""
        heappush(self.heap, (time, 0, act, ()))

    def after(self, delay: int, act: Act, *arguments: object) -> None:
        """Have `act(*arguments)` called `delay` nanoseconds from now."""
        self.sequence = sequence = self.sequence + 1
        heappush(self.heap, (self.now + delay, sequence, act, arguments))

    def soon(self, act: Act, arguments: tuple[Any, ...]) -> None:
        """Have `act(*arguments)` called now, after all that is due already."""
        self.sequence = sequence = self.sequence + 1
        self._ready.append((self.now, sequence, act, arguments))

    def run(self, until: int) -> None:
        """Do what is due up to and including `until`, and make it the present time."""
        heap, ready = self.heap, self._ready
        pop, pop_ready = heappop, ready.popleft
        events = 0

        def stop() -> None:
            """Mark the end, so that no other look at the heap is needed."""

        heappush(heap, (until, _LAST, stop, ()))
        while True:
            time, _, act, arguments = pop_ready() if ready and ready[0] < heap[0] else pop(heap)
            if act is stop:
                break
            self.now = time
            act(*arguments)
            events += 1
        self.now = max(self.now, until)
        self.events += events
