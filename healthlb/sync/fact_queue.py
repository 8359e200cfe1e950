"""Hands facts to the log and to the listeners of the sync face, on a thread that lives while there are any.

A listener that blocks holds up the others, never the control thread: what waits for it is bounded, and the oldest give
way to the newest.
"""

from __future__ import annotations

import threading
from collections import deque
from functools import partial

from healthlb.calls.settings import Listener
from healthlb.control.delivery import Deliverer, run_callback
from healthlb.core.messages import DroppedFacts, Fact
from healthlb.telemetry.logs import is_logged, log_fact

MOST_FACTS = 10_000


class FactQueue:
    """The facts of one channel.

    Args:
        listeners: take them; the list may change meanwhile.
    """

    def __init__(self, listeners: list[Listener]) -> None:
        self._listeners = listeners
        self._lock = threading.Lock()
        self._facts: deque[Fact] = deque()
        self._dropped = 0
        self._is_running = False
        self._deliverer = Deliverer()

    def put(self, fact: Fact) -> None:
        """Have a fact told; it never waits."""
        if not (self._listeners or is_logged(fact)):
            return
        with self._lock:
            self._facts.append(fact)
            if len(self._facts) > MOST_FACTS:
                self._facts.popleft()
                self._dropped += 1
            is_first, self._is_running = not self._is_running, True
        if is_first:
            self._deliverer.submit(self._run)

    def _run(self) -> None:
        try:
            while (facts := self._next()) is not None:
                for fact in facts:
                    self._deliver(fact)
        except BaseException:  # Ctrl-C, where the main thread runs this.
            self._is_running = False
            raise

    def _next(self) -> tuple[Fact, ...] | None:
        with self._lock:
            if not self._facts:
                self._is_running = False
                return None
            fact = self._facts.popleft()
            dropped, self._dropped = self._dropped, 0
        return (DroppedFacts(fact.at, dropped), fact) if dropped else (fact,)

    def _deliver(self, fact: Fact) -> None:
        if is_logged(fact):
            run_callback(partial(log_fact, fact))
        for listener in tuple(self._listeners):
            run_callback(partial(listener, fact))
