"""A client that opens a Watch and takes nothing: HTTP/2 by hand, with a window of 0 bytes."""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_INITIAL_WINDOW_SIZE = 4
_HEADER_LIST = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/grpc.health.v1.Health/Watch",
    ":authority": "stuck",
    "content-type": "application/grpc",
    "te": "trailers",
}


def open_stuck_watch(address: str) -> socket.socket:
    """Return the connection; its Watch of `""` cannot be answered until it is closed."""
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)))
    settings = _frame(_SETTINGS, 0, 0, struct.pack("!HI", _INITIAL_WINDOW_SIZE, 0))
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in _HEADER_LIST.items())
    headers = _frame(_HEADERS, 0x4, 1, block)
    # An empty request in gRPC's envelope, and the end of what the client sends.
    connection.sendall(_PREFACE + settings + headers + _frame(_DATA, 0x1, 1, bytes(5)))
    return connection


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
