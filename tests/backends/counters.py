"""What a test server has seen, counted under one lock.

One rule: a call is counted when its handler starts, before any sleeping or failing, so that "executed" means what a
user means by it. The ids of unary calls also go to a journal, a file the test process holds, which outlives a SIGKILL.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

_KEPT = 1000  # Enough for a test to look back on, little enough for a day of benchmarks.

Metadata = Iterable[tuple[str, str | bytes]]


class Counters:
    """The tallies behind `Stats`; every method may be called from any thread."""

    def __init__(self, journal: int) -> None:
        """Start from zero; call ids are appended to the file descriptor `journal`."""
        self._journal = journal
        self._lock = threading.Lock()
        self._started_at = time.monotonic()
        self._executions: collections.Counter[str] = collections.Counter()
        self._in_flight = 0
        self._cancelled = 0
        self._checks = 0
        self._watches: collections.Counter[str] = collections.Counter()
        self._watches_open = 0
        self._watch_times: collections.deque[float] = collections.deque(maxlen=_KEPT)
        self._metadata: dict[str, list[list[str]]] = {}
        self._peers: dict[str, dict[str, None]] = collections.defaultdict(dict)

    def call_started(self, method: str, call_id: str | None, metadata: Metadata, peer: str) -> None:
        """Count the start of an execution of one of Echo's methods."""
        if call_id is not None:
            os.write(self._journal, call_id.encode() + b"\n")
        with self._lock:
            self._executions[method] += 1
            self._in_flight += 1
            self._remember(method, metadata, peer)

    def call_ended(self, is_cancelled: bool) -> None:
        """Count the end of an execution."""
        with self._lock:
            self._in_flight -= 1
            self._cancelled += is_cancelled

    def checked(self, metadata: Metadata, peer: str) -> None:
        """Count a Health/Check."""
        with self._lock:
            self._checks += 1
            self._remember("Check", metadata, peer)

    def watch_started(self, service: str, metadata: Metadata, peer: str) -> None:
        """Count a Health/Watch for `service`."""
        with self._lock:
            self._watches[service] += 1
            self._watches_open += 1
            self._watch_times.append(time.monotonic())
            self._remember("Watch", metadata, peer)

    def watch_ended(self) -> None:
        """Count the end of a Health/Watch, whoever ended it."""
        with self._lock:
            self._watches_open -= 1

    def snapshot(self) -> dict[str, Any]:
        """Return the tallies as plain JSON values, by the names of `Stats`."""
        with self._lock:
            return {
                "executions": dict(self._executions),
                "in_flight": self._in_flight,
                "cancelled": self._cancelled,
                "checks": self._checks,
                "watches_started": self._watches.total(),
                "watches_open": self._watches_open,
                "watches": dict(self._watches),
                "watch_times": list(self._watch_times),
                "last_metadata": dict(self._metadata),
                "peers": {method: list(peers) for method, peers in self._peers.items()},
                "started_at": self._started_at,
            }

    def _remember(self, method: str, metadata: Metadata, peer: str) -> None:
        self._metadata[method] = [[k, v if isinstance(v, str) else v.hex()] for k, v in metadata]
        peers = self._peers[method]
        peers[peer] = None
        if len(peers) > _KEPT:
            del peers[next(iter(peers))]
