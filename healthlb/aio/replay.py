"""A caller's iterable of requests, sync or async, for as many attempts as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
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
        self._reader: object = None

    def rewind(self) -> bool:
        """End the attempt's reading; return whether another one can send all from the beginning."""
        self._reader = None
        return self._log.is_whole and (self._end is None or isinstance(self._end, StopAsyncIteration))

    def commit(self) -> None:
        """No other attempt will follow."""
        self._log.commit()

    def close(self) -> None:
        """End the read that is under way: nobody wants it any more."""
        if self._reading is not None:
            self._reading.cancel()

    def reader(self) -> AsyncIterator[Any]:
        """Return an iterator for one attempt; it is the only one from now on."""
        self._reader = reader = object()
        return self._read_for(reader)

    async def _read_for(self, reader: object) -> AsyncIterator[Any]:
        index = 0
        while reader is self._reader:
            if index < len(self._log):
                yield self._log.get(index)
                index += 1
            elif isinstance(self._end, StopAsyncIteration):
                return
            elif self._end is not None:
                raise self._end
            elif self._log.is_whole or self._is_reading:
                await self._read()
            else:
                # Nothing will be sent again: what is left is the caller's own.
                async for request in self._rest():
                    yield request
                return

    @property
    def _is_reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    def _rest(self) -> AsyncIterator[Any]:
        if self._iterator is None:
            is_async = isinstance(self._requests, AsyncIterable)
            self._iterator = aiter(self._requests if is_async else _stepwise(self._requests))
        iterator: AsyncIterator[Any] = self._iterator
        return iterator

    async def _read(self) -> None:
        if not self._is_reading:
            self._reading = asyncio.get_running_loop().create_task(self._read_next())
        assert self._reading is not None
        await asyncio.shield(self._reading)

    async def _read_next(self) -> None:
        try:
            self._log.append(await anext(self._rest()))
        except (StopAsyncIteration, Exception) as error:
            self._end = error


async def _stepwise(requests: Iterable[Any]) -> AsyncIterator[Any]:
    for request in requests:
        yield request
