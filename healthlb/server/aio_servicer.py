"""The health service of a `grpc.aio.server`.

The one rule: each Watch waits for its own client only, and `set` for none.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from healthlb.server.limits import WatchLimits, WatchRefused
from healthlb.server.listing import MOST_LISTED, TOO_MANY, add_servicer, list_response
from healthlb.server.registry import Registry, Watcher
from healthlb.server.streams import CLOSING, response


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check, Watch and List of `grpc.health.v1`, a drop-in for `grpc_health.v1.health.aio.HealthServicer`.

    The same as `healthlb.server.HealthServicer`, for a `grpc.aio.server`. Its methods may be called on any event
    loop; `registry` from any thread.

    Args:
        limits: what clients may hold.
    """

    def __init__(self, *, limits: WatchLimits | None = None) -> None:
        self.registry = Registry(self._announce, limits or WatchLimits())
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<aio.HealthServicer {self.registry!r}>"

    def add_to_server(self, server: grpc.aio.Server) -> None:
        """Register Check, Watch and List, the last also where the generated code knows none."""
        add_servicer(self, server)

    async def set(self, service: str, status: int) -> None:
        """See `healthlb.server.HealthServicer.set`; it waits for nobody.

        Raises:
            ConfigError: the name or the status is not valid.
        """
        self.registry.set(service, status)

    def get(self, service: str) -> int | None:
        """Return the status that clients see, None for a name that was never set."""
        return self.registry.get(service)

    async def enter_graceful_shutdown(self) -> None:
        """See `healthlb.server.HealthServicer.enter_graceful_shutdown`."""
        self.registry.shut_down()

    async def resume(self) -> None:
        """See `healthlb.server.HealthServicer.resume`."""
        self.registry.resume()

    async def close(self) -> None:
        """See `healthlb.server.HealthServicer.close`."""
        self.registry.close()

    async def Check(self, request: Any, context: Any) -> Any:
        """Answer with the status; NOT_FOUND for a name that was never set."""
        status = self.registry.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return response(int(status or 0))

    async def List(self, request: Any, context: Any) -> Any:
        """Answer with all statuses; RESOURCE_EXHAUSTED for more than 100 services (gRFC A90)."""
        statuses = self.registry.statuses()
        if len(statuses) > MOST_LISTED:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY)
        return list_response(statuses)

    async def Watch(self, request: Any, context: Any) -> None:
        """Tell the status and each change, SERVICE_UNKNOWN for a name that was never set (yet)."""
        self._loop = asyncio.get_running_loop()
        try:
            watcher = self.registry.watch(request.service, context.peer())
        except WatchRefused as error:
            await context.abort(grpc.StatusCode[error.code], str(error))
            return
        try:
            await self._follow(watcher, context)
        finally:
            watcher.leave()

    async def _follow(self, watcher: Watcher, context: Any) -> None:
        news = asyncio.Event()
        watcher.wake = news.set
        while True:
            news.clear()
            status = watcher.take()
            if status is not None:
                await context.write(response(status))
            elif watcher.is_ended:
                await context.abort(grpc.StatusCode.UNAVAILABLE, CLOSING)
            else:
                await news.wait()

    def _announce(self, name: str) -> None:
        loop = self._loop
        assert loop is not None  # Only what is watched is announced, and each Watch notes its loop before it begins.
        try:
            loop.call_soon_threadsafe(self._fan_out, name)
        except RuntimeError:  # The loop is closed, and its Watches with it.
            self.registry.watchers(name)

    def _fan_out(self, name: str) -> None:
        for watcher in self.registry.watchers(name):
            watcher.wake()
