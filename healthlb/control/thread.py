"""The one control thread of the sync face: it hosts an event loop for all sync channels of a process.

The one rule: it lives while a channel uses it, and no call ever waits for it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable

from healthlb.core.heartbeat import Pace

_CLOSING = 1.0
_LOOK = 0.005
_LAST_WORDS = 0.1
_HALT_TIMEOUT = 5.0


class ControlThread:
    """A daemon thread with a loop; `acquire` and `release` count its users.

    Attributes:
        loop: the event loop.
        pace: shared by the channels on it, so that their heartbeats are.
        is_halted: whether the interpreter ends, and the thread did before.
    """

    _lock = threading.Lock()
    _current: ControlThread | None = None

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pace = Pace()
        self.is_halted = False
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

    @classmethod
    def halt(cls) -> None:
        """Stop at exit, channels still open; calls under way are left alone, as grpcio leaves them."""
        with cls._lock:
            thread, cls._current = cls._current, None
        if thread is not None:
            thread.is_halted = True
            thread.run_soon(thread.loop.stop)
            thread._thread.join(_HALT_TIMEOUT)

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on it."""
        return threading.current_thread() is self._thread

    def run_soon(self, work: Callable[[], object]) -> None:
        """Have `work` run on the loop, if it still does."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(work)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
            if self.is_halted:
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
            self.loop.run_until_complete(self._finish())
            if not asyncio.all_tasks(self.loop):  # else one may be at work, and would complain
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _finish(self) -> None:
        # Channels that are closing get a moment: a loop that is gone leaves their connections open. No task is held on
        # to, since one that has ended holds its call, and in C-core a call holds its channel.
        deadline = self.loop.time() + _CLOSING
        while len(asyncio.all_tasks()) > 1 and self.loop.time() < deadline:  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(_LOOK)
        # grpcio has one poller for all loops: what C-core still says to a closed one raises in another (1.85.1).
        await asyncio.sleep(_LAST_WORDS)

    @classmethod
    def forget_after_fork(cls) -> None:
        """In a forked child the thread does not exist."""
        cls._lock = threading.Lock()
        cls._current = None


atexit.register(ControlThread.halt)
os.register_at_fork(after_in_child=ControlThread.forget_after_fork)
