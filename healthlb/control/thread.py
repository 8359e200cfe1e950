"""The one control thread of the sync face: it hosts an event loop for all sync channels of a process.

The one rule: it lives while a channel uses it, and no call ever waits for it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

from healthlb.core.heartbeat import Pace

_LAST_WORDS = 0.1


class ControlThread:
    """A daemon thread with a loop; `acquire` and `release` count its users.

    Attributes:
        loop: the event loop.
        pace: shared by the channels on it, so that their heartbeats are.
    """

    _lock = threading.Lock()
    _current: ControlThread | None = None

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pace = Pace()
        self._users = 0
        self._thread = threading.Thread(target=self._run, name="healthlb-control", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls) -> ControlThread:
        """Return the process's control thread, started where there is none."""
        with cls._lock:
            if cls._current is None:
                cls._current = cls()
            cls._current._users += 1
            return cls._current

    def release(self) -> None:
        """Count a user out; the thread ends with its last."""
        cls = type(self)
        with cls._lock:
            self._users -= 1
            if self._users or cls._current is not self:
                return
            cls._current = None
        self.run_soon(self.loop.stop)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on it."""
        return threading.current_thread() is self._thread

    def run_soon(self, work: Callable[[], object]) -> None:
        """Have `work` run on the loop."""
        self.loop.call_soon_threadsafe(work)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            self._finish()
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _finish(self) -> None:
        # Channels that are closing get a moment: a loop that is gone leaves their connections open.
        tasks = asyncio.all_tasks(self.loop)
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        # grpcio has one poller for all loops: what C-core still says to a closed one raises in another (1.85.1).
        self.loop.run_until_complete(asyncio.sleep(_LAST_WORDS))

    @classmethod
    def forget_after_fork(cls) -> None:
        """In a forked child the thread does not exist."""
        cls._lock = threading.Lock()
        cls._current = None


os.register_at_fork(after_in_child=ControlThread.forget_after_fork)
