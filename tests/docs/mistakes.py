"""First mistakes against real servers, and what a user sees of each: in the call's error, in `wait_until_ready`, in the log."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2_grpc

import healthlb
import healthlb.aio
from tests.backends.addresses import Reservation
from tests.backends.certs import Certificates, make_certificates

ECHO = "/shop.Cart/Get"
PATIENCE = 20.0
_LIMIT = 1000


@dataclass(frozen=True)
class Seen:
    """What was seen of a mistake.

    Attributes:
        call: the text of the call's error, "" where it had none.
        waited: the text of the error of `wait_until_ready`, "" where it had none.
        warnings: what was logged as a WARNING.
    """

    call: str
    waited: str
    warnings: list[str]


@dataclass(frozen=True)
class Mistake:
    """One mistake: how the channel is made, and what is called."""

    target: Any
    service: str | None = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    request: bytes = b""


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.levelno, record.getMessage()))


def warnings_of(lines: list[tuple[int, str]], address: str) -> list[str]:
    """Return the WARNINGs that name an address."""
    return [text for level, text in lines if level == logging.WARNING and address in text]


@contextlib.contextmanager
def collected() -> Iterator[list[tuple[int, str]]]:
    """Collect what healthlb logs."""
    handler = _Collector()
    logger = logging.getLogger("healthlb")
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def address_of(mistake: Mistake) -> str:
    """Return how texts name the target."""
    if isinstance(mistake.target, list):
        return str(mistake.target[0])
    return str(mistake.target).rpartition("/")[2].rpartition(":")[0]


def make_sync(mistake: Mistake) -> tuple[str, str]:
    """Make it with a sync channel; return the texts of the errors of a call and of `wait_until_ready`."""
    with healthlb.HealthAwareChannel(mistake.target, mistake.service, **mistake.arguments) as channel:
        call = waited = ""
        try:
            channel.unary_unary(ECHO)(mistake.request, timeout=PATIENCE)
        except grpc.RpcError as error:
            call = error.details()
            assert call in str(error)
        try:
            channel.wait_until_ready(timeout=0.0)
        except TimeoutError as error:
            waited = str(error)
        return call, waited


async def make_aio(mistake: Mistake) -> tuple[str, str]:
    """Make it with an asyncio channel."""
    async with healthlb.aio.HealthAwareChannel(mistake.target, mistake.service, **mistake.arguments) as channel:
        call = waited = ""
        try:
            await channel.unary_unary(ECHO)(mistake.request, timeout=PATIENCE)
        except grpc.aio.AioRpcError as error:
            call = error.details() or ""
        try:
            await channel.wait_until_ready(timeout=0.0)
        except TimeoutError as error:
            waited = str(error)
        return call, waited


def see_sync(mistakes: dict[str, Mistake]) -> dict[str, Seen]:
    """Make all at the same time, with sync channels."""
    with collected() as lines, futures.ThreadPoolExecutor(len(mistakes)) as pool:
        texts = dict(zip(mistakes, pool.map(make_sync, mistakes.values()), strict=True))
    return _seen(mistakes, texts, lines)


def see_aio(mistakes: dict[str, Mistake]) -> dict[str, Seen]:
    """Make all at the same time, with asyncio channels."""

    async def make_all() -> list[tuple[str, str]]:
        return await asyncio.gather(*(make_aio(mistake) for mistake in mistakes.values()))

    with collected() as lines:
        texts = dict(zip(mistakes, asyncio.run(make_all()), strict=True))
    return _seen(mistakes, texts, lines)


def _seen(
    mistakes: dict[str, Mistake], texts: dict[str, tuple[str, str]], lines: list[tuple[int, str]]
) -> dict[str, Seen]:
    return {
        name: Seen(*map(anonymous, texts[name]), list(map(anonymous, warnings_of(lines, address_of(mistake)))))
        for name, mistake in mistakes.items()
    }


def anonymous(text: str) -> str:
    """Return a text with the address that the pages have."""
    return re.sub(r"127\.0\.0\.1:[0-9]+", "10.0.0.1:50051", text)


# --- the servers -----------------------------------------------------------------------------------------


class _Blocking(health.HealthServicer):  # type: ignore[misc]
    """The stock one keeps `experimental_non_blocking` with its class's function: the last that was made decides."""

    def Watch(self, *arguments: Any) -> Any:
        return super().Watch(*arguments)


class _Refuses(grpc.ServerInterceptor):
    """Lets nobody in without a token, as authentication does that covers the health service, too."""

    def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        if dict(details.invocation_metadata).get("authorization") == "Bearer t0ken":
            return continuation(details)

        def refuse(request: bytes, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a token is missing")

        make = (
            grpc.unary_stream_rpc_method_handler if "Watch" in details.method else grpc.unary_unary_rpc_method_handler
        )
        return make(refuse)


class Servers:
    """Real servers, in this process, of all the kinds that mistakes take."""

    def __init__(self, folder: Path) -> None:
        folders = [folder / name for name in ("good", "misnamed", "expired", "early", "unnamed")]
        for each in folders:
            each.mkdir()
        self.certificates = make_certificates(folders[0], ["127.0.0.1"])
        self.misnamed = make_certificates(folders[1], ["shop.example"])
        self.expired = make_certificates(folders[2], ["127.0.0.1"], is_expired=True)
        self.early = make_certificates(folders[3], ["127.0.0.1"], is_early=True)
        self.unnamed = make_certificates(folders[4], [], common_name="127.0.0.1")
        self._ends: list[Callable[[], object]] = []

    def close(self) -> None:
        """End all of them."""
        for end in reversed(self._ends):
            end()

    def grpc(
        self,
        certificates: Certificates | None = None,
        *,
        mutual: bool = False,
        has_health: bool = True,
        is_blocking: bool = False,
        **arguments: Any,
    ) -> str:
        """Start a gRPC server that serves `shop.Cart`; return its address."""
        server = grpc.server(futures.ThreadPoolExecutor(4), **arguments)
        echo = {"Get": grpc.unary_unary_rpc_method_handler(lambda request, context: request)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", echo),))
        if has_health:
            servicer = _Blocking(experimental_non_blocking=False) if is_blocking else health.HealthServicer()
            servicer.set("shop.Cart", 1)
            health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        if certificates is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            pair = [(certificates.server.key, certificates.server.certificate)]
            root = certificates.ca.certificate if mutual else None
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair, root, mutual))
        server.start()
        self._ends.append(lambda: server.stop(0).wait())
        return f"127.0.0.1:{port}"

    def http1(self) -> str:
        """Start a web server; return its address."""

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        self._ends += [server.server_close, thread.join, server.shutdown]
        return f"127.0.0.1:{server.server_port}"

    def web(self) -> str:
        """Start a server of HTTP/2 that has no route for anything: 404. Return its address."""
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        self._ends.append(listener.close)
        self._ends.append(lambda: _shut(listener))
        return f"127.0.0.1:{listener.getsockname()[1]}"

    def closed(self) -> str:
        """Return an address that nobody listens on."""
        reservation = Reservation(["127.0.0.1:0"])
        self._ends.append(reservation.release)
        return reservation.addresses[0]

    def refuses(self) -> grpc.ServerInterceptor:
        """Return an interceptor that lets nobody in without a token."""
        return _Refuses()

    def only(self, service: str) -> str:
        """Start a server whose health is that of one service, and not of the whole; return its address."""
        return self._health({"Check": _unknown, "Watch": _unknown_status})

    def other(self) -> str:
        """Start a server whose `grpc.health.v1.Health` answers with other messages; return its address."""
        return self._health({"Check": _other, "List": _other, "Watch": _others})

    def _health(self, methods: dict[str, Callable[..., Any]]) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        make = grpc.unary_unary_rpc_method_handler
        handlers = {
            name: (grpc.unary_stream_rpc_method_handler if name == "Watch" else make)(method)
            for name, method in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._ends.append(lambda: server.stop(0).wait())
        return f"127.0.0.1:{port}"

    def full(self) -> str:
        """Start a server that allows one call at a time, which is somebody's Watch; return its address."""
        # grpcio counts the Watches of the blocking servicer alone: each holds a thread.
        address = self.grpc(is_blocking=True, maximum_concurrent_rpcs=1)
        other = grpc.insecure_channel(address)
        watch = other.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        next(watch)
        self._ends += [other.close, watch.cancel]
        return address


def _unknown(request: bytes, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")


def _unknown_status(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield b"\x08\x03"


def _other(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b"\xff"


def _others(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield b"\xff"


def _shut(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection,), daemon=True).start()


_SETTINGS, _PING, _HEADERS = 4, 6, 1
_404 = b"\x8d"  # `:status: 404` in the static table of HPACK (RFC 7541, appendix A)


def _answer(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
        reader.read(24)  # the preface
        connection.sendall(_frame(_SETTINGS, 0, 0))
        while header := reader.read(9):
            kind, flags, stream = header[3], header[4], int.from_bytes(header[5:]) & 0x7FFFFFFF
            payload = reader.read(int.from_bytes(header[:3]))
            if kind in (_SETTINGS, _PING) and not flags & 1:
                connection.sendall(_frame(kind, 1, 0, payload if kind == _PING else b""))
            elif kind == _HEADERS:
                connection.sendall(_frame(_HEADERS, 5, stream, _404))


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def failing_credentials(channel: grpc.ChannelCredentials) -> grpc.ChannelCredentials:
    """Return credentials whose part for calls raises."""

    def fetch(context: object, callback: object) -> None:
        raise OSError("no token file")

    return grpc.composite_channel_credentials(channel, grpc.metadata_call_credentials(fetch))


def _of(servers: Servers, certificates: Certificates) -> Mistake:
    return Mistake([servers.grpc(certificates)], "", {"credentials": certificates.channel_credentials()})


def all_mistakes(servers: Servers) -> dict[str, Mistake]:
    """Return every mistake of the page, by the name it has there."""
    trusting = servers.certificates.channel_credentials()
    secure, misnamed = servers.grpc(servers.certificates), servers.grpc(servers.misnamed)
    mutual = servers.grpc(servers.certificates, mutual=True)
    limited = {"options": [("grpc.max_receive_message_length", _LIMIT)]}
    return {
        "unknown service": Mistake([servers.grpc()], "shop.Basket"),
        "no health service": Mistake([servers.grpc(has_health=False)]),
        "plaintext to TLS": Mistake([secure]),
        "TLS to plaintext": Mistake([servers.grpc()], "", {"credentials": trusting}),
        "another name": Mistake([misnamed], "", {"credentials": servers.misnamed.channel_credentials()}),
        "another CA": Mistake(
            [servers.grpc(servers.certificates)], "", {"credentials": grpc.ssl_channel_credentials()}
        ),
        "certificate expired": _of(servers, servers.expired),
        "certificate not yet valid": _of(servers, servers.early),
        "certificate without the name": _of(servers, servers.unnamed),
        "no client certificate": Mistake([mutual], "", {"credentials": trusting}),
        "no PEM": Mistake(
            [servers.grpc(servers.certificates)], "", {"credentials": grpc.ssl_channel_credentials(b"/etc/ssl/ca.pem")}
        ),
        "not gRPC": Mistake([servers.http1()]),
        "port closed": Mistake([servers.closed()]),
        "name unknown": Mistake(["no-such-host.invalid:50051"]),
        "name unknown to DNS": Mistake("dns:///no-such-name.invalid:50051"),
        "wrong authority": Mistake([servers.web()]),
        "token refused": Mistake([servers.grpc(interceptors=(_Refuses(),))]),
        "credentials fail": Mistake(
            [servers.grpc(servers.certificates)], "", {"credentials": failing_credentials(trusting)}
        ),
        "server full": Mistake([servers.full()]),
        "Watches fill the server": Mistake([servers.grpc(is_blocking=True, maximum_concurrent_rpcs=1)]),
        "message too big": Mistake([servers.grpc()], "", limited, bytes(2 * _LIMIT)),
    }
