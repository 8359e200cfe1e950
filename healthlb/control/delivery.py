"""Runs the user's callbacks of the sync face, in order, on a thread that lives while there are any.

The one rule: never on the control thread, which every channel of the process shares.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable

from healthlb.control.user_code import run_guarded

_here = threading.local()


class Deliverer:
    """One queue of callbacks.

    Args:
        most: how many may wait; the oldest give way. None for no bound, for callbacks that must all run.
    """

    def __init__(self, most: int | None = None) -> None:
        # The garbage collector may come by at any moment, and cancel a call in a thread that holds this.
        self._lock = threading.RLock()
        self._queue: deque[Callable[[], object]] = deque(maxlen=most)
        self._is_running = False

    def submit(self, callback: Callable[[], object]) -> None:
        """Have `callback` run after those that were submitted before; what it raises is logged."""
        self.put(callback)
        self.run()

    def put(self, callback: Callable[[], object]) -> None:
        """Queue a callback for the next `run`; called under the lock that gives callbacks their order."""
        self._queue.append(callback)

    def run(self) -> None:
        """Run what is queued, on a thread of its own; at exit in the caller's, so it is called under no lock."""
        with self._lock:
            if self._is_running or not self._queue:
                return
            self._is_running = True
        if sys.is_finalizing():  # a thread would never start, and its starter waits for it
            self._run()
            return
        try:
            threading.Thread(target=self._run, name="healthlb-callbacks", daemon=True).start()
        except RuntimeError:  # Python 3.12 and later start no thread once the interpreter ends
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._is_running = False
                    if self._is_running or not self._queue:
                        return
                    self._is_running = True
                callback = self._queue.popleft()
            try:
                run_callback(callback)
            except BaseException:  # Ctrl-C, where the main thread runs them.
                self._is_running = False
                raise


def run_callback(callback: Callable[[], object]) -> None:
    """Call a user's callback; log what it raises."""
    was_in_callback, _here.is_in_callback = is_in_callback(), True
    try:
        run_guarded("callback", callback)
    finally:
        _here.is_in_callback = was_in_callback


def is_in_callback() -> bool:
    """Whether the caller runs in a callback, so that grpcio or a Deliverer waits for it to return."""
    return getattr(_here, "is_in_callback", False)
