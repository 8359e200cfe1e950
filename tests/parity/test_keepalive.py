"""What the docs advise against middleboxes that forget quiet connections keeps a connection for calls alive."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from healthlb import HealthCheck, Heartbeat
from tests.backends.clients import eventually
from tests.parity.face import Face
from tests.parity.fleet import Fleet

# As in running.md, but for the times, in which servers of this test allow a ping.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
PERMIT = [["grpc.http2.min_ping_interval_without_data_ms", 100], ["grpc.http2.max_ping_strikes", 0]]
QUIET = 4.0  # Seconds after which a connection is forgotten: three pings may be late.


class Middlebox:
    """Forwards connections to one address, and swallows what is sent on those that were quiet for `QUIET`.

    Attributes:
        address: where it listens.
        forgotten: how many connections it has forgotten.
    """

    def __init__(self, target: str) -> None:
        """Listen on a free port."""
        self._host, _, self._port = target.rpartition(":")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.forgotten = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection((self._host, int(self._port)))
                threading.Thread(target=self._forward, args=(near, far), daemon=True).start()

    def _forward(self, near: socket.socket, far: socket.socket) -> None:
        heard_at = time.monotonic()
        is_forgotten = False
        with near, far, contextlib.suppress(OSError):
            while True:
                readable, _, _ = select.select([near, far], [], [], 0.1)
                if not is_forgotten and time.monotonic() - heard_at > QUIET:
                    is_forgotten = True
                    self.forgotten += 1
                for side in readable:
                    if not (data := side.recv(65536)):
                        return
                    if not is_forgotten:
                        heard_at = time.monotonic()
                        (far if side is near else near).sendall(data)

    def close(self) -> None:
        """Take no further connections; those that stand end with their clients."""
        self._listener.close()


@pytest.fixture
def middlebox(fleet: Fleet) -> Iterator[Middlebox]:
    """One in front of a server that permits pings."""
    (backend,) = fleet.lend(options={"args": PERMIT})
    made = Middlebox(backend.address)
    yield made
    made.close()


def test_a_keepalive_without_calls_keeps_the_connection_for_calls(sync_face: Face, middlebox: Middlebox) -> None:
    # The heartbeat keeps the other connection, on which health comes.
    health = HealthCheck(heartbeat=Heartbeat(interval=1.0))
    own = ("grpc.use_local_subchannel_pool", 1)
    kept = sync_face.ready([middlebox.address], options=[own, *KEEPALIVE], health=health)
    advised_by_half = sync_face.ready([middlebox.address], options=[own, *KEEPALIVE[:1]], health=health)
    for client in (kept, advised_by_half):
        assert client.call() == "b0"
    eventually(lambda: middlebox.forgotten == 1)
    end_at = time.monotonic() + 2 * QUIET  # longer than the two pings that grpcio sends without data unless it is told
    eventually(lambda: time.monotonic() > end_at)

    assert kept.call(timeout=2.0) == "b0"
    assert middlebox.forgotten == 1
    with pytest.raises(grpc.RpcError):
        advised_by_half.call(timeout=1.0)
