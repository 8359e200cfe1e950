"""A resolver whose list a test changes, in either face and from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from healthlb import Endpoint


class Listed:
    """A resolver of a list of addresses.

    Args:
        addresses: what it says first.
        failures: how often it raises before.
    """

    def __init__(self, addresses: Sequence[str], failures: int = 0) -> None:
        """Say nothing before it is asked."""
        self._addresses = tuple(addresses)
        self._failures = failures
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()

    def set(self, addresses: Sequence[str]) -> None:
        """Say this from now on."""
        self._addresses = tuple(addresses)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._changed.set)

    async def resolve(self, update: Callable[[Sequence[Endpoint]], None]) -> None:
        """See `healthlb.Resolver`."""
        self._loop = asyncio.get_running_loop()
        if self._failures:
            self._failures -= 1
            raise OSError("the directory is down")
        while True:
            update([Endpoint(address) for address in self._addresses])
            await self._changed.wait()
            self._changed.clear()
