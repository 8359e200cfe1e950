"""Clients that misbehave: HTTP/2 by hand."""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_INITIAL_WINDOW_SIZE = 4
_MESSAGE = 7  # Bytes of a HealthCheckResponse in gRPC's envelope.


def open_stuck_watch(address: str, source: str = "127.0.0.1", messages: int = 0) -> socket.socket:
    """Return the connection; its Watch of `""` cannot be answered until it is closed.

    Args:
        address: of the server.
        source: the IP address of the client.
        messages: that it can take before it is stuck.
    """
    connection = _connect(address, source, messages * _MESSAGE)
    # An empty request in gRPC's envelope, and the end of what the client sends.
    connection.sendall(_headers("Watch") + _frame(_DATA, 0x1, 1, bytes(5)))
    return connection


def open_half_sent(address: str, method: str = "Watch", source: str = "127.0.0.1") -> socket.socket:
    """Return the connection; it has sent the headers of a call, and will never send the request."""
    connection = _connect(address, source, 65535)
    connection.sendall(_headers(method))
    return connection


def _connect(address: str, source: str, window: int) -> socket.socket:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), source_address=(source, 0))
    settings = _frame(_SETTINGS, 0, 0, struct.pack("!HI", _INITIAL_WINDOW_SIZE, window))
    connection.sendall(_PREFACE + settings)
    return connection


def _headers(method: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/grpc.health.v1.Health/{method}",
        ":authority": "stuck",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
    return _frame(_HEADERS, 0x4, 1, block)


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()
