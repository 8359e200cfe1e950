"""The health service of a `grpc.aio.server`.

One rule: each Watch waits for its own client only, and `set` for none.
"""

from __future__ import annotations

from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2_grpc

from healthlb.control.monkey_patching import check_server_half
from healthlb.server.aio_delivery import LoopCouriers
from healthlb.server.aio_streams import WatchCall, answer_check, answer_list
from healthlb.server.handlers import Handler, check_server
from healthlb.server.limits import WatchLimits
from healthlb.server.listing import add_servicer
from healthlb.server.registry import Registry


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check, Watch and List of `grpc.health.v1`, a drop-in for `grpc_health.v1.health.aio.HealthServicer`.

    The same as `healthlb.server.HealthServicer`, for a `grpc.aio.server` only. Its methods may be called, and servers
    have it, on any number of event loops; `registry` is for other threads and signal handlers.

    Args:
        limits: what clients may hold.
    """

    def __init__(self, *, limits: WatchLimits | None = None) -> None:
        check_server_half()
        self.registry: Registry = Registry(limits or WatchLimits())
        self._couriers = LoopCouriers(self.registry)
        self.Check = Handler(self.Check, is_async=True)  # type: ignore[method-assign]
        self.List = Handler(self.List, is_async=True)  # type: ignore[method-assign]
        is_native = type(self).Watch is HealthServicer.Watch
        self.Watch = Handler(self.Watch, is_stream=True, is_async=True, is_native=is_native)  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"<aio.HealthServicer {self.registry!r}>"

    def add_to_server(self, server: grpc.aio.Server) -> None:
        """Register Check, Watch and List, the last also where the generated code knows none.

        Raises:
            ConfigError: it is a `grpc.server`. Where grpcio's generated function registers the servicer there, each
                call ends with INTERNAL, and an ERROR is logged.
        """
        check_server(self, server)
        add_servicer(self, server)

    async def set(self, service: str, status: int) -> None:
        """See `healthlb.server.HealthServicer.set`; it waits for nobody.

        Raises:
            ConfigError: the status or the name is not valid, or the name is longer than `WatchLimits.name_length`.
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
        return await answer_check(self.registry, request, context)

    async def List(self, request: Any, context: Any) -> Any:
        """Answer with all statuses; RESOURCE_EXHAUSTED for more than 100 services (gRFC A90)."""
        return await answer_list(self.registry, context)

    def Watch(self, request: Any, context: Any) -> Any:
        """Tell the status and each change, SERVICE_UNKNOWN for a name that was never set (yet).

        Returns:
            What can be awaited, and then writes to the context, or be iterated over.
        """
        return WatchCall(self.registry, self._couriers, request.service, context=context)
