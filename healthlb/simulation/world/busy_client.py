"""A client whose calls cost it processor time, on one thread, as Python's calls do (`cpu` of a client).

Half of a call's cost is due before its first attempt leaves, the other half of each reply before it is
heard. A deadline does not wait for the thread, and what nobody waits for any more costs nothing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from healthlb.core.states import Code
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.link import Attempt
from healthlb.simulation.world.work import Works

# A call to make: its work, its user, and when it came. Or a reply: its attempt and the status.
_Call = tuple[Works, int | None, int]
_Reply = tuple[Attempt, Code]


class BusyClient(Client):
    """A client with one thread, which works on what comes in its order."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._half = self.group.cpu // 2
        self._line: deque[_Call | _Reply] = deque()
        self._work: _Call | _Reply | None = None

    def call(self, works: Works, user: int | None = None, arrived_at: int | None = None) -> None:
        """Make a call once the thread has come to it."""
        self._add((works, user, self.engine.now if arrived_at is None else arrived_at))

    def replied(self, attempt: Attempt, code: Code) -> None:
        """Take in a reply once the client's thread has come to it."""
        self._add((attempt, code))

    def _add(self, item: _Call | _Reply) -> None:
        self._line.append(item)
        if self._work is None:
            self._go_on()

    def _go_on(self) -> None:
        while self._line and self._work is None:
            item = self._line.popleft()
            if self._is_wanted(item):
                self._work = item
                self.engine.after(self._half, self._worked, item)
            else:
                self._do(item)

    def _worked(self, item: _Call | _Reply) -> None:
        self._work = None
        self._do(item)
        self._go_on()

    @property
    def items(self) -> tuple[_Call | _Reply, ...]:
        """What the thread works on, and what waits for it."""
        return (*([] if self._work is None else [self._work]), *self._line)

    def _is_wanted(self, item: _Call | _Reply) -> bool:
        if len(item) == 2:
            return not item[0].is_over
        deadline = self.group.deadline
        return deadline is None or self.engine.now < item[2] + deadline

    def _do(self, item: _Call | _Reply) -> None:
        if len(item) == 2:
            self.hear(*item)
        elif self._is_wanted(item):
            self.make(*item)
        else:
            self.fail_late(*item)

    def make(self, works: Works, user: int | None, arrived_at: int) -> None:
        """The thread has come to a call: begin it."""
        super().call(works, user, arrived_at)

    def hear(self, attempt: Attempt, code: Code) -> None:
        """The thread has come to a reply."""
        super().replied(attempt, code)

    def fail_late(self, _: Works, user: int | None, arrived_at: int) -> None:
        """The thread has come to a call whose time is over."""
        self.called += 1
        self.tally.arrivals[self.tally.bin] += 1
        self.tally.failed(arrived_at, Code.DEADLINE_EXCEEDED)
        if user is not None:
            self.on_user(user, arrived_at, Code.DEADLINE_EXCEEDED)


def unsent(client: Client, since: int) -> int:
    """Return how many calls that a client made at `since` or later wait for its thread."""
    items = client.items if isinstance(client, BusyClient) else ()
    return sum(len(item) == 3 and item[2] >= since for item in items)
