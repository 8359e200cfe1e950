"""Backends that tests borrow, since starting one costs more than most tests do.

One rule: a backend is returned as it was lent. It says SERVING, answers at once, and no call and no Watch is left on
it, which is also how every test sees that nothing leaks.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from tests.backends import Backend
from tests.backends.clients import eventually

_STEERED = ("sync", "aio", "max_age", "hung_check")
_SERVICES = ("svc", "other")


class Fleet:
    """The backends of a test run."""

    def __init__(self) -> None:
        """Start none yet."""
        self._idle: dict[str, list[Backend]] = {}
        self._lent: list[tuple[str, Backend]] = []

    def lend(self, count: int = 1, kind: str = "sync", **settings: Any) -> list[Backend]:
        """Return `count` backends of a kind, named b0 and so on; `settings` are those of `Backend`."""
        key = json.dumps([kind, settings], sort_keys=True)
        idle = self._idle.setdefault(key, [])
        taken = sum(other == key for other, _ in self._lent)
        names = [f"b{taken + index}" for index in range(count)]
        kept = {backend.name: backend for backend in idle if backend.name in names}
        fresh = {
            name: Backend(kind, name=name, wait=False, **{"services": _SERVICES, **settings})
            for name in names
            if name not in kept
        }
        backends = [(kept | fresh)[name] for name in names]
        self._idle[key] = [backend for backend in idle if backend.name not in kept]
        self._lent.extend((key, backend) for backend in backends)
        for backend in fresh.values():
            backend.wait_ready()
        return backends

    def take_back(self) -> None:
        """Put all that were lent back as they were; those that are down or of another kind now are replaced."""
        lent, self._lent = self._lent, []
        for key, backend in lent:
            if not backend.is_running() or backend.kind != json.loads(key)[0]:
                backend.close()
                continue
            backend.resume()
            self._idle[key].append(backend)
            _restore(backend)

    def close(self) -> None:
        """End all of them."""
        lent = [backend for _, backend in self._lent]
        for backend in itertools.chain(lent, *self._idle.values()):
            backend.close()


def _restore(backend: Backend) -> None:
    backend.behave()
    if backend.kind in _STEERED:
        for service in ("", *_SERVICES):
            backend.set("SERVING", service)
    eventually(lambda: is_idle(backend))


def is_idle(backend: Backend) -> bool:
    """Whether no call and no Watch is open on it."""
    stats = backend.stats()
    return stats.watches_open == 0 and stats.in_flight == 0


def executed(backend: Backend) -> int:
    """How many calls of /test.Echo it has begun in its present life."""
    return sum(backend.stats().executions.values())


def addresses(backends: Sequence[Backend]) -> list[str]:
    """Return the first address of each."""
    return [backend.address for backend in backends]
