"""A backend for tests: a real gRPC server whose health and answers the test sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.core.messages import ServingStatus
from healthlb.errors import ConfigError

_WORKERS = 8


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """A call that a `FakeBackend` has answered.

    Attributes:
        method: its full name, as `"/shop.Cart/Get"`.
        request: the first request message, serialized; None where there was none.
        metadata: what came with it.
    """

    method: str
    request: bytes | None
    metadata: tuple[tuple[str, str | bytes], ...]


class FakeBackend:
    """A gRPC server in this process, on a free port of 127.0.0.1, with a health service and answers that a test sets.

    It serves from its construction on, for sync and asyncio clients, and may be a context manager.

    Args:
        services: names that are SERVING from the start; `""`, the server as a whole, always is.
        register: called with each new `grpc.Server`, to add servicers of your own, as
            `functools.partial(add_CartServicer_to_server, Cart())` does.

    Attributes:
        address: `"127.0.0.1:PORT"`; the same after `stop` and `start`.
        calls: the calls that answers were set for, in the order in which they came.

    Raises:
        ModuleNotFoundError: the extra `server` is not installed.
    """

    def __init__(self, *services: str, register: Callable[[grpc.Server], object] | None = None) -> None:
        self._statuses = dict.fromkeys(("", *services), ServingStatus.SERVING)
        self._register = register
        self._answers: dict[str, Callable[[bytes | None, grpc.ServicerContext], Any]] = {}
        self.calls: list[ReceivedCall] = []
        self.address: str = "127.0.0.1:0"
        self._server: grpc.Server | None = None
        self.start()

    def start(self) -> None:
        """Serve again after `stop`, at the same address and with the same health and answers."""
        from healthlb.server import HealthServicer  # here, since pickers are tested without the extra

        if self._server is not None:
            return
        server = grpc.server(
            futures.ThreadPoolExecutor(_WORKERS), [_Answers(self._handler)], options=[("grpc.so_reuseport", 0)]
        )
        self._health = HealthServicer()
        self._health.add_to_server(server)
        for service, status in self._statuses.items():
            self._health.set(service, status)
        if self._register is not None:
            self._register(server)
        port = server.add_insecure_port(self.address)
        server.start()
        self.address = f"127.0.0.1:{port}"
        self._server = server

    def stop(self) -> None:
        """Stop at once: calls under way fail, and new connections are refused until `start`."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(None).wait()
            self._health.close()

    def close(self) -> None:
        """Stop for good."""
        self.stop()

    def __enter__(self) -> FakeBackend:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def set_health(self, status: str, service: str | None = None) -> None:
        """Set a serving status; clients hear of it at once.

        Args:
            status: `"SERVING"`, `"NOT_SERVING"` or `"UNKNOWN"`.
            service: None sets those of all services, `""` included.

        Raises:
            ConfigError: there is no such status.
        """
        if status not in ("SERVING", "NOT_SERVING", "UNKNOWN"):
            raise ConfigError(f"status must be 'SERVING', 'NOT_SERVING' or 'UNKNOWN', not {status!r}")
        for name in tuple(self._statuses) if service is None else (service,):
            self._statuses[name] = ServingStatus[status]
            self._health.set(name, ServingStatus[status])

    def answer(self, method: str, reply: Any) -> None:
        """Answer all further calls of a method.

        Args:
            method: its full name, as `"/shop.Cart/Get"`.
            reply: a response message, or its bytes; for a method that returns a stream, a list of them. Or a function
                that is called with the request's bytes and the `grpc.ServicerContext`, and returns one of these.

        Raises:
            ConfigError: `method` is no full name.
        """
        if not isinstance(method, str) or not method.startswith("/") or method.count("/") != 2:
            raise ConfigError(f"method must be a full name like '/shop.Cart/Get', not {method!r}")
        self._answers[method] = reply if callable(reply) else lambda request, context: reply

    def fail(self, method: str, code: grpc.StatusCode, details: str = "") -> None:
        """Let all further calls of a method fail with this status."""
        self.answer(method, lambda request, context: context.abort(code, details))

    def _handler(self, method: str) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return what answers a call; None leaves it to the servicers that `register` added."""
        if method not in self._answers:
            return None

        def respond(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            # On the wire any method is a stream of requests and a stream of responses.
            request = next(requests, None)
            metadata = tuple((pair[0], pair[1]) for pair in context.invocation_metadata())
            self.calls.append(ReceivedCall(method, request, metadata))
            return map(_encode, _listed(self._answers[method](request, context)))

        return grpc.stream_stream_rpc_method_handler(respond)


class _Answers(grpc.GenericRpcHandler):
    """The answers of one backend, as a `grpc.server` asks for them."""

    def __init__(self, find: Callable[[str], grpc.RpcMethodHandler[Any, Any] | None]) -> None:
        self._find = find

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of a method, None where nothing answers it: grpcio then says UNIMPLEMENTED."""
        return self._find(handler_call_details.method)


def _listed(reply: Any) -> Iterable[Any]:
    is_many = isinstance(reply, Sequence | Iterator) and not isinstance(reply, bytes)
    return reply if is_many else (reply,)


def _encode(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())
