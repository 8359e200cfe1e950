"""`healthlb.testing.FakeBackend`: health and answers are what the test has set, for clients of both faces."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb.testing import FakeBackend, ReceivedCall
from tests.backends.clients import eventually
from tests.docs.shop import CartServicer, CartStub, add_CartServicer_to_server, shop_pb2

GET, FOLLOW = "/shop.Cart/Get", "/shop.Cart/Follow"
PATIENCE = 20.0
ADA = shop_pb2.CartRequest(user="ada")


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    with FakeBackend("shop.Cart") as started:
        yield started


@pytest.fixture
def channel(backend: FakeBackend) -> Iterator[healthlb.HealthAwareChannel]:
    with healthlb.HealthAwareChannel([backend.address], service="shop.Cart") as opened:
        opened.wait_until_ready(PATIENCE)
        yield opened


def reply(user: str) -> Any:
    return shop_pb2.CartReply(user=user)


@pytest.mark.parametrize(
    "answer",
    [reply("bob"), reply("bob").SerializeToString(), lambda request, context: reply("bob")],
    ids=["message", "bytes", "function"],
)
def test_answers(answer: Any, backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.answer(GET, answer)

    assert CartStub(channel).Get(ADA, timeout=PATIENCE).user == "bob"


def test_a_function_sees_the_request(backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.answer(GET, lambda request, context: reply(shop_pb2.CartRequest.FromString(request).user.upper()))

    assert CartStub(channel).Get(ADA, timeout=PATIENCE).user == "ADA"


def test_streams(backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.answer(FOLLOW, [reply("one"), reply("two")])

    assert [answer.user for answer in CartStub(channel).Follow(ADA, timeout=PATIENCE)] == ["one", "two"]


def test_failures(backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.fail(GET, grpc.StatusCode.NOT_FOUND, "no such cart")
    with pytest.raises(grpc.RpcError) as caught:
        CartStub(channel).Get(ADA, timeout=PATIENCE)

    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no such cart")


def test_a_method_without_an_answer(channel: healthlb.HealthAwareChannel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        CartStub(channel).Get(ADA, timeout=PATIENCE)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_calls_are_kept(backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.answer(GET, reply("bob"))
    CartStub(channel).Get(ADA, timeout=PATIENCE, metadata=[("x-trace", "7")])
    (call,) = backend.calls

    assert call == ReceivedCall(GET, ADA.SerializeToString(), call.metadata)
    assert ("x-trace", "7") in call.metadata


def test_servicers_and_answers_side_by_side() -> None:
    cart = CartServicer()
    cart.served_by = "the servicer"
    register = partial(add_CartServicer_to_server, cart)
    with (
        FakeBackend("shop.Cart", register=register) as backend,
        healthlb.HealthAwareChannel([backend.address], service="shop.Cart") as channel,
    ):
        backend.answer(FOLLOW, [reply("set")])
        stub = CartStub(channel)

        assert stub.Get(ADA, timeout=PATIENCE).served_by == "the servicer"
        assert [answer.user for answer in stub.Follow(ADA, timeout=PATIENCE)] == ["set"]
        backend.stop()
        backend.start()
        assert stub.Get(ADA, timeout=PATIENCE, wait_for_ready=True).served_by == "the servicer"


@pytest.mark.parametrize("service", [None, "shop.Cart"])
def test_health(service: str | None, backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.set_health("NOT_SERVING", service)
    eventually(lambda: channel.subchannels()[0].reason == "NOT_SERVING")
    backend.set_health("SERVING", service)

    channel.wait_until_ready(PATIENCE)


def test_stopped_and_started(backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.answer(GET, reply("bob"))
    address = backend.address
    backend.stop()
    with pytest.raises(grpc.RpcError) as caught:
        CartStub(channel).Get(ADA, timeout=PATIENCE)
    backend.start()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert backend.address == address
    assert CartStub(channel).Get(ADA, timeout=PATIENCE, wait_for_ready=True).user == "bob"


def test_health_that_was_set_while_it_was_stopped(backend: FakeBackend, channel: healthlb.HealthAwareChannel) -> None:
    backend.stop()
    backend.set_health("NOT_SERVING")
    backend.start()

    eventually(lambda: channel.subchannels()[0].reason == "NOT_SERVING")


async def test_asyncio(backend: FakeBackend) -> None:
    backend.answer(GET, reply("bob"))
    async with healthlb.aio.HealthAwareChannel([backend.address], service="shop.Cart") as channel:
        assert (await CartStub(channel).Get(ADA, timeout=PATIENCE)).user == "bob"


def test_mistakes(backend: FakeBackend) -> None:
    with pytest.raises(healthlb.ConfigError, match=r"'SERVING', 'NOT_SERVING' or 'UNKNOWN', not 'UP'"):
        backend.set_health("UP")
    with pytest.raises(healthlb.ConfigError, match=r"a full name like '/shop.Cart/Get', not 'Get'"):
        backend.answer("Get", b"")
