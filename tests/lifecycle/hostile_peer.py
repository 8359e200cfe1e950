"""A peer that accepts each connection, ends it with SETTINGS and GOAWAY, and closes it.

Run it as `python -m tests.lifecycle.hostile_peer`, with `open` to have it leave them open: it prints its port, and after each line that it reads how many
connections it has had. It has a process of its own, since it must go on closing whatever happens to its client's.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PREFACE = 24
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
_GOAWAY = b"\0\0\x08\x07\0\0\0\0\0" + struct.pack(">II", 0, 0)


class HostilePeer:
    """The peer, as a test has it.

    Args:
        stays_open: leave the connections open that were ended.

    Attributes:
        address: where it listens.
    """

    def __init__(self, *, stays_open: bool = False) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.lifecycle.hostile_peer", *(["open"] if stays_open else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        self.address = f"127.0.0.1:{self._read()}"

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def dials(self) -> int:
        """Return how many connections it has had."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def _serve(listener: socket.socket, accepted: list[socket.socket], *, stays_open: bool) -> None:
    while True:
        connection, _ = listener.accept()
        accepted.append(connection)
        connection.settimeout(2)
        with contextlib.suppress(OSError):
            connection.recv(_PREFACE, socket.MSG_WAITALL)
            connection.sendall(_SETTINGS + _GOAWAY)
        if not stays_open:
            connection.close()


def main() -> None:
    """Serve until standard input ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    accepted: list[socket.socket] = []
    serve = partial(_serve, listener, accepted, stays_open="open" in sys.argv[1:])
    for _ in range(4):
        threading.Thread(target=serve, daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        print(len(accepted), flush=True)


if __name__ == "__main__":
    main()
