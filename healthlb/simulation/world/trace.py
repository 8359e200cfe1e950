"""The trace of a run, as text and as a hash of it.

What is in it depends on the world alone: no address of an object, no order of a set, no clock. So the
same scenario, policy and seed give the same hash, on every Python and in every process.
"""

from __future__ import annotations

import hashlib

from healthlb.core.facts import Fact
from healthlb.core.states import Code
from healthlb.simulation.world.client import Client
from healthlb.simulation.world.link import Attempt, ServerPort

_BATCH = 4096

FACTS, CALLS, TEXT = 1, 2, 3


class Trace:
    """Takes what happens.

    Args:
        level: 1 for facts and faults, 2 for picks and completions too, 3 to keep the text besides.

    Attributes:
        lines: of the text, where it is kept.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.lines: list[str] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._waiting: list[str] = []

    def _add(self, line: str) -> None:
        self._waiting.append(line)
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._waiting.append("")
            self._hash.update("\n".join(self._waiting).encode())
            self._waiting.pop()
            if self.level >= TEXT:
                self.lines += self._waiting
            self._waiting.clear()

    def picked(self, now: int, client: Client, attempt: Attempt, server: ServerPort) -> None:
        """An attempt is sent."""
        self._add(f"{now} {client.id} pick {attempt.number}.{attempt.start.attempt} {server.name}")

    def ended(self, now: int, client: Client, number: int, code: Code) -> None:
        """A call is over."""
        self._add(f"{now} {client.id} end {number} {code.name}")

    def reported(self, client: Client, fact: Fact) -> None:
        """A client's core reports."""
        self._add(f"{fact.at} {client.id} {fact!r}")

    def fault(self, now: int, what: str) -> None:
        """Something goes wrong, or is mended."""
        self._add(f"{now} {what}")

    @property
    def digest(self) -> str:
        """The hash of all that was taken so far."""
        self._flush()
        return self._hash.hexdigest()
