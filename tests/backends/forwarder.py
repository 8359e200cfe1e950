"""`Forwarder`: what stands between clients and servers in the field, a virtual IP or a middlebox that forgets.

One rule: it knows connections and time, and nothing of what they carry.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from itertools import count


class Forwarder:
    """Forwards each new connection to the next of some servers.

    Args:
        targets: addresses, "host:port", in turn.
        forgets_after: seconds without a byte after which a connection is forgotten: what is sent on it then gets
            nowhere, and nobody is told. None for never.

    Attributes:
        address: where clients connect.
        accepted: connections so far.
    """

    def __init__(self, targets: Sequence[str], forgets_after: float | None = None) -> None:
        """Listen on a free port."""
        self._targets = list(targets)
        self._forgets_after = forgets_after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Forwarder:
        """Return this forwarder."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close everything."""
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            for number in count():
                client, _ = self._listening.accept()
                self.accepted += 1
                self._open.append(client)
                self._connect(client, self._targets[number % len(self._targets)])

    def _connect(self, client: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        try:
            server = socket.create_connection((host, int(port)))
        except OSError:
            client.close()
            return
        self._open.append(server)
        link = _Link(self._forgets_after)
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=link.run, args=(source, sink), daemon=True).start()


class _Link:
    def __init__(self, forgets_after: float | None) -> None:
        self._forgets_after = forgets_after
        self._last_byte_at = time.monotonic()
        self._is_forgotten = False

    def run(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                now = time.monotonic()
                if self._forgets_after is not None and now - self._last_byte_at > self._forgets_after:
                    self._is_forgotten = True
                self._last_byte_at = now
                if not self._is_forgotten:
                    sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
