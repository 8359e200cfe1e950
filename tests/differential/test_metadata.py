"""Metadata of each form that grpcio takes or refuses: every way of a call takes it, and the server sees the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

import healthlb
from healthlb import Failover
from tests.failover.local import Local
from tests.parity.face import ARITIES, METHODS

PATIENCE = 20.0
UNARY, STREAM = "/test.Echo/Unary", "/test.Echo/ClientStream"


class Text(str):
    """A text of another type."""

    __slots__ = ()


# Made anew for each call, since some can be read once.
METADATA: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "empty": list,
    "a value of None": lambda: [("x-key", None)],
    "a key of None": lambda: [(None, "value")],
    "a binary value of None": lambda: [("x-key-bin", None)],
    "lists": lambda: [["x-key", "value"]],
    "items of a dict": lambda: {"x-key": "value"}.items(),
    "a dict": lambda: {"xk": "value"},
    "bytes": lambda: [(b"x-key", b"value")],
    "a text that is bytes, binary": lambda: [("x-key-bin", b"\x00\xff")],
    "a binary text": lambda: [("x-key-bin", "value")],
    "subclasses": lambda: [(Text("x-key"), Text("value"))],
    "a number": lambda: [("x-key", 1)],
    "three": lambda: [("x-key", "value", "more")],
    "one": lambda: [("x-key",)],
}
HEDGED = Failover(idempotent=True, hedging_delay=5.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Local]:
    """Start one that answers at once."""
    with Local(
        unary_unary=lambda _, __: b"",
        unary_stream=lambda _, __: iter([b""]),
        stream_unary=lambda requests, _: b"".join(requests),
        stream_stream=lambda requests, _: requests,
    ) as started:
        yield started


def outcome(call: Callable[[], Any], server: Local) -> Any:
    """Return what the server has seen, or how the call has failed."""
    seen = len(server.metadata)
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    except Exception as error:
        return next(kind.__name__ for kind in type(error).__mro__ if not kind.__module__.startswith("healthlb"))
    return {key: value for key, value in server.metadata[seen].items() if key.startswith("x")}


def forms(channel: Any, make: Callable[[], Any]) -> list[Callable[[], Any]]:
    unary, stream = channel.unary_unary(UNARY), channel.stream_unary(STREAM)
    return [
        lambda: unary(b"", PATIENCE, make()),
        lambda: unary.future(b"", PATIENCE, make()).result(),
        lambda: stream(iter([b""]), PATIENCE, make()),
        lambda: stream.future(iter([b""]), PATIENCE, make()).result(),
    ]


@pytest.mark.parametrize("failover", [None, HEDGED], ids=["plain", "hedged"])
@pytest.mark.parametrize("form", METADATA)
def test_sync(form: str, failover: Failover | None, server: Local) -> None:
    """The first call on a channel waits for its connection; later ones do not."""
    make = METADATA[form]
    with grpc.insecure_channel(server.address) as plain:
        expected = [outcome(call, server) for call in forms(plain, make)]
    for number in range(4):
        with healthlb.HealthAwareChannel([server.address], None, failover=failover) as channel:
            assert outcome(forms(channel, make)[number], server) == expected[number]
            channel.wait_until_ready(PATIENCE)
            assert [outcome(call, server) for call in forms(channel, make)] == expected


async def ended(call: Any) -> None:
    """Wait for the end of a call of any arity."""
    if hasattr(call, "__aiter__"):
        async for _ in call:
            pass
    else:
        await call


async def aio_outcomes(channel: Any, arity: str, make: Callable[[], Any], server: Local) -> list[Any]:
    """Return what comes of a call that waits, and of one that does not."""
    found: list[Any] = []
    request: Any = [b""] if arity.startswith("stream") else b""
    async with channel:
        for _ in range(2):
            seen = len(server.metadata)
            try:
                await ended(getattr(channel, arity)(METHODS[arity])(request, timeout=PATIENCE, metadata=make()))
            except grpc.RpcError as error:
                found.append(error.code())
            except Exception as error:
                found.append(type(error).__name__)
            else:
                found.append({key: value for key, value in server.metadata[seen].items() if key.startswith("x")})
            await channel.channel_ready()
    return found


@pytest.mark.parametrize("failover", [None, HEDGED], ids=["plain", "hedged"])
@pytest.mark.parametrize("form", METADATA)
def test_asyncio(form: str, failover: Failover | None, server: Local) -> None:
    make = METADATA[form]

    async def both(arity: str) -> tuple[list[Any], list[Any]]:
        ours = healthlb.aio.HealthAwareChannel([server.address], None, failover=failover)
        return await aio_outcomes(ours, arity, make, server), await aio_outcomes(
            grpc.aio.insecure_channel(server.address), arity, make, server
        )

    for arity in ARITIES:
        found, expected = asyncio.run(both(arity))

        assert found == expected, arity


@pytest.mark.parametrize("arity", ARITIES)
async def test_a_call_whose_metadata_cannot_be_sent_is_over(arity: str, server: Local) -> None:
    """Whether or not there is a connection; grpcio's own goes on, to its deadline or for ever."""
    request: Any = [b""] if arity.startswith("stream") else b""
    async with healthlb.aio.HealthAwareChannel([server.address], None) as channel:
        for _ in range(2):
            call = getattr(channel, arity)(METHODS[arity])(request, metadata=[("x-key", 1)])

            assert await asyncio.wait_for(call.code(), PATIENCE) is grpc.StatusCode.INTERNAL
            assert "Expected str" in await call.details()
            await channel.channel_ready()
