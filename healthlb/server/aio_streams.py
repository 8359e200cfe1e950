"""The handlers of a `grpc.aio.server`, in the two ways in which they are driven: awaited, or iterated over.

grpcio awaits a coroutine function and iterates over an async generator. An interceptor does one of the two whatever it
wraps: OpenTelemetry's and Sentry's iterate. So what a handler returns can do both.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import grpc

from healthlb.server.aio_delivery import LoopCouriers
from healthlb.server.contexts import client_of, peer_of
from healthlb.server.limits import WatchRefused
from healthlb.server.listing import MOST_LISTED, TOO_MANY, list_response
from healthlb.server.registry import Registry, Watcher
from healthlb.server.streams import CLOSING, response


class Responses:
    """The responses of one call, made when it is awaited or iterated over, and not before.

    Awaited, it writes them to the context; iterated over, it yields them.

    Args:
        start: called with a context, returns an async iterator of responses, or an awaitable that writes them to the
            context (or both).
        context: of the call.
    """

    def __init__(self, start: Callable[[Any], Any], context: Any) -> None:
        self._start = start
        self._context = context

    def __await__(self) -> Generator[Any, None, None]:
        return self._write().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        # Of what can do both the iterator is taken: it needs no task of its own.
        return self._iterate()

    async def _write(self) -> None:
        started = self._start(self._context)
        if isinstance(started, Awaitable):
            await started
            return
        async with contextlib.aclosing(started):
            async for message in started:
                await self._context.write(message)

    async def _iterate(self) -> AsyncGenerator[Any, None]:
        messages: asyncio.Queue[Any] = asyncio.Queue()

        async def write(message: Any) -> None:
            await messages.put(message)
            await messages.join()  # It has left, as a context's own `write` promises: an abort may follow.

        started = self._start(_Redirected(self._context, write))
        if hasattr(started, "__aiter__"):
            async with contextlib.aclosing(aiter(started)) as iterator:
                async for message in iterator:
                    yield message
            return
        writing = asyncio.ensure_future(started)
        try:
            while (message := await _next(messages, writing)) is not None:
                yield message
                messages.task_done()
        finally:
            writing.cancel()


class _Redirected:
    """A context whose messages go elsewhere."""

    def __init__(self, context: Any, write: Callable[[Any], Awaitable[None]]) -> None:
        self._context = context
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


async def _next(messages: asyncio.Queue[Any], writing: asyncio.Future[Any]) -> Any:
    """Return the next message, None after the last; raises what the writer raised."""
    waiting = asyncio.ensure_future(messages.get())
    try:
        await asyncio.wait({waiting, writing}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
    finally:
        waiting.cancel()
    if messages.empty():
        writing.result()
        return None
    return messages.get_nowait()


class WatchCall:
    """One Watch on an event loop, to be awaited or iterated over; it registers when that begins.

    There may be tens of thousands, and Python's garbage collector looks at each object of each of them: so this one
    is lean, and has its loop twice.

    Args:
        registry: where to watch.
        couriers: of the servicer.
        name: the service.
        context: of the call.
    """

    __slots__ = ("_context", "_couriers", "_name", "_news", "_registry")

    def __init__(self, registry: Registry, couriers: LoopCouriers, name: str, *, context: Any) -> None:
        self._registry = registry
        self._couriers = couriers
        self._name = name
        self._context = context
        self._news: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        return self._write().__await__()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterate()

    async def _write(self) -> None:
        watcher = await self._begin()
        try:
            while not watcher.is_gone:
                status = watcher.take()
                if status is not None:
                    await self._context.write(response(status))
                elif watcher.is_ended:
                    await self._end(watcher)
                else:
                    await self._wait()
        finally:
            watcher.leave()

    async def _iterate(self) -> AsyncGenerator[Any, None]:
        watcher = await self._begin()
        with contextlib.suppress(Exception):
            # Whoever iterates may forget to close this when the client leaves.
            self._context.add_done_callback(lambda context: watcher.leave())
        try:
            while not watcher.is_gone:
                status = watcher.take()
                if status is not None:
                    yield response(status)
                elif watcher.is_ended:
                    await self._end(watcher)
                else:
                    await self._wait()
        finally:
            watcher.leave()

    async def _begin(self) -> Watcher:
        courier, client = self._couriers.here(), client_of(peer_of(self._context))
        try:
            watcher = self._registry.watch(self._name, client, courier)
        except WatchRefused as error:
            await self._context.abort(grpc.StatusCode[error.code], str(error))
            raise
        watcher.wake = self._wake
        return watcher

    async def _end(self, watcher: Watcher) -> None:
        watcher.leave()
        await self._context.abort(grpc.StatusCode.UNAVAILABLE, CLOSING)

    def _wait(self) -> asyncio.Future[None]:
        self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


async def answer_check(registry: Registry, request: Any, context: Any) -> Any:
    """Answer with the status; NOT_FOUND for a name that was never set."""
    status = registry.get(request.service)
    if status is None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return response(int(status or 0))


async def answer_list(registry: Registry, context: Any) -> Any:
    """Answer with all statuses; RESOURCE_EXHAUSTED for more than 100 services (gRFC A90)."""
    statuses = registry.statuses()
    if len(statuses) > MOST_LISTED:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY)
    return list_response(statuses)
