"""The two grpcio servers, sync and aio, behind one face, in the server process."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from tests.backends import health
from tests.backends.counters import Counters
from tests.backends.echo import Echo
from tests.backends.echo_aio import AioEcho
from tests.backends.steering import Steering

_BIND_PATIENCE = 10.0  # Seconds; the process that had the port before may still be on its way out.


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the test process asks for, see `tests.backends.Backend`."""

    kind: str
    name: str
    services: list[str]
    status: str | int
    addresses: list[str]
    journal: int
    options: dict[str, Any] = field(default_factory=dict)

    def channel_arguments(self) -> list[tuple[str, Any]]:
        """Return the server's channel arguments."""
        # Without SO_REUSEPORT=0 two servers share a port silently, and a test talks to the wrong one.
        arguments: list[tuple[str, Any]] = [("grpc.so_reuseport", 0)]
        for key in ("max_connection_age_ms", "max_connection_age_grace_ms"):
            if key in self.options:
                arguments.append((f"grpc.{key}", self.options[key]))
        return arguments + [(key, value) for key, value in self.options.get("args", ())]

    def credentials(self) -> grpc.ServerCredentials | None:
        """Return the TLS credentials, or None for plaintext."""
        tls = self.options.get("tls")
        if not tls:
            return None
        key, certificate = Path(tls["key"]).read_bytes(), Path(tls["certificate"]).read_bytes()
        client_ca = Path(tls["client_ca"]).read_bytes() if tls.get("client_ca") else None
        return grpc.ssl_server_credentials([(key, certificate)], client_ca, client_ca is not None)


class Host(ABC):
    """A server that can be started once and stopped once; its methods may be called from any thread."""

    def __init__(self, settings: Settings, steering: Steering, counters: Counters) -> None:
        """Prepare; nothing runs before `start`."""
        self._settings = settings
        self._steering = steering
        self._counters = counters

    @abstractmethod
    def start(self) -> None:
        """Bind every address and serve; raises RuntimeError when a port stays taken."""

    @abstractmethod
    def set(self, service: str, status: str | int) -> None:
        """Set the serving status of a service; raises where the kind has none to set."""

    @abstractmethod
    def stop(self, grace: float | None) -> None:
        """Stop taking calls, give those in flight `grace` seconds, return when all have ended."""

    def _bind(self, server: Any) -> None:
        credentials = self._settings.credentials()
        for address in self._settings.addresses:
            if credentials is None:
                _patiently(lambda: server.add_insecure_port(address))  # noqa: B023 - called before the next turn
            else:
                _patiently(lambda: server.add_secure_port(address, credentials))  # noqa: B023


class SyncHost(Host):
    """`grpc.server`, for every kind but "aio"."""

    def start(self) -> None:
        """See `Host`."""
        settings, key = self._settings, self._settings.options.get("require_metadata")
        self._server = grpc.server(
            futures.ThreadPoolExecutor(settings.options.get("workers", 32)),
            interceptors=[_Doorkeeper(*key)] if key else [],
            options=settings.channel_arguments(),
        )
        self._server.add_generic_rpc_handlers((Echo(self._steering, self._counters).handler(),))
        self._health = self._make_health()
        if self._health is None:
            self._server.add_generic_rpc_handlers((health.CountedAbsence(self._counters),))
        else:
            self._health.add_to(self._server)
            for service in settings.services:
                self._health.set(service, health.number_of(settings.status))
        self._bind(self._server)
        self._server.start()

    def set(self, service: str, status: str | int) -> None:
        """See `Host`."""
        if self._health is None:
            raise ValueError("a backend of kind no_health has no status to set")
        self._health.set(service, health.number_of(status))

    def stop(self, grace: float | None) -> None:
        """See `Host`."""
        self._server.stop(grace).wait()

    def _make_health(self) -> health.CountedHealth | None:
        options, counters = self._settings.options, self._counters
        match self._settings.kind:
            case "no_health":
                return None
            case "hung_check":
                return health.HungCheck(counters)
            case "sync" | "max_age":
                return health.CountedHealth(counters, is_bare=options.get("bare_health", False))
            case odd:
                return health.OddWatch(counters, health.SCRIPTS[odd], options)


class AioHost(Host):
    """`grpc.aio.server` on a loop in a thread of its own."""

    def start(self) -> None:
        """See `Host`."""
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._run(self._start())

    def set(self, service: str, status: str | int) -> None:
        """See `Host`."""
        self._run(self._health.set(service, health.number_of(status)))

    def stop(self, grace: float | None) -> None:
        """See `Host`."""
        self._run(self._server.stop(grace))

    async def _start(self) -> None:
        settings, key = self._settings, self._settings.options.get("require_metadata")
        interceptors = [_AioDoorkeeper(*key)] if key else []
        self._server = grpc.aio.server(interceptors=interceptors, options=settings.channel_arguments())
        self._server.add_generic_rpc_handlers((AioEcho(self._steering, self._counters).handler(),))
        self._health = health.CountedAioHealth(self._counters)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in settings.services:
            await self._health.set(service, health.number_of(settings.status))
        self._bind(self._server)
        await self._server.start()

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _patiently(bind: Callable[[], int]) -> None:
    deadline = time.monotonic() + _BIND_PATIENCE
    while True:
        try:
            bind()
        except RuntimeError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


class _Doorkeeper(grpc.ServerInterceptor):
    """Answers UNAUTHENTICATED to calls without a certain metadatum, health service included."""

    def __init__(self, key: str, value: str) -> None:
        self._wanted = (key, value)

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if self._wanted in _pairs(handler_call_details):
            return continuation(handler_call_details)
        # Of the four arities this one aborts without reading a request first, and on the wire all are alike.
        return grpc.stream_stream_rpc_method_handler(self._deny)

    def _deny(self, requests: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{self._wanted[0]} is missing or wrong")


class _AioDoorkeeper(grpc.aio.ServerInterceptor):
    """The aio twin of `_Doorkeeper`."""

    def __init__(self, key: str, value: str) -> None:
        self._wanted = (key, value)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        if self._wanted in _pairs(handler_call_details):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(self._deny)

    async def _deny(self, requests: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{self._wanted[0]} is missing or wrong")


def _pairs(handler_call_details: Any) -> set[tuple[str, str | bytes]]:
    return {(key, value) for key, value in handler_call_details.invocation_metadata or ()}
