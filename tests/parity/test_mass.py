"""A hundred subchannels in one channel."""

from __future__ import annotations

import os
import threading
from collections import Counter

from tests.parity.face import Face, becomes
from tests.parity.fleet import Fleet

MANY = 100


def threads() -> int:
    """How many threads the process has, C-core's included."""
    return len(os.listdir("/proc/self/task"))


def test_a_flip_is_seen_by_a_hundred(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"ports": MANY})
    before, python_before = threads(), threading.active_count()
    client = face.ready(backend.addresses)
    answered = Counter()
    for _ in range(2 * MANY):
        answered[client.call()] += 1
    picks = {status.picks for status in client.subchannels()}
    most, python_most = threads(), threading.active_count()
    backend.set("NOT_SERVING", "svc")
    becomes(lambda: Counter(client.states()), Counter(TRANSIENT_FAILURE=MANY))
    backend.set("SERVING", "svc")
    becomes(lambda: Counter(client.states()), Counter(READY=MANY))

    assert answered == Counter(b0=2 * MANY)
    assert picks == {2}
    # Not one thread, nor two, for each: C-core's own pool and a handful.
    assert most - before < 30
    assert python_most - python_before < 10
    assert backend.stats().watches_open == MANY


def test_a_hundred_come_back_after_a_restart(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"ports": MANY})
    client = face.ready(backend.addresses)
    backend.restart()
    becomes(lambda: Counter(client.states()), Counter(READY=MANY))
    becomes(lambda: backend.stats().watches_open, MANY)

    assert {client.call() for _ in range(MANY)} == {"b0"}
