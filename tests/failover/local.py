"""A server in the test's own process, for what /test.Echo does not do.

One rule: it is a handler per arity and no more; channels to it ask for no health.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from types import MappingProxyType
from typing import Any, Self

import grpc

from tests.backends.addresses import Reservation
from tests.parity.face import ARITIES, METHODS

Handler = Callable[[Any, grpc.ServicerContext], Any]


class Local:
    """A plain grpcio server on a free port, from `with` on.

    Args:
        host: where it listens.
        service: what its methods belong to.
        names: what they are called, by arity, where not as those of /test.Echo.
        handlers: by arity, `unary_unary` and so on; what they get is bytes, or an iterator of bytes.

    Attributes:
        address: where it listens.
        metadata: that of each call, in order.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        service: str = "test.Echo",
        names: Mapping[str, str] = MappingProxyType({}),
        **handlers: Handler,
    ) -> None:
        """Listen, but answer nothing yet."""
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=(("grpc.so_reuseport", 0),))
        self._reservation = Reservation([f"{host}:0"])
        (self.address,) = self._reservation.addresses
        self._server.add_insecure_port(self.address)
        self.metadata: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        methods = {}
        for arity, handler in handlers.items():
            assert arity in ARITIES
            make = getattr(grpc, f"{arity}_rpc_method_handler")
            behavior = self._streamed(handler) if arity.endswith("stream") else self._counted(handler)
            methods[names.get(arity, METHODS[arity].rpartition("/")[2])] = make(behavior)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    @property
    def calls(self) -> int:
        """How many calls it has begun to execute."""
        return len(self.metadata)

    def _count(self, context: grpc.ServicerContext) -> None:
        with self._lock:
            self.metadata.append(dict(context.invocation_metadata()))

    def _counted(self, handler: Handler) -> Handler:
        def counted(request: Any, context: grpc.ServicerContext) -> Any:
            self._count(context)
            return handler(request, context)

        return counted

    def _streamed(self, handler: Handler) -> Handler:
        def counted(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._count(context)
            yield from handler(request, context)

        return counted

    def stop(self) -> None:
        """Cut all calls off and listen no more."""
        self._server.stop(None).wait()
        self._reservation.release()

    def __enter__(self) -> Self:
        """Serve."""
        self._server.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self.stop()


def fail(context: grpc.ServicerContext, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, details: str = "") -> Any:
    """End the call with a status."""
    context.abort(code, details or "no more")
