"""Our health service on a real server in this process, sync or aio, behind one face."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.aio import HealthServicer as AioHealthServicer
from healthlb.server import HealthServicer

KINDS = ("sync", "blocking", "aio")
PATIENCE = 15.0


class Served:
    """A running server with a health service, to be called from any thread.

    Args:
        kind: "sync" and "blocking" are a `grpc.server`, "aio" a `grpc.aio.server`, "hybrid" one with a pool.
        register: instead of the servicer's `add_to_server`: called with the servicer and the server.
        interceptors: of the server.

    Attributes:
        servicer: ours (or whatever was given).
        address: where it listens.
        pool: of the sync or hybrid server.
    """

    def __init__(
        self,
        kind: str = "sync",
        workers: int = 32,
        servicer: Any = None,
        handlers: Sequence[Any] = (),
        register: Callable[[Any, Any], None] | None = None,
        interceptors: Sequence[Any] = (),
        **options: Any,
    ) -> None:
        self.kind = kind
        self._handlers = tuple(handlers)
        self._interceptors = tuple(interceptors)
        self._register = register or (lambda servicer, server: servicer.add_to_server(server))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.pool = futures.ThreadPoolExecutor(workers)
        if kind in ("aio", "hybrid"):
            self._thread.start()
            self.servicer = servicer or AioHealthServicer(**options)
            self.server: Any = self._run(self._start_aio())
        else:
            self.servicer = servicer or HealthServicer(kind != "blocking", **options)
            self.server = self._start()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.servicer, name)
        return (lambda *arguments: self._result(found, *arguments)) if callable(found) else found

    def close_servicer(self) -> None:
        """Call `close` of the health service."""
        self._result(self.servicer.close)

    def timed_sets(self, sets: int, interval: float) -> list[float]:
        """Set "svc" to NOT_SERVING and SERVING in turn; returns the seconds that each `set` took."""
        if self.kind == "aio":
            timed: list[float] = asyncio.run_coroutine_threadsafe(self._timed_sets(sets, interval), self._loop).result()
            return timed
        times = []
        for number in range(sets):
            begun = time.perf_counter()
            self.servicer.set("svc", 1 + (number + 1) % 2)
            times.append(time.perf_counter() - begun)
            time.sleep(interval)
        return times

    async def _timed_sets(self, sets: int, interval: float) -> list[float]:
        times = []
        for number in range(sets):
            begun = time.perf_counter()
            await self.servicer.set("svc", 1 + (number + 1) % 2)
            times.append(time.perf_counter() - begun)
            await asyncio.sleep(interval)
        return times

    def stop(self, grace: float | None = None) -> None:
        """Stop the server and wait until it has stopped."""
        if self._thread.is_alive():
            self._run(self.server.stop(grace))
        else:
            self.server.stop(grace).wait()

    def close(self) -> None:
        """Leave nothing behind."""
        self.stop()
        self.pool.shutdown(wait=False)
        if self._thread.is_alive():
            self._run(self._loop.shutdown_default_executor())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def _start(self) -> grpc.Server:
        server = grpc.server(self.pool, options=[("grpc.so_reuseport", 0)], interceptors=self._interceptors)
        server.add_generic_rpc_handlers(self._handlers)
        self._register(self.servicer, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        return server

    async def _start_aio(self) -> Any:
        pool = self.pool if self.kind == "hybrid" else None
        server = grpc.aio.server(pool, options=[("grpc.so_reuseport", 0)], interceptors=self._interceptors)
        server.add_generic_rpc_handlers(self._handlers)
        self._register(self.servicer, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        return server

    def _result(self, method: Any, *arguments: Any) -> Any:
        if not inspect.iscoroutinefunction(method):
            return method(*arguments)
        return self._run(method(*arguments))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


@contextmanager
def connected(served: Served, *options: tuple[str, Any]) -> Iterator[Any]:
    """A stub on a connection of its own; its `channel` is the channel."""
    with grpc.insecure_channel(served.address, (("grpc.use_local_subchannel_pool", 1), *options)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stub.channel = channel
        yield stub


def request(service: str = "") -> Any:
    """Return a HealthCheckRequest."""
    return health_pb2.HealthCheckRequest(service=service)
