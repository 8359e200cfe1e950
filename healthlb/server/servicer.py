"""The health service of a `grpc.server`, and of a `grpc.aio.server` whose program is not asynchronous yet.

One rule: no lock is held while anything is sent, and no caller of `set` waits for a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.control.monkey_patching import check_server_half
from healthlb.server.aio_delivery import LoopCouriers
from healthlb.server.aio_streams import WatchCall, answer_check, answer_list
from healthlb.server.contexts import client_of, is_aio, peer_of, set_status
from healthlb.server.handlers import Handler, check_server, is_async_code
from healthlb.server.limits import WatchLimits, WatchRefused
from healthlb.server.listing import MOST_LISTED, TOO_MANY, add_servicer, list_response
from healthlb.server.registry import Registry, Watcher
from healthlb.server.senders import Senders
from healthlb.server.streams import BlockingStream, Stream, response

# Where Watches of a `grpc.server` begin: not in the server's pool.
#
# grpcio takes a thread for a call when its headers have come, and has it wait for the request. A client that sends
# headers and no more would hold threads of the server's pool for ever; of these it holds a few, for a moment.


class SenderPool(futures.ThreadPoolExecutor):
    """The senders, as grpcio wants to be given them (`experimental_thread_pool`).

    Args:
        senders: whose threads are used; those of the base class are never started.
    """

    def __init__(self, senders: Senders) -> None:
        super().__init__(1)
        self._senders = senders

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> futures.Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        # grpcio 1.85 passes the event of the call, which has its core object. Without it nobody can be cut off.
        call = next((argument.call for argument in arguments if hasattr(argument, "call")), None)
        start = _Start(call, lambda: function(*arguments, **options))
        self._senders.post(start)
        return start.future


class _Start:
    """A call that waits for its request, and then for its handler, which only registers the Watch."""

    def __init__(self, call: Any, function: Callable[[], Any]) -> None:
        self._call = call
        self._function = function
        self.client = _client(call)
        self.future: futures.Future[Any] = futures.Future()

    def run(self) -> None:
        """See `Work`."""
        self.future.set_running_or_notify_cancel()
        try:
            self.future.set_result(self._function())
        except BaseException as error:
            self.future.set_exception(error)

    def cut_off(self) -> None:
        """See `Work`."""
        if self._call is not None:
            self._call.cancel()


def _client(call: Any) -> str:
    try:
        return client_of(call.peer().decode())
    except Exception:
        return client_of("")


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Check, Watch and List of `grpc.health.v1`, a drop-in for grpcio-health-checking's HealthServicer.

    `""`, the server as a whole, is SERVING until it is set. Register it with grpcio-health-checking's
    `add_HealthServicer_to_server` or with `add_to_server`, on a `grpc.server` or a `grpc.aio.server`.

    Args:
        experimental_non_blocking: False makes every Watch hold a thread of a `grpc.server`'s pool.
        experimental_thread_pool: runs the start of each Watch; None for threads of the servicer's own, which requests
            that never arrive in full cannot hold for long.
        limits: what clients may hold.
    """

    def __init__(
        self,
        experimental_non_blocking: bool = True,
        experimental_thread_pool: futures.ThreadPoolExecutor | None = None,
        *,
        limits: WatchLimits | None = None,
    ) -> None:
        check_server_half()
        self.registry: Registry = Registry(limits or WatchLimits())
        self._senders = Senders(self._fan_out)
        self._couriers = LoopCouriers(self.registry)
        # grpcio-health-checking 1.85.1 sets its attributes on the class's function, where two servicers overwrite each
        # other (P40); so each of ours has handlers of its own, around what a subclass may have made of the methods.
        is_native = type(self).Watch is HealthServicer.Watch
        if experimental_thread_pool is None and experimental_non_blocking and is_native:
            experimental_thread_pool = SenderPool(self._senders)
        self.Check = self._handler(self.Check)  # type: ignore[method-assign]
        self.List = self._handler(self.List)  # type: ignore[method-assign]
        self.Watch = self._handler(  # type: ignore[method-assign]
            self.Watch,
            is_stream=True,
            non_blocking=experimental_non_blocking,
            thread_pool=experimental_thread_pool,
        )

    def __repr__(self) -> str:
        return f"<HealthServicer {self.registry!r}>"

    def add_to_server(self, server: grpc.Server | grpc.aio.Server) -> None:
        """Register Check, Watch and List, the last also where the generated code knows none.

        Raises:
            ConfigError: a subclass has asynchronous methods, and the server is a `grpc.server`.
        """
        check_server(self, server)
        add_servicer(self, server)

    def set(self, service: str, status: int) -> None:
        """Set the status of a service; its watchers hear of it if it changed. Takes microseconds, whoever watches.

        It may be called from any thread, and from a signal handler that interrupts another call of it.

        Args:
            service: the name; `""` is the whole server.
            status: a `HealthCheckResponse.ServingStatus`.

        Raises:
            ConfigError: the status or the name is not valid, or the name is longer than `WatchLimits.name_length`.
        """
        self.registry.set(service, status)

    def get(self, service: str) -> int | None:
        """Return the status that clients see, None for a name that was never set."""
        return self.registry.get(service)

    def enter_graceful_shutdown(self) -> None:
        """Show every service as NOT_SERVING; what is set from now on is not shown, unless `resume` is called.

        From any thread or signal handler, as `set`.
        """
        self.registry.shut_down()

    def resume(self) -> None:
        """Undo `enter_graceful_shutdown` and `close`: every service shows what it was last set to."""
        self.registry.resume()

    def close(self) -> None:
        """Show NOT_SERVING and end every Watch with UNAVAILABLE, so that the server can stop at once (P41).

        Does not wait for it. Check and List go on; a new Watch is refused with UNAVAILABLE.
        """
        self.registry.close()

    def Check(self, request: Any, context: Any) -> Any:
        """Answer with the status; NOT_FOUND for a name that was never set."""
        if is_aio(context):
            return answer_check(self.registry, request, context)
        status = self.registry.get(request.service)
        if status is None:
            set_status(context, grpc.StatusCode.NOT_FOUND, "unknown service")
            return health_pb2.HealthCheckResponse()
        return response(status)

    def List(self, request: Any, context: Any) -> Any:
        """Answer with all statuses; RESOURCE_EXHAUSTED for more than 100 services (gRFC A90)."""
        if is_aio(context):
            return answer_list(self.registry, context)
        statuses = self.registry.statuses()
        if len(statuses) > MOST_LISTED:
            set_status(context, grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY)
            return list_response({})
        return list_response(statuses)

    def Watch(
        self,
        request: Any,
        context: Any,
        send_response_callback: Callable[[Any], None] | None = None,
    ) -> Any:
        """Tell the status and each change, SERVICE_UNKNOWN for a name that was never set (yet)."""
        if is_aio(context):
            return WatchCall(self.registry, self._couriers, request.service, context=context)
        peer = peer_of(context)
        try:
            watcher = self.registry.watch(request.service, client_of(peer), self._senders)
        except WatchRefused as error:
            set_status(context, grpc.StatusCode[error.code], str(error))
            if send_response_callback is not None:
                send_response_callback(None)
            return iter(())
        if send_response_callback is None:
            return self._start_blocking(watcher, context)
        self._start(watcher, peer, context, send_response_callback)
        return None

    def _start(self, watcher: Watcher, peer: str, context: Any, send_response: Callable[[Any], None]) -> None:
        lane = self._senders.lane(peer, watcher.client)
        stream = Stream(watcher, context, send_response, lane=lane)

        def leave() -> None:
            watcher.leave()
            self._senders.leave_lane(lane)

        watcher.wake = stream.offer
        # P38: False says that the call is over, and nobody will call back.
        if context.add_callback(leave) is False:
            leave()
        else:
            stream.offer()

    def _start_blocking(self, watcher: Watcher, context: Any) -> Iterator[Any]:
        stream = BlockingStream(watcher, context)
        self._senders.enter()

        def leave() -> None:
            watcher.leave()
            self._senders.leave()
            stream.offer()

        watcher.wake = stream.offer
        if context.add_callback(leave) is False:
            leave()
        return stream

    def _fan_out(self, name: str) -> None:
        for watcher in self.registry.watchers(name, self._senders):
            watcher.wake()

    def _handler(self, method: Callable[..., Any], **options: Any) -> Handler:
        own = getattr(HealthServicer, method.__name__)
        is_native = getattr(type(self), method.__name__) is own
        return Handler(method, is_async=is_async_code(method), is_native=is_native, **options)
