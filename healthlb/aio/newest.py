"""The newest answer of a Watch: a reader that is slow misses the older ones."""

from __future__ import annotations

import asyncio

from healthlb.health_client.answer import HealthAnswer


class Newest:
    """Holds one answer between the task that reads a Watch and the one that passes it on."""

    def __init__(self) -> None:
        self._answer: HealthAnswer | None = None
        self._is_over = False
        self._changed = asyncio.Event()

    def put(self, answer: HealthAnswer) -> None:
        """Replace the answer that was not taken, if there is one."""
        self._answer = answer
        self._changed.set()

    def end(self, _: object = None) -> None:
        """Say that no other answer follows."""
        self._is_over = True
        self._changed.set()

    async def take(self) -> HealthAnswer | None:
        """Return the newest answer when there is one, None after the last."""
        while self._answer is None and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        answer, self._answer = self._answer, None
        return answer
