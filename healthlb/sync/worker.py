"""One thread for all callbacks of a health client: what is due runs on it, one piece after the other."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable

from healthlb.control.user_code import run_guarded


class Worker:
    """A daemon thread that lives as long as someone holds it.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        # The garbage collector may come by at any moment, and end a call in a thread that holds this.
        self._changed = threading.Condition(threading.RLock())
        self._name = name
        self._users = 0
        self._ready: deque[Callable[[], object]] = deque()
        # By time (monotonic seconds) and number; one that was taken back is None.
        self._later: list[tuple[float, int, list[Callable[[], object] | None]]] = []
        self._numbers = itertools.count()
        self._is_running = False

    def hold(self) -> None:
        """Count a user, and start the thread with the first."""
        with self._changed:
            self._users += 1
            if self._is_running:
                return
            self._is_running = True
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except BaseException:  # Python 3.12 and later start no thread once the interpreter ends.
            with self._changed:
                self._users -= 1
                self._is_running = False
            raise

    def release(self) -> None:
        """Count a user out; the thread ends after the last, and what was due later is dropped."""
        with self._changed:
            self._users -= 1
            self._changed.notify()

    def submit(self, work: Callable[[], object]) -> None:
        """Have `work` run after what was submitted before, if the thread is still there; what it raises is logged."""
        with self._changed:
            if self._is_running:
                self._ready.append(work)
                self._changed.notify()

    def call_later(self, delay: float, work: Callable[[], object]) -> Callable[[], object]:
        """Have `work` run in `delay` seconds; return what takes that back."""
        entry: list[Callable[[], object] | None] = [work]
        with self._changed:
            heapq.heappush(self._later, (time.monotonic() + delay, next(self._numbers), entry))
            self._changed.notify()
        return lambda: entry.__setitem__(0, None)

    def _run(self) -> None:
        while (work := self._next()) is not None:
            run_guarded("watch", work)
            del work

    def _next(self) -> Callable[[], object] | None:
        """Wait for what is due; None where the thread is to end."""
        with self._changed:
            while self._users or self._ready:
                self._take_due()
                if self._ready:
                    return self._ready.popleft()
                self._changed.wait(self._later[0][0] - time.monotonic() if self._later else None)
            self._later.clear()
            self._is_running = False
            return None

    def _take_due(self) -> None:
        now = time.monotonic()
        while self._later and (self._later[0][0] <= now or self._later[0][2][0] is None):
            work = heapq.heappop(self._later)[2][0]
            if work is not None:
                self._ready.append(work)
