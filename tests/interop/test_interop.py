"""grpc-go and grpc-js: as clients of our health service, and as servers behind our channel.

All in one module, so that one worker compiles the Go program.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import grpc
import pytest

from tests.backends.addresses import Reservation
from tests.backends.clients import eventually, failure
from tests.interop.program import Program, Server, Toolchain, go, js
from tests.parity.aio_face import AioFace
from tests.parity.face import Client, Face
from tests.parity.sync_face import SyncFace
from tests.server.served import PATIENCE, Served

pytestmark = pytest.mark.timeout(300)  # The first test compiles.

NOT_SERVING, SERVING = 2, 1
ENOUGH = 20  # Calls that would hit either of two backends many times.


@pytest.fixture(scope="module")
def go_toolchain(tmp_path_factory: pytest.TempPathFactory) -> Toolchain:
    return go(tmp_path_factory.mktemp("go"))


@pytest.fixture(scope="module")
def js_toolchain() -> Toolchain:
    return js()


@pytest.fixture(params=["go", "js"])
def toolchain(request: pytest.FixtureRequest) -> Toolchain:
    found: Toolchain = request.getfixturevalue(f"{request.param}_toolchain")
    return found


# --- their clients, our health service ---------------------------------------------------------------


def echo(kind: str, name: bytes) -> Any:
    """Return the handler of /test.Echo/Unary that answers a name."""

    def answer(request: bytes, context: Any) -> bytes:
        return name

    async def answer_aio(request: bytes, context: Any) -> bytes:
        return name

    handler = grpc.unary_unary_rpc_method_handler(answer_aio if kind == "aio" else answer)
    return grpc.method_handlers_generic_handler("test.Echo", {"Unary": handler})


@pytest.fixture(params=["sync", "aio"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Served, Served]]:
    """Two of our servers, which both answer SERVING for "svc"."""
    with ExitStack() as stack:
        a, b = (
            stack.enter_context(closing(Served(request.param, handlers=(echo(request.param, name),))))
            for name in (b"a", b"b")
        )
        a.set("svc", SERVING)
        b.set("svc", SERVING)
        yield a, b


@pytest.fixture
def client(toolchain: Toolchain, pair: tuple[Served, Served]) -> Iterator[Program]:
    program = toolchain.run("call", "svc", *(served.address for served in pair))
    yield program
    program.kill()


def answers(program: Program) -> set[str]:
    return {program.ask("call") for _ in range(ENOUGH)}


def test_their_client_follows_our_statuses(pair: tuple[Served, Served], client: Program) -> None:
    a, b = pair
    eventually(lambda: answers(client) == {"a", "b"})
    a.set("svc", NOT_SERVING)
    eventually(lambda: answers(client) == {"b"})
    b.set("svc", NOT_SERVING)
    eventually(lambda: answers(client) <= {"Unavailable", "nobody"})
    a.set("svc", SERVING)
    eventually(lambda: answers(client) == {"a"})
    b.set("svc", SERVING)
    eventually(lambda: answers(client) == {"a", "b"})


def test_their_client_hears_of_a_service_that_is_set_later(toolchain: Toolchain, pair: tuple[Served, Served]) -> None:
    program = toolchain.run("call", "later", *(served.address for served in pair))
    eventually(lambda: pair[0].registry.watcher_count() == pair[1].registry.watcher_count() == 1)
    assert answers(program) <= {"Unavailable", "nobody"}
    pair[0].set("later", SERVING)
    eventually(lambda: answers(program) == {"a"})
    program.kill()

    eventually(lambda: pair[0].registry.watcher_count() == pair[1].registry.watcher_count() == 0)


def test_their_client_leaves_a_lame_duck_and_comes_back(pair: tuple[Served, Served], client: Program) -> None:
    a, _ = pair
    eventually(lambda: answers(client) == {"a", "b"})
    a.enter_graceful_shutdown()
    eventually(lambda: answers(client) == {"b"})
    a.close_servicer()
    eventually(lambda: a.registry.watcher_count() == 0)
    assert answers(client) == {"b"}
    a.resume()
    eventually(lambda: answers(client) == {"a", "b"})


def test_their_client_goes_on_when_our_server_stops(pair: tuple[Served, Served], client: Program) -> None:
    a, _ = pair
    eventually(lambda: answers(client) == {"a", "b"})
    a.enter_graceful_shutdown()
    eventually(lambda: answers(client) == {"b"})
    a.close_servicer()
    a.stop(PATIENCE)

    assert answers(client) == {"b"}


def test_grpc_js_reads_our_list(js_toolchain: Toolchain, pair: tuple[Served, Served]) -> None:
    a, b = pair
    b.set("svc", NOT_SERVING)
    listed = []
    for served in (a, b):
        program = js_toolchain.run("call", "svc", served.address)
        listed.append(json.loads(program.ask("list")))
        program.kill()

    assert [{name: one["status"] for name, one in found.items()} for found in listed] == [
        {"": "SERVING", "svc": "SERVING"},
        {"": "SERVING", "svc": "NOT_SERVING"},
    ]


# --- their servers, our channel ----------------------------------------------------------------------


@pytest.fixture
def servers(toolchain: Toolchain) -> Iterator[tuple[Server, Server]]:
    """Two of theirs."""
    reservation = Reservation(["127.0.0.1:0"] * 2)
    started: list[Server] = []
    try:
        for name, address in zip("ab", reservation.addresses, strict=True):
            started.append(Server(toolchain, address, name))
        yield started[0], started[1]
    finally:
        for server in started:
            server.kill()
        reservation.release()


@pytest.fixture(params=[SyncFace, AioFace])
def face(request: pytest.FixtureRequest, servers: tuple[Server, Server]) -> Iterator[Face]:
    face: Face = request.param()
    yield face
    face.close()


def called(client: Client) -> set[str]:
    return {client.call() for _ in range(ENOUGH)}


def test_our_channel_follows_their_statuses(face: Face, servers: tuple[Server, Server]) -> None:
    a, b = servers
    client = face.ready([a.address, b.address])
    assert called(client) == {"a", "b"}
    for status in ("NOT_SERVING", "UNKNOWN", "SERVICE_UNKNOWN"):
        a.set(status)
        client.wait_for_reason(a.address, status)
        assert called(client) == {"b"}
    a.set("SERVING")
    client.wait_until_ready(2)
    assert called(client) == {"a", "b"}


def test_our_channel_knows_their_unknown_services(face: Face, servers: tuple[Server, Server]) -> None:
    a, _ = servers
    client = face.open([a.address], "never")

    assert "SERVICE_UNKNOWN" in failure(client.call).details()
    assert client.subchannel(a.address).reason == "SERVICE_UNKNOWN"


def test_our_channel_survives_a_kill_and_finds_the_restarted(face: Face, servers: tuple[Server, Server]) -> None:
    a, b = servers
    client = face.ready([a.address, b.address])
    a.kill()
    client.wait_for_states("T", "R")
    assert called(client) == {"b"}
    a.restart()
    client.wait_until_ready(2)

    assert called(client) == {"a", "b"}
