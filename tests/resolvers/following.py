"""Running a resolver the way healthlb does, and waiting for what it says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from healthlb.resolvers import Endpoint, Resolver

PATIENCE = 10.0  # seconds


class Following:
    """What a resolver has said so far: one tuple of addresses per update, and how it failed."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, ...]] = []
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, resolver: Resolver) -> None:
        self._task = asyncio.create_task(resolver.resolve(self._update))

    async def updated(self, count: int) -> tuple[str, ...]:
        """Wait for that many updates and return the last of them."""
        assert self._task is not None
        async with asyncio.timeout(PATIENCE):
            while len(self.updates) < count:
                self._news.clear()
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait({news, self._task}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if self._task.done():
                    await self._task
        return self.updates[count - 1]

    async def failed(self) -> str:
        """Wait until `resolve` raises and return the text."""
        assert self._task is not None
        async with asyncio.timeout(PATIENCE):
            try:
                await self._task
            except OSError as error:
                return str(error)
        raise AssertionError("resolve returned")

    async def stop(self) -> None:
        assert self._task is not None
        self._task.cancel()
        done, _ = await asyncio.wait({self._task}, timeout=PATIENCE)
        assert done, f"resolve goes on although it was cancelled: {self._task!r} {self._task.get_stack()}"
        with suppress(asyncio.CancelledError, OSError):
            await self._task

    def _update(self, endpoints: Sequence[Endpoint]) -> None:
        self.updates.append(tuple(endpoint.address for endpoint in endpoints))
        self._news.set()


@asynccontextmanager
async def follow(resolver: Resolver) -> AsyncIterator[Following]:
    """Run `resolver.resolve` in a task, cancelled at the end."""
    following = Following()
    following.start(resolver)
    try:
        yield following
    finally:
        await following.stop()
