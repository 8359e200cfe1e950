"""A channel with very many subchannels: threads, idle CPU, memory, and how fast a mass flip is seen.

The one rule: one contestant in a process, so that the threads, the CPU time and the memory are its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.backends import Backend, BackendError
from tests.benchmarks import process
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.effort import Effort
from tests.benchmarks.subjects import Subject, open_subject

_PATIENCE = 120.0
_LOOK = 0.002  # Seconds between two looks.
_ASK = 0.02  # Between two questions to the server.
_SETTLE = 1.0
_WARM_UP = 20  # Subchannels of a first go, for what a process pays once: imports, threads, arenas.
_STARTS = 3  # Tries before the one whose failure counts.
_OWN_THREADS = 1  # The one that gives orders to the server.


def scale(effort: Effort, face: str, contestant: str) -> list[Measurement]:
    """Measure one contestant."""
    process.raise_file_limit()
    with ThreadPoolExecutor(_OWN_THREADS) as orders:
        orders.submit(int).result()  # The thread is there from the start, and so counted out exactly.
        _measure(replace(effort, subchannels=_WARM_UP, idle_seconds=0.0, flips=1), face, contestant, orders)
        samples = _measure(effort, face, contestant, orders)
    return [Measurement(f"scale_{name}", {contestant: values}, face) for name, values in samples.items()]


def _measure(effort: Effort, face: str, contestant: str, orders: ThreadPoolExecutor) -> dict[str, list[float]]:
    with _fleet(effort.subchannels) as backend:
        before = process.memory()
        began_at, cpu_before = time.monotonic(), process.cpu_seconds()
        with open_subject(face, contestant, backend.addresses) as subject:
            watch = _Lookout(subject, orders)
            watch.until(subject.are_all_in)
            watch.until(lambda: backend.stats().watches_open == effort.subchannels, _ASK)
            up = {"up": [time.monotonic() - began_at], "opening_cpu": [process.cpu_seconds() - cpu_before]}
            subject.pause(_SETTLE)
            memory = _memory(before, effort.subchannels)
            cpu = {"cpu": [_idle_cpu(subject, effort.idle_seconds)]}
            flips = _flip(subject, watch, backend, effort.flips)
            return {"threads": [watch.most_threads], **cpu, **flips, **memory, **up}


def _fleet(size: int) -> Backend:
    """Start one server on many ports; again where one of them was taken at that moment."""
    for _ in range(_STARTS):
        with contextlib.suppress(BackendError):
            return Backend("aio", options={"ports": size})
    return Backend("aio", options={"ports": size})


class _Lookout:
    """Gives orders to the server, waits for the subject, and counts threads meanwhile."""

    def __init__(self, subject: Subject, orders: ThreadPoolExecutor) -> None:
        self._subject = subject
        self._orders = orders
        self.most_threads = 0

    def until(self, condition: Callable[[], bool], interval: float = _LOOK) -> None:
        """Return once the condition holds."""
        deadline = time.monotonic() + _PATIENCE

        def look() -> bool:
            self.most_threads = max(self.most_threads, process.threads() - _OWN_THREADS)
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {_PATIENCE:g} s")
            return condition()

        self._subject.wait(look, interval)

    def seen_after(self, order: Callable[[], None], condition: Callable[[], bool]) -> float:
        """Return the seconds from the order to the moment when the condition holds."""
        self._subject.pause(_SETTLE)
        began_at = time.monotonic()
        done = self._orders.submit(order)
        self.until(condition)
        took = time.monotonic() - began_at
        done.result()
        return took


def _memory(before: tuple[int, int], subchannels: int) -> dict[str, list[float]]:
    uss, rss = (after - old for after, old in zip(process.memory(), before, strict=True))
    return {"memory": [uss / subchannels / 1024], "rss": [rss / subchannels / 1024]}


def _idle_cpu(subject: Subject, seconds: float) -> float:
    """Return the share of a core that a channel without calls takes, in percent."""
    began_at, cpu_before = time.monotonic(), process.cpu_seconds()
    subject.pause(seconds)
    return 100 * (process.cpu_seconds() - cpu_before) / (time.monotonic() - began_at)


def _flip(subject: Subject, watch: _Lookout, backend: Backend, count: int) -> dict[str, list[float]]:
    """Return the seconds from the order to the server until the client has seen all go out, and come back."""
    out, back = [], []
    for _ in range(count):
        out.append(watch.seen_after(lambda: backend.set("NOT_SERVING"), subject.are_all_out))
        back.append(watch.seen_after(lambda: backend.set("SERVING"), subject.are_all_in))
    return {"out": out, "in": back}
