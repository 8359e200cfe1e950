"""The health services of the test servers: grpcio's own, with counters, and broken ones by kind.

One rule: no Watch holds a worker thread, so a server with four workers can be watched by hundreds.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.backends.counters import Counters

Send = Callable[[Any], None]
_HUNG_CHECKS = 1000  # Each hung Check holds a thread of its own pool until its client gives up.


def number_of(status: str | int) -> int:
    """Return the number of a serving status; numbers pass through, known or not."""
    return status if isinstance(status, int) else int(health_pb2.HealthCheckResponse.ServingStatus.Value(status))


class CountedHealth(health.HealthServicer):  # type: ignore[misc]
    """grpcio's HealthServicer (non-blocking), counted.

    Unless `is_bare`, statuses leave through a thread of their own: grpcio-health-checking 1.85.1 holds its lock while
    it sends, and a Watch that ends in that moment then hangs the whole server. Order and content stay the same.
    """

    def __init__(self, counters: Counters, is_bare: bool = False) -> None:
        """Count in `counters`; `is_bare` leaves grpcio's servicer with its deadlock."""
        super().__init__(experimental_non_blocking=True)
        self._counters = counters
        self._outbox: queue.SimpleQueue[tuple[Send, Any]] | None = None if is_bare else queue.SimpleQueue()
        if self._outbox is not None:
            threading.Thread(target=self._deliver, args=(self._outbox,), daemon=True).start()

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer as grpcio does."""
        self._counters.checked(context.invocation_metadata(), context.peer())
        return super().Check(request, context)

    def Watch(self, request: Any, context: grpc.ServicerContext, send_response_callback: Send | None = None) -> Any:
        """Watch as grpcio does."""
        assert send_response_callback is not None  # grpcio passes it to every non-blocking handler
        self.count_watch(request, context)
        return super().Watch(request, context, self._decoupled(send_response_callback))

    def add_to(self, server: grpc.Server) -> None:
        """Register with the server."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def count_watch(self, request: Any, context: grpc.ServicerContext) -> None:
        """Count a Watch until it ends."""
        self._counters.watch_started(request.service, context.invocation_metadata(), context.peer())
        if not context.add_callback(self._counters.watch_ended):
            self._counters.watch_ended()

    def _decoupled(self, send: Send) -> Send:
        outbox = self._outbox
        return send if outbox is None else lambda response: outbox.put((send, response))

    @staticmethod
    def _deliver(outbox: queue.SimpleQueue[tuple[Send, Any]]) -> None:
        while True:
            send, response = outbox.get()
            send(response)


class HungCheck(CountedHealth):
    """Watch works, Check never answers."""

    def __init__(self, counters: Counters, is_bare: bool = False) -> None:
        """Give Check a pool of its own, or hung ones would eat the server's workers."""
        super().__init__(counters, is_bare)
        pool = futures.ThreadPoolExecutor(_HUNG_CHECKS)
        type(self).Check.experimental_thread_pool = pool  # type: ignore[attr-defined]

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Wait until the client has gone."""
        gone = threading.Event()
        if context.add_callback(gone.set):
            self._counters.checked(context.invocation_metadata(), context.peer())
            gone.wait()
        return health_pb2.HealthCheckResponse()


class OddWatch(CountedHealth):
    """Check works, Watch does as a script says; the scripts are the functions named `watch_...` below."""

    def __init__(self, counters: Counters, script: Script, options: Mapping[str, Any]) -> None:
        """Run `script` at the start of every Watch."""
        super().__init__(counters)
        self._script = script
        self.options = options
        self.status = number_of("SERVING")
        self._watchers_lock = threading.Lock()
        self._watchers: list[Send] = []

    def add_to(self, server: grpc.Server) -> None:
        """Register with the server; Watch speaks bytes, so that it can speak nonsense."""
        request, response = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        handlers = {
            "Check": grpc.unary_unary_rpc_method_handler(self.Check, request, response),
            "Watch": grpc.unary_stream_rpc_method_handler(self.Watch, request),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(health.SERVICE_NAME, handlers),))

    def Watch(self, request: Any, context: grpc.ServicerContext, send_response_callback: Send | None = None) -> Any:
        """Run the script."""
        assert send_response_callback is not None
        self.count_watch(request, context)
        self._script(self, context, self._decoupled(send_response_callback))

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]

    def set(self, service: str, status: int) -> None:
        """Set what Check and later Watches say, and tell the Watches that listen."""
        super().set(service, status)
        self.status = status
        with self._watchers_lock:
            for send in self._watchers:
                send(encoded(status))

    def listen(self, context: grpc.ServicerContext, send: Send) -> None:
        """Pass later statuses to this Watch until it ends."""
        with self._watchers_lock:
            self._watchers.append(send)
        if not context.add_callback(lambda: self._forget(send)):
            self._forget(send)

    def _forget(self, send: Send) -> None:
        with self._watchers_lock:
            self._watchers.remove(send)


Script = Callable[[OddWatch, grpc.ServicerContext, Send], None]


def encoded(status: int) -> bytes:
    """Return a HealthCheckResponse with this status, which may be a number the enum lacks."""
    response: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return response


def watch_silent(servicer: OddWatch, context: grpc.ServicerContext, send: Send) -> None:
    """Say nothing, for ever."""


def watch_answer_once(servicer: OddWatch, context: grpc.ServicerContext, send: Send) -> None:
    """Say the status and end with OK."""
    send(encoded(servicer.status))
    send(None)


def watch_error(servicer: OddWatch, context: grpc.ServicerContext, send: Send) -> None:
    """Say the status as often as asked, then fail, at once or later."""

    def fail() -> None:
        context.set_code(grpc.StatusCode[servicer.options.get("code", "INTERNAL")])
        context.set_details("this Watch was told to fail")
        send(None)

    for _ in range(servicer.options.get("messages", 0)):
        send(encoded(servicer.status))
    after = servicer.options.get("after", 0.0)
    if after:
        timer = threading.Timer(after, fail)
        timer.daemon = True
        timer.start()
    else:
        fail()


def watch_garbage(servicer: OddWatch, context: grpc.ServicerContext, send: Send) -> None:
    """Send what is no HealthCheckResponse and stay open."""
    send(b"\xff\xff\xff\xff")


def watch_scripted(servicer: OddWatch, context: grpc.ServicerContext, send: Send) -> None:
    """Send the statuses asked for and stay open for more."""
    servicer.listen(context, send)
    for status in servicer.options.get("statuses", ()):
        send(encoded(number_of(status)))


SCRIPTS: Mapping[str, Script] = {
    "silent_watch": watch_silent,
    "answer_once": watch_answer_once,
    "watch_error": watch_error,
    "garbage": watch_garbage,
    "scripted_watch": watch_scripted,
}


class CountedAioHealth(health.aio.HealthServicer):  # type: ignore[misc]
    """grpcio's HealthServicer for `grpc.aio.server`, counted."""

    def __init__(self, counters: Counters) -> None:
        """Count in `counters`."""
        super().__init__()
        self._counters = counters

    async def Check(self, request: Any, context: Any) -> Any:
        """Answer as grpcio does."""
        self._counters.checked(context.invocation_metadata() or (), context.peer())
        return await super().Check(request, context)

    async def Watch(self, request: Any, context: Any) -> None:
        """Watch as grpcio does."""
        self._counters.watch_started(request.service, context.invocation_metadata() or (), context.peer())
        try:
            await super().Watch(request, context)
        finally:
            self._counters.watch_ended()


class CountedAbsence(grpc.GenericRpcHandler):
    """No health service, which is UNIMPLEMENTED, but the attempts are counted."""

    def __init__(self, counters: Counters) -> None:
        """Count in `counters`."""
        self._counters = counters

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
        """Count and decline."""
        metadata: Any = handler_call_details.invocation_metadata
        match handler_call_details.method:
            case "/grpc.health.v1.Health/Watch":
                self._counters.watch_started("", metadata, "")
                self._counters.watch_ended()
            case "/grpc.health.v1.Health/Check":
                self._counters.checked(metadata, "")
