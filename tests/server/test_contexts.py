"""Contexts that are not a server's: grpcio-testing's, and those that tests make by hand. The stock servicers, too."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from unittest import mock

import grpc
import grpc_testing
import pytest
from grpc_health.v1 import health, health_pb2

from healthlb.aio import HealthServicer as AioHealthServicer
from healthlb.server import HealthServicer, WatchLimits
from healthlb.server.contexts import UNKNOWN_CLIENT
from tests.backends.clients import eventually
from tests.server.served import request

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)
SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
SYNC: dict[str, Any] = {
    "sync": HealthServicer, "blocking": lambda: HealthServicer(False), "stock": health.HealthServicer,
}  # fmt: skip
AIO: dict[str, Any] = {"aio": AioHealthServicer, "stock": health.aio.HealthServicer}


class Bare:
    """All that the stock sync servicer uses."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []
        self.code: Any = None

    def add_callback(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def set_code(self, code: Any) -> None:
        self.code = code


class BareAio:
    """All that the stock aio servicer uses."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.code: Any = None

    async def write(self, message: Any) -> None:
        self.written.append(message.status)

    async def abort(self, code: Any, details: str = "") -> None:
        self.code = code
        raise grpc.aio.AbortError


class Peering(Bare):
    """Has a `peer` that is of no use."""

    def __init__(self, peer: Any) -> None:
        super().__init__()
        self._peer = peer

    def peer(self) -> Any:
        if isinstance(self._peer, BaseException):
            raise self._peer
        return self._peer


@pytest.mark.parametrize("kind", SYNC)
def test_grpcio_testing(kind: str) -> None:
    servicer = SYNC[kind]()
    server = grpc_testing.server_from_dictionary({SERVICE: servicer}, grpc_testing.strict_real_time())
    check, watch = SERVICE.methods_by_name["Check"], SERVICE.methods_by_name["Watch"]

    answer, _, code, _ = server.invoke_unary_unary(check, (), request(), None).termination()
    assert (answer.status, code) == (SERVING, grpc.StatusCode.OK)
    *_, code, _ = server.invoke_unary_unary(check, (), request("never"), None).termination()
    assert code == grpc.StatusCode.NOT_FOUND
    call = server.invoke_unary_stream(watch, (), request("svc"), None)
    assert call.take_response().status == SERVICE_UNKNOWN
    servicer.set("svc", NOT_SERVING)
    assert call.take_response().status == NOT_SERVING
    call.cancel()
    if kind != "stock":
        eventually(lambda: servicer.registry.watcher_count() == 0)


@pytest.mark.parametrize("kind", SYNC)
def test_a_bare_context(kind: str) -> None:
    servicer, context = SYNC[kind](), Bare()

    assert servicer.Check(request(), context).status == SERVING
    servicer.Check(request("never"), context)
    assert context.code == grpc.StatusCode.NOT_FOUND
    stream = servicer.Watch(request("svc"), context)
    assert next(stream).status == SERVICE_UNKNOWN
    servicer.set("svc", SERVING)
    assert next(stream).status == SERVING
    context.callbacks[0]()
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize("kind", SYNC)
def test_a_bare_context_with_a_callback(kind: str) -> None:
    servicer, context, sent = SYNC[kind](), Bare(), []
    servicer.Watch(request("svc"), context, lambda message: sent.append(message and message.status))

    eventually(lambda: sent == [SERVICE_UNKNOWN])
    servicer.set("svc", SERVING)
    eventually(lambda: sent == [SERVICE_UNKNOWN, SERVING])
    context.callbacks[0]()
    if kind != "stock":
        assert servicer.registry.watcher_count() == 0
        servicer.close()
        servicer.Watch(request("svc"), context, lambda message: sent.append(message))
        assert (sent[-1], context.code) == (None, grpc.StatusCode.UNAVAILABLE)


@pytest.mark.parametrize("kind", SYNC)
def test_a_call_for_what_is_known_needs_no_context(kind: str) -> None:
    assert SYNC[kind]().Check(request(), None).status == SERVING


@pytest.mark.parametrize("kind", SYNC)
def test_a_mock_is_a_context(kind: str) -> None:
    assert next(SYNC[kind]().Watch(request(), mock.MagicMock())).status == SERVING


@pytest.mark.parametrize("kind", AIO)
async def test_a_bare_aio_context(kind: str) -> None:
    servicer, context = AIO[kind](), BareAio()

    assert (await servicer.Check(request(), context)).status == SERVING
    with pytest.raises(grpc.aio.AbortError):
        await servicer.Check(request("never"), context)
    assert context.code == grpc.StatusCode.NOT_FOUND
    watching = asyncio.ensure_future(servicer.Watch(request("svc"), context))
    for status in (SERVICE_UNKNOWN, SERVING, NOT_SERVING):
        if status != SERVICE_UNKNOWN:
            await servicer.set("svc", status)
        async with asyncio.timeout(15):
            while status not in context.written:
                await asyncio.sleep(0.001)
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert context.written == [SERVICE_UNKNOWN, SERVING, NOT_SERVING]
    if kind != "stock":
        assert servicer.registry.watcher_count() == 0


@pytest.mark.parametrize("peer", [NotImplementedError(), RuntimeError("gone"), None, b"ipv4:10.0.0.1:5", "", 7])
def test_clients_that_cannot_be_told_apart_are_one(peer: Any) -> None:
    servicer = HealthServicer(limits=WatchLimits(watchers_per_client=2))
    contexts = [Peering(peer) for _ in range(2)] + [Bare()]
    streams = [servicer.Watch(request(), context) for context in contexts]

    assert [next(stream, None) is not None for stream in streams] == [True, True, False]
    assert contexts[2].code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert UNKNOWN_CLIENT in repr(servicer.registry.watchers("", servicer._senders)[0])
