"""A caller's iterable of requests, sync or async, for as many attempts as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from healthlb.control.replay import RequestLog


class AsyncReplay:
    """Reads the caller's iterable no further than an attempt asks.

    An attempt that ends cancels whoever reads for it; the read itself goes on for the next attempt, since a
    cancelled async generator would be over.

    Args:
        requests: an iterable or an async iterable.
        limit: bytes that are kept.
    """

    def __init__(self, requests: Any, limit: int) -> None:
        self._requests = requests
        self._iterator: Any = None
        self._log = RequestLog(limit)
        self._end: BaseException | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether another attempt can send it from its beginning."""
        return self._log.is_whole

    def commit(self) -> None:
        """No other attempt will follow."""
        self._log.commit()

    async def reader(self) -> AsyncIterator[Any]:
        """Yield the requests for one attempt."""
        index = 0
        while True:
            while index >= len(self._log):
                if self._end is not None:
                    if isinstance(self._end, StopAsyncIteration):
                        return
                    raise self._end
                await self._read()
            yield self._log.get(index)
            index += 1

    async def _read(self) -> None:
        if not isinstance(self._requests, AsyncIterable):
            self._read_now()
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read_next())
        await asyncio.shield(self._reading)

    def _read_now(self) -> None:
        try:
            if self._iterator is None:
                self._iterator = iter(self._requests)
            self._log.append(next(self._iterator))
        except StopIteration:
            self._end = StopAsyncIteration()
        except Exception as error:
            self._end = error

    async def _read_next(self) -> None:
        try:
            if self._iterator is None:
                self._iterator = aiter(self._requests)
            self._log.append(await anext(self._iterator))
        except (StopAsyncIteration, Exception) as error:
            self._end = error
