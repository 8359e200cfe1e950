"""The ways between clients and servers.

What is said on a way arrives in the order in which it was said, if at all.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush

from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.scenario.scenario import SECOND

# Linux sends data again after 200 ms at first; that doubles.
_FIRST_AGAIN = SECOND // 5

Act = Callable[..., object]


class Path:
    """The way between one client and one server.

    Args:
        engine: virtual time.
        delay: nanoseconds one way.
        jitter: each message takes longer by up to this.
        draw: where the jitter comes from.

    Attributes:
        is_plain: whether all takes `delay` and nothing else is to be looked at.
        cuts: by how many faults it is cut.
    """

    __slots__ = ("_down_at", "_draw", "_held", "_jitter", "_up_at", "cuts", "delay", "engine", "is_plain")

    def __init__(self, engine: Engine, delay: int, jitter: int, *, draw: Callable[[], float] | None) -> None:
        self.engine = engine
        self.delay = delay
        self.cuts = 0
        self.is_plain = not jitter
        self._jitter = jitter
        self._draw = draw
        self._held: list[tuple[int, bool, Act, tuple[object, ...]]] = []
        self._up_at = self._down_at = 0

    def up(self, act: Act, *arguments: object) -> None:
        """Call `act(*arguments)` at the server, when the message has arrived there."""
        if self.is_plain:
            engine = self.engine
            engine.sequence = sequence = engine.sequence + 1
            heappush(engine.heap, (engine.now + self.delay, sequence, act, arguments))
        else:
            self._send(True, act, arguments)

    def down(self, act: Act, *arguments: object) -> None:
        """Call `act(*arguments)` at the client, when the message has arrived there."""
        if self.is_plain:
            engine = self.engine
            engine.sequence = sequence = engine.sequence + 1
            heappush(engine.heap, (engine.now + self.delay, sequence, act, arguments))
        else:
            self._send(False, act, arguments)

    def _send(self, is_up: bool, act: Act, arguments: tuple[object, ...]) -> None:
        now = self.engine.now
        if self.cuts:
            self._held.append((now, is_up, act, arguments))
            return
        at = now + self.delay
        if self._draw is not None:
            at += int(self._jitter * self._draw())
        if is_up:
            self._up_at = at = max(at, self._up_at)
        else:
            self._down_at = at = max(at, self._down_at)
        self.engine.at(at, act, *arguments)

    def cut(self) -> None:
        """Let nothing through from now on."""
        self.cuts += 1
        self.is_plain = False

    def heal(self) -> None:
        """Take one cut back; once there is none, TCP sends again what was held, each end in its own time."""
        self.cuts -= 1
        if self.cuts:
            return
        held, self._held = self._held, []
        for is_up in (True, False):
            mine = [one for one in held if one[1] is is_up]
            if not mine:
                continue
            at = _sent_again(mine[0][0], self.engine.now) + self.delay
            if is_up:
                self._up_at = at
            else:
                self._down_at = at
            for _, _, act, arguments in mine:
                self.engine.at(at, act, *arguments)
        self.engine.at(max(self._up_at, self._down_at), self._settle)

    def _settle(self) -> None:
        is_late = max(self._up_at, self._down_at) > self.engine.now
        self.is_plain = not (self.cuts or is_late or self._draw is not None)


def _sent_again(since: int, now: int) -> int:
    """Return when TCP sends again, at `now` or later, what it has sent at `since` in vain."""
    wait, at = _FIRST_AGAIN, since
    while at < now:
        at += wait
        wait *= 2
    return at
