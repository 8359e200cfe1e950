"""The health service of a `grpc.server`.

The one rule: no lock is held while anything is sent, and no caller of `set` waits for a client.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.server.limits import WatchLimits, WatchRefused
from healthlb.server.listing import MOST_LISTED, TOO_MANY, add_servicer, list_response
from healthlb.server.registry import Registry, Watcher
from healthlb.server.senders import Senders
from healthlb.server.streams import BlockingStream, Stream, response


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check, Watch and List of `grpc.health.v1`, a drop-in for grpcio-health-checking's HealthServicer.

    `""`, the server as a whole, is SERVING until it is set. Register it with grpcio-health-checking's
    `add_HealthServicer_to_server` or with `add_to_server`.

    Args:
        experimental_non_blocking: False makes every Watch hold a thread of the server's pool.
        experimental_thread_pool: runs the start of each Watch instead of the server's pool.
        limits: what clients may hold.
    """

    def __init__(
        self,
        experimental_non_blocking: bool = True,
        experimental_thread_pool: futures.ThreadPoolExecutor | None = None,
        *,
        limits: WatchLimits | None = None,
    ) -> None:
        self._senders = Senders(self._fan_out)
        self.registry = Registry(self._senders.announce, limits or WatchLimits())
        # grpcio-health-checking 1.85.1 sets these on the class's function, where two servicers overwrite each other
        # (P40); so each of ours has a function of its own, around what a subclass may have made of Watch.
        watch = functools.partial(self.Watch)
        watch.experimental_non_blocking = experimental_non_blocking  # type: ignore[attr-defined]
        watch.experimental_thread_pool = experimental_thread_pool  # type: ignore[attr-defined]
        self.Watch = watch  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"<HealthServicer {self.registry!r}>"

    def add_to_server(self, server: grpc.Server) -> None:
        """Register Check, Watch and List, the last also where the generated code knows none."""
        add_servicer(self, server)

    def set(self, service: str, status: int) -> None:
        """Set the status of a service; its watchers hear of it if it changed. Takes microseconds, whoever watches.

        Args:
            service: the name; `""` is the whole server.
            status: a `HealthCheckResponse.ServingStatus`.

        Raises:
            ConfigError: the name or the status is not valid.
        """
        self.registry.set(service, status)

    def get(self, service: str) -> int | None:
        """Return the status that clients see, None for a name that was never set."""
        return self.registry.get(service)

    def enter_graceful_shutdown(self) -> None:
        """Show every service as NOT_SERVING; what is set from now on is not shown, unless `resume` is called."""
        self.registry.shut_down()

    def resume(self) -> None:
        """Undo `enter_graceful_shutdown` and `close`: every service shows what it was last set to."""
        self.registry.resume()

    def close(self) -> None:
        """Show NOT_SERVING and end every Watch with UNAVAILABLE, so that the server can stop at once (P41).

        Does not wait for it. Check and List go on; a new Watch is refused with UNAVAILABLE.
        """
        self.registry.close()

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer with the status; NOT_FOUND for a name that was never set."""
        status = self.registry.get(request.service)
        if status is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("unknown service")
            return health_pb2.HealthCheckResponse()
        return response(status)

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer with all statuses; RESOURCE_EXHAUSTED for more than 100 services (gRFC A90)."""
        statuses = self.registry.statuses()
        if len(statuses) > MOST_LISTED:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY)
        return list_response(statuses)

    def Watch(
        self,
        request: Any,
        context: grpc.ServicerContext,
        send_response_callback: Callable[[Any], None] | None = None,
    ) -> Any:
        """Tell the status and each change, SERVICE_UNKNOWN for a name that was never set (yet)."""
        try:
            watcher = self.registry.watch(request.service, context.peer())
        except WatchRefused as error:
            context.abort(grpc.StatusCode[error.code], str(error))
        if send_response_callback is None:
            return self._start_blocking(watcher, context)
        self._start(watcher, context, send_response_callback)
        return None

    def _start(self, watcher: Watcher, context: grpc.ServicerContext, send_response: Callable[[Any], None]) -> None:
        peer = context.peer()
        stream = Stream(watcher, context, send_response, self._senders.lane(peer))

        def leave() -> None:
            watcher.leave()
            self._senders.leave_lane(peer)

        watcher.wake = stream.offer
        # P38: False says that the call is over, and nobody will call back.
        if context.add_callback(leave):
            stream.offer()
        else:
            leave()

    def _start_blocking(self, watcher: Watcher, context: grpc.ServicerContext) -> BlockingStream:
        stream = BlockingStream(watcher, context)
        self._senders.start()

        def leave() -> None:
            watcher.leave()
            stream.offer()

        watcher.wake = stream.offer
        if not context.add_callback(leave):
            leave()
        return stream

    def _fan_out(self, name: str) -> None:
        for watcher in self.registry.watchers(name):
            watcher.wake()
