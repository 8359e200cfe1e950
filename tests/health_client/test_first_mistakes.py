"""First mistakes, by every way of asking for health: each text says in words what to do, and how that is written there."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import closing, redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner

import healthlb
import healthlb.aio
from healthlb.cli import probe
from healthlb.cli.app import cli
from healthlb.server import checks
from healthlb.text import printable
from tests.backends.certs import Certificates
from tests.backends.clients import PATIENCE, eventually
from tests.docs.mistakes import Servers, collected, failing_credentials, warnings_of
from tests.server.served import Served

ROOT = Path(__file__).resolve().parents[2]
TELLS = "What to do: "


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        address: asked.
        remedy: what every text says.
        code: what those of clients in code say, where they open a channel of their own.
        command: what those of `healthlb list` and `watch` say.
            Those of `healthlb probe` say the same with one dash.
        service: asked for.
        arguments: of a client.
        flags: of the command.
        skips: surfaces that cannot make it.
    """

    address: str
    remedy: str
    code: str = ""
    command: str = ""
    service: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()


NAMES = (
    "plaintext to TLS", "TLS to plaintext", "another name", "another CA", "no client certificate", "expired",
    "not yet valid", "without the name", "credentials fail", "not gRPC",
    "port closed", "name unknown", "no socket", "silent", "wrong authority", "token refused", "no health service",
    "unknown service", "no whole", "message too big", "server full", "not health", "a URL", "no URI",
)  # fmt: skip


def of_tls(servers: Servers, certificates: Certificates, remedy: str, code: str, command: str = "") -> Mistake:
    """Return the mistake of a server's certificate whose CA is trusted."""
    return Mistake(
        servers.grpc(certificates), remedy, code, command or code, "",
        {"credentials": certificates.channel_credentials()},
        ("--tls", "--tls-ca-cert", str(certificates.ca.certificate_path)),
    )  # fmt: skip


def make_mistakes(servers: Servers, silent: str) -> dict[str, Mistake]:
    """Return all, made of real servers."""
    trusting, ca = servers.certificates.channel_credentials(), str(servers.certificates.ca.certificate_path)
    misnamed_ca = str(servers.misnamed.ca.certificate_path)
    secure, plain = servers.grpc(servers.certificates), servers.grpc()
    is_cut_off = "the server takes the connection and ends it at once"
    made = (
        Mistake(secure, is_cut_off, "if so, pass credentials=grpc.ssl_channel_credentials", "if so, pass --tls"),
        Mistake(
            plain, "the server does not speak TLS on this port", "leave out credentials=", "leave out --tls", "",
            {"credentials": trusting}, ("--tls", "--tls-ca-cert", ca),
        ),
        Mistake(
            servers.grpc(servers.misnamed), "certificate is for another name", "grpc.ssl_target_name_override",
            "--tls-server-name", "", {"credentials": servers.misnamed.channel_credentials()},
            ("--tls", "--tls-ca-cert", misnamed_ca),
        ),
        Mistake(
            secure, "not from a CA that is trusted here", "root_certificates=", "with --tls-ca-cert", "",
            {"credentials": grpc.ssl_channel_credentials()}, ("--tls",),
        ),
        Mistake(
            servers.grpc(servers.certificates, mutual=True), is_cut_off, "whether it wants a certificate of the client",
            "whether it wants a certificate of the client", "", {"credentials": trusting}, ("--tls", "--tls-ca-cert", ca),
        ),
        of_tls(servers, servers.expired, "has expired: renew it", "this machine's clock"),
        of_tls(servers, servers.early, "is not valid yet", "this machine's clock"),
        of_tls(
            servers, servers.unnamed, "made that has it as subjectAltName", "grpc.ssl_target_name_override",
            "--tls-server-name",
        ),
        Mistake(
            secure, "call credentials have failed on this side", "no token file", "", "",
            {"credentials": failing_credentials(trusting)}, skips=("command", "probe"),
        ),
        Mistake(servers.http1(), "speaks no HTTP/2, so no gRPC", "check the port", "check the port"),
        Mistake(servers.closed(), "nothing listens there", "its address and port", "its address and port"),
        Mistake("no-such-host.invalid:50051", "DNS does not know the name", "check its spelling", "check its spelling"),
        Mistake("unix:no-such.sock", "there is no socket at that path", "check that", "check that"),
        # A Watch has no deadline: whoever waits for it sees that nothing comes.
        Mistake(silent, "firewall drops the packets", "check the address", "check the address", skips=("watch",)),
        Mistake(
            servers.web(), "answered with HTTP status 404, and no gRPC server", "grpc.default_authority", "past the proxy"
        ),
        Mistake(
            servers.grpc(interceptors=(servers.refuses(),)), "the server wants to know who asks for its health",
            "pass its token with metadata=", "--header 'authorization: Bearer ...'",
        ),
        Mistake(servers.grpc(has_health=False), "the server has no health service"),
        Mistake(
            plain, "the server does not know the service 'shop.Basket'", "list() tells", "healthlb list shows",
            "shop.Basket", skips=("list",),
        ),
        Mistake(
            servers.only("shop.Cart"), "the server has no status as a whole", "list() tells", "healthlb list shows",
            skips=("list",),
        ),
        Mistake(
            plain, "raise grpc.max_receive_message_length", "options=[...] of the client", "", "",
            {"options": [("grpc.max_receive_message_length", 1)]}, skips=("list", "command", "probe"),
        ),
        Mistake(servers.full(), "the server is full"),
        Mistake(servers.other(), "what answers there is not grpc.health.v1.Health"),
        Mistake(f"http://{plain}", "this is no address as gRPC has them", "without http://", "without http://"),
        Mistake("dns://127.0.0.1:1", "this is no address as gRPC has them", "'dns:///host:port'", "'dns:///host:port'"),
    )  # fmt: skip
    return dict(zip(NAMES, made, strict=True))


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Mistake]]:
    servers = Servers(tmp_path_factory.mktemp("first"))
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        yield make_mistakes(servers, f"127.0.0.1:{silent.getsockname()[1]}")
        servers.close()


# --- the ways of asking ---------------------------------------------------------------------------------


def said_by(error: Any) -> str:
    """Return an error's text, and check that it is in all that shows it."""
    text = error.details() if isinstance(error, grpc.RpcError) else str(error)
    assert text in str(error) or isinstance(error, grpc.Call)
    if not isinstance(error, grpc.Call):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    return str(text)


def client_of(module: Any, mistake: Mistake) -> Any:
    return module.HealthClient(mistake.address, **mistake.arguments)


def fails(mistake: Mistake, ask: Callable[[healthlb.HealthClient], object]) -> str:
    with client_of(healthlb, mistake) as client:
        try:
            ask(client)
        except (grpc.RpcError, healthlb.InvalidResponse) as error:
            return said_by(error)
    raise AssertionError("it works")


def by_check(mistake: Mistake) -> str:
    return fails(
        mistake, lambda client: client.check(mistake.service, 1.0 if mistake.skips == ("watch",) else PATIENCE)
    )


def by_list(mistake: Mistake) -> str:
    return fails(mistake, lambda client: client.list(1.0 if mistake.skips == ("watch",) else PATIENCE))


def by_watch(mistake: Mistake) -> str:
    with client_of(healthlb, mistake) as client, client.watch(mistake.service) as watching:
        try:
            next(watching)
        except (grpc.RpcError, healthlb.InvalidResponse) as error:
            assert watching.answer.remedy in said_by(error)
            return said_by(error)
        return f"{watching.answer}. {TELLS}{watching.answer.remedy}"


def by_callback(mistake: Mistake) -> str:
    heard = threading.Event()
    with client_of(healthlb, mistake) as client:
        watching = client.watch(mistake.service, callback=lambda status: heard.set(), follow=True)
        assert heard.wait(PATIENCE)
        return f"{watching.answer}; {watching.answer.remedy}"


def by_follow(mistake: Mistake) -> str:
    with client_of(healthlb, mistake) as client, client.watch(mistake.service, follow=True) as watching:
        next(watching)
        return f"{watching.answer}; {watching.answer.remedy}"


def by_aio(mistake: Mistake, ask: Callable[[Any], Any]) -> str:
    async def ask_it() -> str:
        async with client_of(healthlb.aio, mistake) as client:
            try:
                answer = await ask(client)
            except (grpc.RpcError, healthlb.InvalidResponse) as error:
                return said_by(error)
            return f"{answer}; {answer.remedy}"

    return asyncio.run(ask_it())


def by_aio_check(mistake: Mistake) -> str:
    return by_aio(mistake, lambda client: client.ask(mistake.service, 1.0 if mistake.skips == ("watch",) else PATIENCE))


def by_aio_list(mistake: Mistake) -> str:
    return by_aio(mistake, lambda client: client.list(1.0 if mistake.skips == ("watch",) else PATIENCE))


def by_aio_watch(mistake: Mistake, **named: Any) -> str:
    async def watch(client: Any) -> Any:
        async with client.watch(mistake.service, **named) as watching:
            await anext(watching)
            return watching.answer

    return by_aio(mistake, watch)


def by_aio_follow(mistake: Mistake) -> str:
    return by_aio_watch(mistake, follow=True)


def by_aio_callback(mistake: Mistake) -> str:
    async def watch(client: Any) -> Any:
        heard = asyncio.Event()
        watching = client.watch(mistake.service, callback=lambda status: heard.set())
        await asyncio.wait_for(heard.wait(), PATIENCE)
        return watching.answer

    return by_aio(mistake, watch)


def by_dependency(mistake: Mistake) -> str:
    check = checks.grpc_service(mistake.address, mistake.service, timeout=1.0, **mistake.arguments)
    try:
        check()
    except (checks.Unhealthy, healthlb.InvalidResponse) as error:
        return str(error)
    raise AssertionError("it works")


CODE: dict[str, Callable[[Mistake], str]] = {
    "check": by_check,
    "list": by_list,
    "watch": by_watch,
    "watch, callback": by_callback,
    "watch, followed": by_follow,
    "aio check": by_aio_check,
    "aio list": by_aio_list,
    "aio watch": by_aio_watch,
    "aio watch, followed": by_aio_follow,
    "aio watch, callback": by_aio_callback,
    "grpc_service": by_dependency,
}


def is_left_out(mistake: Mistake, surface: str) -> bool:
    return any(skip in surface for skip in mistake.skips)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("surface", CODE)
def test_a_client_says_what_to_do(mistakes: dict[str, Mistake], surface: str, name: str) -> None:
    mistake = mistakes[name]
    if is_left_out(mistake, surface):
        return
    said = CODE[surface](mistake)

    assert mistake.remedy in said, said
    assert mistake.code in said, said
    if surface == "grpc_service":
        assert printable(said) == said  # a manager shows so much of it
    assert "service=None" not in said  # which is an argument of channels


@pytest.mark.parametrize("name", NAMES)
def test_the_probe_says_what_to_do(mistakes: dict[str, Mistake], name: str) -> None:
    mistake = mistakes[name]
    if is_left_out(mistake, "probe"):
        return
    flags = [flag.replace("--", "-", 1) for flag in mistake.flags]
    with redirect_stderr(io.StringIO()) as said:
        code = probe.main([f"-addr={mistake.address}", f"-service={mistake.service}", "-connect-timeout=700ms", *flags])

    first, second = said.getvalue().splitlines()
    assert (code in (2, 3), TELLS in first, second.startswith(TELLS)) == (True, False, True)
    assert mistake.remedy in second
    assert mistake.command.replace("--header", "-rpc-header").replace("--", "-") in second


@pytest.mark.parametrize("name", NAMES)
def test_the_command_that_lists_says_what_to_do(mistakes: dict[str, Mistake], name: str) -> None:
    mistake = mistakes[name]
    if is_left_out(mistake, "command: list"):
        return
    ended = CliRunner().invoke(cli, ["list", mistake.address, "--timeout", "2", *mistake.flags])

    assert ended.exit_code == 3
    assert mistake.remedy in ended.output
    assert mistake.command in ended.output


def test_the_command_that_watches_says_what_to_do(mistakes: dict[str, Mistake]) -> None:
    groups: dict[tuple[str, ...], dict[str, Mistake]] = {}
    for mistake in mistakes.values():
        if not is_left_out(mistake, "watch command"):
            groups.setdefault((mistake.service, *mistake.flags), {})[mistake.address] = mistake
    with futures.ThreadPoolExecutor(len(groups)) as pool:
        for said in pool.map(watched, groups, groups.values()):
            for mistake, remedy, errors in said:
                assert mistake.remedy in remedy
                assert mistake.command in remedy
                assert errors == ""


def watched(group: tuple[str, ...], mistakes: dict[str, Mistake]) -> list[tuple[Mistake, str, str]]:
    """Return the first line of `healthlb watch` for each address, and what it has logged."""
    service, *flags = group
    command = [sys.executable, "-u", "-m", "healthlb.cli", "watch", *mistakes, "--json", "--service", service, *flags]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"GRPC_VERBOSITY": "NONE"}
    )
    assert process.stdout is not None
    remedies: dict[str, str] = {}
    while len(remedies) < len(mistakes):
        record = json.loads(process.stdout.readline())
        remedies.setdefault(record["address"], record["remedy"])
    process.kill()
    errors = process.communicate(timeout=PATIENCE)[1]
    return [(mistake, remedies[address], errors) for address, mistake in mistakes.items()]


# --- channels that a client is given ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("plaintext to TLS", "open the channel with grpc.secure_channel"),
        ("token refused", "with metadata=..., or as call credentials of the channel"),
        ("port closed", "nothing listens there"),
        ("no health service", "the server has no health service"),
    ],
)
def test_a_channel_of_grpcio_is_told_of_as_one(mistakes: dict[str, Mistake], name: str, part: str) -> None:
    with grpc.insecure_channel(mistakes[name].address) as channel, healthlb.HealthClient(channel) as client:
        with pytest.raises(grpc.RpcError) as caught:
            client.check(timeout=PATIENCE)
        with pytest.raises(grpc.RpcError) as plain:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=PATIENCE)

    theirs, ours = plain.value.details(), said_by(caught.value)
    assert ours.startswith(f"{theirs.removesuffix('.')}. {TELLS}")
    assert part in ours
    assert (type(caught.value), caught.value.code()) == (type(plain.value), plain.value.code())


@pytest.mark.parametrize("name", ["plaintext to TLS", "port closed", "not gRPC"])
def test_a_channel_of_ours_says_it_once(mistakes: dict[str, Mistake], name: str) -> None:
    with healthlb.HealthAwareChannel([mistakes[name].address]) as channel, healthlb.HealthClient(channel) as client:
        with pytest.raises(grpc.RpcError) as caught:
            client.check(timeout=PATIENCE)
        with client.watch() as watching, pytest.raises(grpc.RpcError) as ended:
            next(watching)

    for said in (said_by(caught.value), str(ended.value.details())):
        assert said.count(TELLS) == 1
        assert mistakes[name].remedy in said


# --- what is no first mistake ----------------------------------------------------------------------------


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_a_followed_watch_warns_once(mistakes: dict[str, Mistake], face: str) -> None:
    closed, said = mistakes["port closed"], []
    with collected() as lines:
        if face == "sync":
            with client_of(healthlb, closed) as client:
                for _ in range(2):
                    with client.watch(follow=True) as watching:
                        said.append(next(watching))
        else:

            async def follow() -> None:
                async with client_of(healthlb.aio, closed) as client:
                    for _ in range(2):
                        async with client.watch(follow=True) as watching:
                            said.append(await anext(watching))

            asyncio.run(follow())

    assert said == [healthlb.ServingStatus.UNKNOWN] * 2
    (warning,) = warnings_of(lines, closed.address)
    assert warning.startswith(f"{closed.address}: UNAVAILABLE: ")
    assert closed.remedy in warning
    assert {level for level, _ in lines} == {logging.WARNING}


def test_a_backend_that_leaves_later_is_no_mistake() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    from healthlb.server import HealthServicer

    HealthServicer().add_to_server(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with collected() as lines, healthlb.HealthClient(address) as client, client.watch(follow=True) as watching:
        assert next(watching) is healthlb.ServingStatus.SERVING
        server.stop(None).wait()
        assert next(watching) is healthlb.ServingStatus.UNKNOWN
        assert "nothing listens there" in watching.answer.remedy or "Socket closed" in watching.answer.details

    assert warnings_of(lines, address) == []


def test_a_token_goes_with_every_way_of_asking(mistakes: dict[str, Mistake]) -> None:
    address, pair = mistakes["token refused"].address, ("authorization", "Bearer t0ken")
    header = f"{pair[0].title()}: {pair[1]}"
    with healthlb.HealthClient(address, metadata=[pair]) as client:
        assert client.check(timeout=PATIENCE) is healthlb.ServingStatus.SERVING
    checks.grpc_service(address, metadata=[pair], timeout=PATIENCE)()
    listed = CliRunner().invoke(cli, ["list", address, "--header", header])

    assert "UNIMPLEMENTED" in listed.output  # it is let in, and the stock servicer has no List
    with redirect_stderr(io.StringIO()) as said:
        assert probe.main([f"-addr={address}", f"-rpc-header={header}", "-connect-timeout=15s"]) == 0, said.getvalue()
    refused = CliRunner().invoke(cli, ["list", address, "--header", "t0ken"])
    assert (refused.exit_code, "it must be in the form 'name: value'" in refused.output) == (2, True)


@pytest.mark.parametrize("method", ["check", "list", "watch"])
def test_a_sync_client_in_an_event_loop_says_so_once(method: str) -> None:
    async def ask(address: str) -> None:
        with healthlb.HealthClient(address) as client:
            for _ in range(2):
                if method == "watch":
                    with client.watch() as watching:
                        next(watching)
                else:
                    getattr(client, method)(timeout=PATIENCE)

    with closing(Served()) as served, collected() as lines:
        asyncio.run(ask(served.address))
        with healthlb.HealthClient(served.address) as client:
            client.check(timeout=PATIENCE)  # where no loop runs
            client.watch(callback=print).close()
        (warning,) = warnings_of(lines, served.address)

    assert "a sync health client is used inside a running event loop" in warning
    assert "use healthlb.aio.HealthClient" in warning


def accept_and_end(address: str) -> socket.socket:
    """Take the connections at an address, and end them, as a server does that expects something else."""
    listener = socket.create_server(("127.0.0.1", int(address.rpartition(":")[2])))

    def accept() -> None:
        with suppress(OSError):
            while True:
                listener.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()
    return listener


@pytest.mark.parametrize("face", ["sync", "aio"])
def test_the_newest_reason_is_the_answer(face: str) -> None:
    """UNKNOWN is told once, but what is to be done may change: nobody listened there, and now one does who ends it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    said: list[Any] = []

    def is_newest(watches: list[Any]) -> bool:
        return all(watch.answer is not None and "Socket closed" in watch.answer.details for watch in watches)

    async def watch_aio() -> None:
        async with healthlb.aio.HealthClient(address) as client:
            watches = [client.watch(callback=said.append, follow=True), client.watch(follow=True)]
            assert await anext(watches[1]) is healthlb.ServingStatus.UNKNOWN  # type: ignore[call-overload]
            assert "nothing listens there" in watches[1].answer.remedy  # type: ignore[union-attr]
            with closing(accept_and_end(address)):
                while not is_newest(watches):
                    await asyncio.sleep(0.02)

    def watch_sync() -> None:
        with healthlb.HealthClient(address) as client:
            watch = client.watch(callback=said.append, follow=True)
            eventually(lambda: watch.answer is not None and "nothing listens there" in watch.answer.remedy)
            with closing(accept_and_end(address)):
                eventually(lambda: is_newest([watch]))

    with collected() as lines:
        if face == "sync":
            watch_sync()
        else:
            asyncio.run(asyncio.wait_for(watch_aio(), PATIENCE))

    assert said == [healthlb.ServingStatus.UNKNOWN]
    first, second = warnings_of(lines, address)
    assert ("nothing listens there" in first, "ends it at once" in second) == (True, True)
