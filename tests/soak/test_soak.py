"""Nothing lost, nothing grown, nothing that hangs at the end; `-m soak` for ten minutes.

SOAK_SEED=2 takes another course, SOAK_SECONDS=60 another time.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import psutil
import pytest

from healthlb import Failover, attempts_of
from tests.backends.clients import eventually
from tests.parity.aio_face import AioFace
from tests.parity.face import Asked, Client, Face
from tests.parity.sync_face import SyncFace
from tests.soak.world import SERVICE, Restless, troubled_world

SEED = int(os.environ.get("SOAK_SEED", "1"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
RATE = 40
DEADLINE = 10.0
# More attempts than there are peers that say SERVING and lie.
FAILOVER = Failover(idempotent=True, max_attempts=6)
# What may be more at the end than after the first third: bytes, descriptors.
GROWTH = {"rss": 64 << 20, "descriptors": 60}


class Calls:
    """Calls of one client at a steady rate, of which only the failed ones are kept."""

    def __init__(self, client: Client) -> None:
        """Prepare."""
        self._client = client
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.begun = 0
        self.ended = 0
        self.lost: list[str] = []

    def __enter__(self) -> Calls:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Begin no more, wait for the end of all."""
        self._stop.set()
        self._thread.join()
        eventually(lambda: self.ended == self.begun, DEADLINE + 15)

    def _run(self) -> None:
        while not self._stop.wait(1 / RATE):
            self.begun += 1
            self._client.fire(Asked(timeout=DEADLINE), self._done)

    def _done(self, began_at: float, answer: bytes | None, error: grpc.RpcError | None) -> None:
        if error is not None:
            tried = [(attempt.address, attempt.code.name) for attempt in attempts_of(error)]
            self.lost.append(f"after {time.monotonic() - began_at:.1f} s, tried {tried}: {error.details()}")  # type: ignore[attr-defined]
        self.ended += 1


def held() -> dict[str, int]:
    """What this process holds."""
    gc.collect()
    process = psutil.Process()
    return {"rss": process.memory_info().rss, "descriptors": process.num_fds()}


@contextmanager
def faces() -> Iterator[list[Face]]:
    """Both faces; what they leave open is closed, in time."""
    made: list[Face] = [SyncFace(), AioFace()]
    yield made
    closing = [threading.Thread(target=face.close, daemon=True) for face in made]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(30)
    assert not any(thread.is_alive() for thread in closing), "close() hangs"


def soak(seconds: float) -> None:
    """Live through it."""
    with troubled_world(SEED) as (constant, others, troubles), faces() as made:
        clients = [
            face.open(Restless(SEED + number, constant, others), SERVICE, failover=FAILOVER)
            for number, face in enumerate(made)
        ]
        for client in clients:
            client.wait_until_ready()
        with Calls(clients[0]) as sync, Calls(clients[1]) as aio:
            time.sleep(seconds / 3)
            before = held()
            time.sleep(seconds * 2 / 3)
            after = held()

        print(
            {"calls": sync.ended + aio.ended, "faults": sum(len(trouble.done) for trouble in troubles)}, before, after
        )
        assert sync.ended > RATE * seconds / 4
        assert aio.ended > RATE * seconds / 4
        assert (len(sync.lost), len(aio.lost)) == (0, 0), sync.lost[:3] + aio.lost[:3]
        assert {name: after[name] - before[name] for name in GROWTH if after[name] - before[name] > GROWTH[name]} == {}


def test_a_quarter_of_a_minute() -> None:
    soak(15)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
def test_ten_minutes() -> None:
    soak(SECONDS)
