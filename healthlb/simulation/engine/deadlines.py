"""Deadlines of equal length, of things that are mostly over before them.

What is over is forgotten at once. The engine is asked for the first of those that are left, and no more;
else a million deadlines that mean nothing would be kept, and all that hangs on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from healthlb.simulation.engine.engine import Engine

Subject = TypeVar("Subject")


class Deadlines(Generic[Subject]):
    """Of one client and one length. Who is over must be taken out of `live`.

    Args:
        engine: virtual time.
        act: called with each whose time has come; it is out of `live` then.

    Attributes:
        live: when the time of each is over, in nanoseconds; in that order.
        is_armed: whether the engine knows of the first of them. Who puts in one while it does not, calls `arm`.
    """

    __slots__ = ("_act", "_engine", "is_armed", "live")

    def __init__(self, engine: Engine, act: Callable[[Subject], object]) -> None:
        self._engine = engine
        self._act = act
        self.live: dict[Subject, int] = {}
        self.is_armed = False

    def add(self, subject: Subject, at: int) -> None:
        """Put one in that has until `at`, which is not before that of any other."""
        self.live[subject] = at
        if not self.is_armed:
            self.arm(at)

    def arm(self, at: int) -> None:
        """Have the engine call at `at`."""
        self.is_armed = True
        self._engine.at(at, self._due)

    def _due(self) -> None:
        now = self._engine.now
        due = []
        self.is_armed = False
        for subject, at in self.live.items():
            if at > now:
                self.arm(at)
                break
            due.append(subject)
        for subject in due:
            # One may have ended another.
            if self.live.pop(subject, None) is not None:
                self._act(subject)
