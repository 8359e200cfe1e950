"""A peer that ends its connection with each answer, as servers and gateways with one request a connection do.

It answers Watches with SERVING, and they go on; of other calls it sees the bytes alone.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

from tests.backends.certs import Certificates
from tests.failover.cut_off_peer import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
    frames,
    headers,
    literal,
    message,
    read,
)

_EMPTY = 5  # bytes of an empty request in gRPC's envelope: what a Watch of "" asks with
_SERVING = b"\x08\x01"
_OK = HEADERS, END_HEADERS | END_STREAM, literal(b"grpc-status", b"0")


@contextlib.contextmanager
def one_answer_each(certificates: Certificates | None = None) -> Iterator[str]:
    """Give the peer's address.

    Args:
        certificates: for TLS, None for plaintext.
    """
    context = None if certificates is None else _tls(certificates)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    accepting = threading.Thread(target=_accept, args=(listener, context), daemon=True)
    accepting.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    listener.close()


def _tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server.certificate_path, certificates.server.key_path)
    context.set_alpn_protocols(["h2"])
    return context


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_serve, args=(connection, context), daemon=True).start()


def _serve(connection: socket.socket, context: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError, EOFError):
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            read(connection, PREFACE)
            connection.sendall(frame(SETTINGS, 0, 0))
            for kind, flags, stream, size in frames(connection):
                if kind == DATA and flags & END_STREAM and _answer(connection, stream, size):
                    connection.shutdown(socket.SHUT_RDWR)
                    return


def _answer(connection: socket.socket, stream: int, size: int) -> bool:
    """Answer a request of this size; True where that was all."""
    is_watch = size == _EMPTY
    answer = (headers(), message(_SERVING)) if is_watch else (headers(), message(b"done"), _OK)
    connection.sendall(b"".join(frame(kind, flags, stream, body) for kind, flags, body in answer))
    return not is_watch
