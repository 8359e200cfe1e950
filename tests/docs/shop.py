"""The shop that the documentation talks about: its generated modules, and servers that stand in for its backends.

Pages write `10.0.0.1:50051` to `10.0.0.3:50051` and `dns:///shop.prod:50051`; a `Stage` says which servers those are.
"""

from __future__ import annotations

import contextlib
import re
import time
import types
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tests.backends.addresses import Reservation

SERVICE = "shop.Cart"
_COUNT = 3
_PATIENCE = 15.0
_STRING = descriptor_pb2.FieldDescriptorProto.TYPE_STRING


def _messages() -> types.ModuleType:
    """What protoc would make of the shop's messages."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    for name, fields in {"CartRequest": ("user",), "CartReply": ("user", "served_by")}.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=_STRING, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    module = types.ModuleType("shop_pb2")
    for name in ("CartRequest", "CartReply"):
        setattr(module, name, message_factory.GetMessageClass(pool.FindMessageTypeByName(f"shop.{name}")))
    return module


shop_pb2: Any = _messages()


class CartStub:
    """As grpcio-tools generates it."""

    def __init__(self, channel: Any) -> None:
        for name, arity in {"Get": "unary_unary", "Follow": "unary_stream"}.items():
            multi_callable = getattr(channel, arity)(
                f"/{SERVICE}/{name}",
                request_serializer=shop_pb2.CartRequest.SerializeToString,
                response_deserializer=shop_pb2.CartReply.FromString,
                _registered_method=True,
            )
            setattr(self, name, multi_callable)


class CartServicer:
    """As grpcio-tools generates it, with an answer."""

    served_by = ""
    delay = 0.0
    failure: tuple[grpc.StatusCode, str] | None = None

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.failure is not None:
            context.abort(*self.failure)
        time.sleep(self.delay)
        return shop_pb2.CartReply(user=request.user, served_by=self.served_by)

    def Follow(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for _ in range(3):
            yield self.Get(request, context)


def add_CartServicer_to_server(servicer: Any, server: grpc.Server) -> None:
    """As grpcio-tools generates it."""
    coders = {
        "request_deserializer": shop_pb2.CartRequest.FromString,
        "response_serializer": shop_pb2.CartReply.SerializeToString,
    }
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(servicer.Get, **coders),
        "Follow": grpc.unary_stream_rpc_method_handler(servicer.Follow, **coders),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


shop_pb2_grpc: Any = types.ModuleType("shop_pb2_grpc")
shop_pb2_grpc.CartStub = CartStub
shop_pb2_grpc.CartServicer = CartServicer
shop_pb2_grpc.add_CartServicer_to_server = add_CartServicer_to_server


class Server:
    """One backend in this process, with grpcio's own health service.

    Attributes:
        address: where it listens, also after a restart.
        cart: how it answers.
    """

    def __init__(self, name: str) -> None:
        self.cart = CartServicer()
        self.cart.served_by = name
        self._reservation = Reservation(["127.0.0.1:0"])
        self.address = self._reservation.addresses[0]
        self.start()

    def start(self) -> None:
        """Serve, SERVING."""
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_CartServicer_to_server(self.cart, self._server)
        self._server.add_insecure_port(self.address)
        self._server.start()
        self.set("SERVING")

    def set(self, status: str) -> None:
        """Set the serving status of the shop's service and of the whole server."""
        for service in (SERVICE, ""):
            self._health.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(None).wait()

    def close(self) -> None:
        """Stop, and let go of the address."""
        self.stop()
        self._reservation.release()


class Stage:
    """The backends of one page."""

    def __init__(self) -> None:
        self.servers = [Server(f"10.0.0.{number}:50051") for number in range(1, _COUNT + 1)]
        self._names = {server.address: server.cart.served_by for server in self.servers}

    def real(self, text: str) -> str:
        """Return the code of a page with addresses that exist here."""
        addresses = ",".join(server.address for server in self.servers)
        text = text.replace("dns:///shop.prod:50051", f"ipv4:{addresses}")
        for address, name in self._names.items():
            text = text.replace(name, address)
        return text

    def shown(self, text: str) -> str:
        """Return output with the addresses that the page uses."""
        for address, name in self._names.items():
            text = re.sub(rf"\b{re.escape(address)}\b", name, text)
        return text

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.01)

    def close(self) -> None:
        """Stop all servers."""
        for server in self.servers:
            with contextlib.suppress(Exception):
                server.close()
