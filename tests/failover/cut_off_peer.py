"""A peer that begins each answer, and resets its connection before the answer has ended.

It writes HTTP/2 by hand, since no server of grpcio's stops between the frames of a response. The client has taken in
what was sent before the reset: it has acknowledged a PING that was sent behind it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Self

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0x0, 0x1, 0x3, 0x4, 0x6
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PREFACE = 24
_STATUS_200 = b"\x88"  # in the static table of HPACK (RFC 7541, appendix A)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(key: bytes, value: bytes) -> bytes:
    """Return a header in HPACK's plainest form (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes((len(key),)) + key + bytes((len(value),)) + value


def headers(**metadata: str) -> tuple[int, int, bytes]:
    """Return the response headers of a call, with these metadata."""
    pairs = b"".join(literal(key.replace("_", "-").encode(), value.encode()) for key, value in metadata.items())
    return HEADERS, END_HEADERS, _STATUS_200 + literal(b"content-type", b"application/grpc") + pairs


def message(body: bytes) -> tuple[int, int, bytes]:
    """Return the frame of one response."""
    return DATA, 0, b"\0" + struct.pack(">I", len(body)) + body


def reset(code: int) -> tuple[int, int, bytes]:
    """Return the frame that ends a stream without a status (RFC 9113, section 7)."""
    return RST_STREAM, 0, struct.pack(">I", code)


class CutOffPeer:
    """The peer, from `with` on, on a free port.

    Args:
        answer: the frames that each call is answered with.
        pause: seconds between the moment when the client has them and the reset.

    Attributes:
        address: where it listens.
        calls: how many requests it has read to their end.
    """

    def __init__(self, *answer: tuple[int, int, bytes], pause: float = 0.0) -> None:
        """Listen, but accept nothing yet."""
        self._answer = answer
        self._pause = pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.calls = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        """Accept."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            read(connection, PREFACE)
            connection.sendall(frame(SETTINGS, 0, 0))
            is_answered = False
            for kind, flags, stream, _ in frames(connection):
                if kind in (DATA, HEADERS) and flags & END_STREAM:
                    self.calls += 1
                    is_answered = True
                    answer = b"".join(frame(sent, marks, stream, body) for sent, marks, body in self._answer)
                    connection.sendall(answer + frame(PING, 0, 0, b"received"))
                elif kind == PING and flags & ACK and is_answered:
                    break
            time.sleep(self._pause)
            # Lingering for zero seconds is how a socket is closed by RST.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def read(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes, or raise EOFError."""
    data = b""
    while len(data) < size:
        if not (part := connection.recv(size - len(data))):
            raise EOFError
        data += part
    return data


def frames(connection: socket.socket) -> Iterator[tuple[int, int, int, int]]:
    """Give kind, flags, stream and size of each frame that comes, and acknowledge what asks for it."""
    while True:
        head = read(connection, 9)
        kind, flags = head[3], head[4]
        payload = read(connection, int.from_bytes(head[:3], "big"))
        if kind in (SETTINGS, PING) and not flags & ACK:
            connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
        yield kind, flags, int.from_bytes(head[5:], "big"), len(payload)
