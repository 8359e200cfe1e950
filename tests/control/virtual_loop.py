"""An event loop on virtual time: it never waits, and says so where it would wait for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tests.backends.clients import tasks_of

Result = TypeVar("Result")


class Deadlock(Exception):
    """Nothing is ready and no timer is set: real time would stand still."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Time goes on only when everybody sleeps, and then straight to the next timer."""

    def __init__(self, start: float = 1_000.0) -> None:
        super().__init__()
        self._clock_resolution = 1e-9
        self._now = start
        self._selector = self
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def clock(self) -> int:
        """Virtual nanoseconds."""
        return round(self._now * 1_000_000_000)

    def select(self, timeout: float | None) -> list[Any]:
        """Stand in for the selector: let time pass."""
        if timeout is None:
            raise Deadlock
        self._now += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no files."""

    def _write_to_self(self) -> None:
        """There are no other threads to wake it up."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on a loop of its own; tasks that it leaves behind, and errors nobody took, are its failure."""
    loop = VirtualLoop()
    left: set[asyncio.Task[Any]] = set()
    try:
        result = loop.run_until_complete(main)
        left = tasks_of(loop)
    finally:
        loop.run_until_complete(_end(tasks_of(loop)))
        loop.close()
    assert not left, f"tasks were left behind: {left}"
    assert loop.errors == []
    return result


async def _end(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


async def settle() -> None:
    """Let everything that can happen now happen."""
    for _ in range(20):
        await asyncio.sleep(0)
