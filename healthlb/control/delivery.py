"""Runs the user's callbacks of the sync face, in order, on a thread that lives while there are any.

The one rule: never on the control thread, which every channel of the process shares.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger("healthlb")
_here = threading.local()


class Deliverer:
    """One queue of callbacks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Callable[[], object]] = deque()
        self._is_running = False

    def submit(self, callback: Callable[[], object]) -> None:
        """Have `callback` run after those that were submitted before; what it raises is logged."""
        with self._lock:
            self._queue.append(callback)
            if self._is_running:
                return
            self._is_running = True
        try:
            threading.Thread(target=self._run, name="healthlb-callbacks", daemon=True).start()
        except RuntimeError:  # Python 3.12 and later start no thread once the interpreter ends
            self._run()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._is_running = False
                    return
                callback = self._queue.popleft()
            run_callback(callback)


def run_callback(callback: Callable[[], object]) -> None:
    """Call a user's callback; log what it raises."""
    was_in_callback, _here.is_in_callback = is_in_callback(), True
    try:
        callback()
    except Exception:
        _log.exception("a callback raised: %r", callback)
    finally:
        _here.is_in_callback = was_in_callback


def is_in_callback() -> bool:
    """Whether the caller was called back itself: then grpcio or a Deliverer waits for it to return."""
    return getattr(_here, "is_in_callback", False)
