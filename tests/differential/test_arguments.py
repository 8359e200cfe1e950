"""Arguments that grpcio refuses, one and two at a time: the first that it finds is the first that ours finds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import grpc
import grpc.aio
import pytest

import healthlb.aio
from healthlb import HealthAwareChannel

ADDRESS = "127.0.0.1:9"  # nobody listens
ARITIES = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
FORMS = [
    *((arity, "__call__") for arity in ARITIES),
    *((arity, form) for arity in ("unary_unary", "stream_unary") for form in ("future", "with_call")),
]
REFUSED: list[dict[str, Any]] = [
    {},
    {"compression": "gzip"},
    {"compression": 7},
    {"credentials": "none"},
    {"credentials": grpc.ssl_channel_credentials()},
    {"metadata": 3},
    {"metadata": [None]},
    {"metadata": [("key", 3)]},
    {"metadata": [("Upper", "x")]},
    {"timeout": "5"},
]
# Taken as they are, of another type, and of a serializer that returns nothing.
REQUESTS: list[tuple[Any, Any]] = [(b"request", None), ("text", None), (b"request", lambda request: None)]


def plain() -> grpc.Channel:
    return grpc.insecure_channel(ADDRESS)


def ours() -> grpc.Channel:
    return HealthAwareChannel([ADDRESS])


def refusals(make: Callable[[], grpc.Channel], arity: str, form: str) -> list[tuple[Any, str]]:
    """Return what each choice of arguments raises on a closed channel."""
    channel, found = make(), []
    methods = [(getattr(channel, arity)("/a/b", serializer), request) for request, serializer in REQUESTS]
    channel.close()
    for one, other in combinations(REFUSED, 2):
        for method, request in methods if arity.startswith("unary") else [(methods[0][0], iter(()))]:
            with pytest.raises((ValueError, TypeError, KeyError, AttributeError, grpc.RpcError)) as raised:
                getattr(method, form)(request, **one, **{name: other[name] for name in other.keys() - one.keys()})
            kind = next(kind for kind in type(raised.value).__mro__ if not kind.__module__.startswith("healthlb"))
            kind = ValueError if issubclass(kind, ValueError) else kind
            found.append(({**other, **one}, f"{kind.__name__} of {request!r:.10}"))
    return found


@pytest.mark.parametrize(("arity", "form"), FORMS)
def test_a_closed_channel_refuses_as_a_plain_one_does(arity: str, form: str) -> None:
    assert refusals(ours, arity, form) == refusals(plain, arity, form)


CREDENTIALS = ["none", 3, grpc.ssl_channel_credentials(), grpc.access_token_call_credentials("token"), None]


async def refused_credentials(channel: Any, arity: str) -> list[str]:
    """Return what asyncio calls raise while they are made, with each kind of credentials."""
    found = []
    async with channel:
        for credentials in CREDENTIALS:
            try:
                call = getattr(channel, arity)("/a/b")(
                    b"" if arity.startswith("unary") else None, credentials=credentials
                )
            except (AttributeError, TypeError, grpc.aio.UsageError) as error:
                found.append(type(error).__name__)
            else:
                found.append("made")
                call.cancel()
    return found


@pytest.mark.parametrize("is_secure", [False, True], ids=["plaintext", "TLS"])
@pytest.mark.parametrize("arity", ARITIES)
async def test_an_asyncio_call_refuses_credentials_while_it_is_made(arity: str, is_secure: bool) -> None:
    tls = grpc.ssl_channel_credentials() if is_secure else None
    theirs = grpc.aio.insecure_channel(ADDRESS) if tls is None else grpc.aio.secure_channel(ADDRESS, tls)
    ours = healthlb.aio.HealthAwareChannel([ADDRESS], credentials=tls)

    found = await refused_credentials(ours, arity)
    assert found == await refused_credentials(theirs, arity)
    assert found.count("made") == (2 if is_secure else 1)
