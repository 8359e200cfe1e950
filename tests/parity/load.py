"""A stream of unary calls at a steady rate, and how each of them ended.

One rule: open loop. A call that hangs holds up no other, so a hung backend costs its share of the calls, as it does in
production.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc

from tests.backends.clients import eventually
from tests.parity.face import Asked, Client, steering


@dataclass(frozen=True, slots=True)
class Outcome:
    """One call that has ended.

    Attributes:
        began_at: `time.monotonic()`, when it was handed to the channel.
        ended_at: when its end was known.
        backend: the name that answered, "" where it failed.
        code: its status.
        details: the status's text.
    """

    began_at: float
    ended_at: float
    backend: str
    code: grpc.StatusCode
    details: str


class Load:
    """Calls through one client, from `with` on until its end, where those in flight are waited for.

    Args:
        client: what is called.
        rate: calls a second.
        timeout: seconds, of each call.
        wanted: what steers the calls.
    """

    def __init__(self, client: Client, rate: float = 100, timeout: float = 10.0, **wanted: Any) -> None:
        """Prepare; nothing is called yet."""
        self._client = client
        self._period = 1 / rate
        self._asked = Asked(timeout=timeout, metadata=steering(wanted))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._begun = 0
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        """Begin, and return once a first few calls have ended."""
        self._thread.start()
        self.wait_for(5)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Begin no more, wait for the end of all."""
        self._stop.set()
        self._thread.join()
        eventually(lambda: len(self.outcomes) == self._begun)

    def wait_for(self, count: int) -> None:
        """Return once `count` more calls than now have ended, and all that were begun before now."""
        eventually(self.after(count))

    def after(self, count: int) -> Callable[[], bool]:
        """Return what tells whether that is so, which `wait_for` waits for."""
        wanted = max(len(self.outcomes) + count, self._begun)
        return lambda: len(self.outcomes) >= wanted

    def wait_until(self, condition: Callable[[Outcome], bool]) -> Outcome:
        """Return the first call that ends from now on and that the condition holds for."""
        seen = len(self.outcomes)
        found: list[Outcome] = []

        def is_there() -> bool:
            found.extend(outcome for outcome in self.outcomes[seen:] if condition(outcome))
            return bool(found)

        eventually(is_there)
        return found[0]

    def failed(self) -> list[Outcome]:
        """Return the calls that did not end with OK."""
        return [outcome for outcome in tuple(self.outcomes) if outcome.code is not grpc.StatusCode.OK]

    def failures(self) -> Counter[str]:
        """Count the failed calls by status and text."""
        return Counter(f"{outcome.code.name}: {outcome.details[:100]}" for outcome in self.failed())

    def by_backend(self, since: float = 0.0) -> Counter[str]:
        """Count the calls that began after `since` by who answered."""
        return Counter(outcome.backend for outcome in tuple(self.outcomes) if outcome.began_at >= since)

    def last_to(self, backend: str) -> float:
        """Return when the last call began that this backend answered."""
        return max(outcome.began_at for outcome in tuple(self.outcomes) if outcome.backend == backend)

    def _run(self) -> None:
        due_at = time.monotonic()
        while not self._stop.wait(max(0.0, due_at - time.monotonic())):
            self._begun += 1
            self._client.fire(self._asked, self._done)
            due_at += self._period

    def _done(self, began_at: float, answer: bytes | None, error: Any) -> None:
        backend = "" if answer is None else answer.decode()
        code = grpc.StatusCode.OK if error is None else error.code()
        details = "" if error is None else error.details() or ""
        self.outcomes.append(Outcome(began_at, time.monotonic(), backend, code, details))
