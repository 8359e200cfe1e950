"""`check`, `ask` and `list` of both faces: what is answered, what is refused, and how a call fails."""

from __future__ import annotations

import asyncio
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import healthlb
import healthlb.aio
from healthlb import ConfigError, InvalidResponse, NotServing, ServingStatus
from tests.backends.backend import Backend
from tests.health_client.raw import RawHealth
from tests.server.served import Served

Ask = Callable[..., Any]
Make = Callable[[], Any]
FACES = ("sync", "aio")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing(Served()) as served:
        for name, status in (("yes", 1), ("no", 2), ("unknown", 0)):
            served.set(name, status)
        yield served


@pytest.fixture
def raw() -> Iterator[RawHealth]:
    with RawHealth() as raw:
        yield raw


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def ask(face: str, target: str, method: str, *arguments: Any, make: dict[str, Any] | None = None, **named: Any) -> Any:
    """Make a client, call one of its methods, and close it."""
    if face == "sync":
        with healthlb.HealthClient(target, **(make or {})) as client:
            return getattr(client, method)(*arguments, **named)

    async def ask_it() -> Any:
        async with healthlb.aio.HealthClient(target, **(make or {})) as client:
            return await getattr(client, method)(*arguments, **named)

    return asyncio.run(ask_it(), debug=True)


def test_check_returns_what_grpcios_own_stub_does(served: Served, face: str) -> None:
    with grpc.insecure_channel(served.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        theirs = [
            stub.Check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", "yes", "no", "unknown")
        ]

    ours = [ask(face, served.address, "check", name) for name in ("", "yes", "no", "unknown")]

    assert ours == theirs
    assert all(isinstance(status, ServingStatus) for status in ours)


def test_list_has_every_service(served: Served, face: str) -> None:
    assert ask(face, served.address, "list") == {
        "": ServingStatus.SERVING, "yes": ServingStatus.SERVING, "no": ServingStatus.NOT_SERVING,
        "unknown": ServingStatus.UNKNOWN,
    }  # fmt: skip


def test_an_unknown_service_is_the_call_s_error(served: Served, face: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(face, served.address, "check", "never", require_serving=True)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("service", "text"), [("no", "'no' is NOT_SERVING"), ("unknown", "'unknown' is UNKNOWN")])
def test_require_serving_says_what_was_answered(served: Served, face: str, service: str, text: str) -> None:
    assert ask(face, served.address, "check", "yes", require_serving=True) is ServingStatus.SERVING
    with pytest.raises(NotServing) as caught:
        ask(face, served.address, "check", service, require_serving=True)

    error = caught.value
    assert (str(error), error.service, error.answer, error.address) == (text, service, text.split()[-1], None)
    assert str(pickle.loads(pickle.dumps(error))) == text


def test_a_health_aware_channel_says_which_backend_answered(served: Served) -> None:
    with healthlb.HealthAwareChannel([served.address]) as channel, healthlb.HealthClient(channel) as client:
        assert client.ask("yes").address == served.address
        with pytest.raises(NotServing, match=f"'no' is NOT_SERVING at {served.address}"):
            client.check("no", require_serving=True)
        response, call = channel.unary_unary("/grpc.health.v1.Health/Check").with_call(b"", timeout=5.0)
        assert (response, call.address) == (b"\x08\x01", served.address)  # type: ignore[attr-defined]
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5.0)  # left open

    async def with_aio() -> str | None:
        async with (
            healthlb.aio.HealthAwareChannel([served.address]) as channel,
            healthlb.aio.HealthClient(channel) as client,
        ):
            return (await client.ask("yes")).address

    assert asyncio.run(with_aio()) == served.address


def test_a_hedged_and_a_failed_over_call_say_who_answered(served: Served) -> None:
    failover = healthlb.Failover(idempotent=True, hedging_delay=0.01)
    with healthlb.HealthAwareChannel([served.address], failover=failover) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check").future(b"", timeout=5.0)
        assert call.result() == b"\x08\x01"
        assert call.address == served.address  # type: ignore[attr-defined]


# --- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 5, 0.5e2])
def test_timeouts_that_are_none_or_long(served: Served, face: str, timeout: float | None) -> None:
    assert ask(face, served.address, "check", "yes", timeout) is ServingStatus.SERVING


@pytest.mark.parametrize("timeout", [0, -1.0, -math.inf, -1e300])
def test_timeouts_that_are_over(served: Served, face: str, timeout: float) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(face, served.address, "check", "yes", timeout)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout", [math.nan, True, "5", b"5"])
def test_timeouts_that_are_no_number(served: Served, face: str, timeout: Any) -> None:
    with pytest.raises(ConfigError, match="timeout must be a number of seconds or None"):
        ask(face, served.address, "check", "yes", timeout)


@pytest.mark.parametrize("service", [None, b"yes", 7, "lone \ud800"])
@pytest.mark.parametrize("method", ["check", "ask", "watch"])
def test_names_that_are_none(face: str, service: Any, method: str) -> None:
    with pytest.raises(ConfigError, match="service must be a string"):
        ask(face, "127.0.0.1:1", method, service)


@pytest.mark.parametrize("name", ["\x00\x1b[31m", "ü" * 512, "a/b\nc", "\u202e"])
def test_odd_names_are_sent_as_they_are(served: Served, face: str, name: str) -> None:
    served.set(name, 2)

    assert ask(face, served.address, "check", name) is ServingStatus.NOT_SERVING
    assert ask(face, served.address, "list")[name] is ServingStatus.NOT_SERVING
    served.set(name, 3)


@pytest.mark.parametrize(
    ("target", "named", "text"),
    [
        ("", {}, "target must be an address or a channel, not ''"),
        ("a\n:1", {}, "target must be an address or a channel"),
        (" ", {}, "target must be an address or a channel, not ' '"),
        ("127.0.0.1:65536", {}, "target must have a port from 0 to 65535, not '127.0.0.1:65536'"),
        ("dns:///shop:100000000001", {}, "target must have a port from 0 to 65535"),
        ("127.0.0.1:-1", {}, "target must have a port from 0 to 65535, not '127.0.0.1:-1'"),
        ("[::1]: -65000", {}, "target must have a port from 0 to 65535"),
        (None, {}, "target must be an address or a grpc"),
        (7, {}, "target must be an address or a grpc"),
        ("a:1", {"metadata": "x"}, "metadata must be pairs"),
        ("a:1", {"metadata": [("Upper", "x")]}, "metadata must be pairs of a lower-case name"),
        ("a:1", {"metadata": [("token-bin", "x")]}, "bytes of any kind where the name ends in '-bin'"),
        ("a:1", {"backoff": 1.0}, "backoff must be a Backoff"),
        (
            "127.0.0.1:1",
            {"credentials": "insecure"},
            "credentials must be grpc.ChannelCredentials or None, not 'insecure'",
        ),
    ],
)
def test_what_a_client_refuses(face: str, target: Any, named: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ask(face, target, "check", make=named)


@pytest.mark.parametrize("target", ["unix:/tmp/shop:70000", "::1", "shop", "shop:000065535"])
def test_addresses_that_only_look_odd(target: str) -> None:
    assert str(healthlb.HealthClient(target)) == f"<HealthClient {target}>"


def test_channels_of_the_other_face() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        with pytest.raises(ConfigError, match=r"use healthlb\.HealthClient"):
            healthlb.aio.HealthClient(channel)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="credentials and options go with an address"):
            healthlb.HealthClient(channel, options=[("grpc.x", 1)])

    async def with_aio() -> None:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            with pytest.raises(ConfigError, match=r"use healthlb\.aio\.HealthClient"):
                healthlb.HealthClient(channel)  # type: ignore[arg-type]

    asyncio.run(with_aio())


def test_metadata_go_with_every_call(raw: RawHealth, face: str) -> None:
    for method in ("check", "list"):
        raw.metadata = {}
        ask(face, raw.address, method, make={"metadata": [("x-token", "secret")]})
        assert raw.metadata["x-token"] == "secret"


def test_a_closed_client_says_so(face: str) -> None:
    client: Any = (healthlb if face == "sync" else healthlb.aio).HealthClient("127.0.0.1:1")
    assert repr(client) == "<HealthClient 127.0.0.1:1>"
    closing_it = client.close()
    if face == "aio":
        asyncio.run(closing_it)

    assert repr(client) == "<HealthClient 127.0.0.1:1 closed>"
    with pytest.raises(healthlb.ChannelClosed, match="this HealthClient is closed"):
        client.watch("x")


# --- servers that are not as they should be --------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status", "text"),
    [
        (b"", ServingStatus.UNKNOWN, "UNKNOWN"),
        (b"\x08\x4d", ServingStatus.UNKNOWN, "serving status 77"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", ServingStatus.UNKNOWN, "serving status -1"),
        (b"\x08\x01\x12\x03abc", ServingStatus.SERVING, "SERVING"),
    ],
)
def test_answers_that_are_new(raw: RawHealth, face: str, message: bytes, status: ServingStatus, text: str) -> None:
    raw.answers["Check"] = message
    answer = ask(face, raw.address, "ask", "svc")

    assert (answer.status, str(answer)) == (status, text)


@pytest.mark.parametrize("method", ["Check", "List"])
def test_answers_that_are_none(raw: RawHealth, face: str, method: str) -> None:
    raw.answers[method] = b"\xff" + b"\x1b]0;x\x07\n" * 200_000
    with pytest.raises(InvalidResponse, match=f"not a Health{method}") as caught:
        ask(face, raw.address, method.lower())

    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    pickle.loads(pickle.dumps(caught.value))


def test_a_server_without_health_service_and_none_at_all(face: str) -> None:
    with Backend(name="b0", kind="no_health") as backend, pytest.raises(grpc.RpcError) as unimplemented:
        ask(face, backend.address, "check")
    with pytest.raises(grpc.RpcError) as unavailable:
        ask(face, "127.0.0.1:1", "check", timeout=20.0)

    assert unimplemented.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert unavailable.value.code() is grpc.StatusCode.UNAVAILABLE


def test_it_needs_no_generated_code_and_no_protobuf(served: Served) -> None:
    code = (
        "import sys, healthlb\n"
        f"with healthlb.HealthClient({served.address!r}) as client:\n"
        "    client.check('yes', require_serving=True), client.list()\n"
        "print([name for name in ('google.protobuf', 'grpc_health.v1') if name in sys.modules])\n"
        "print([name for name in sys.modules if name.startswith('healthlb.aio') or name == 'healthlb.config'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert ended.stdout.splitlines() == ["[]", "[]"], ended.stderr
