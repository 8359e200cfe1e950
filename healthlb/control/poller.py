"""grpcio's poller for asyncio: a thread that is there while the process has an asyncio channel or server open.

The one rule: who waits for its end tells a thread that is late, as on a busy machine, from one that others need.
"""

from __future__ import annotations

import _thread
import asyncio
import threading
import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

# Only to know the names of its classes.
_CALLS: Any = import_module("grpc.aio._call")

_LONGEST = 0.5  # Seconds that an end may take; it takes a few milliseconds where the machine is idle.
_SHORTEST = 0.1  # Each wait in vain for the same one halves the next down to this, since others seem to need it.
_LOOK = 0.001
_LAST_STATUSES = 5.0  # Seconds; a process forks at once after that, and what C-core had to say is lost (1.85.3).


def has_poller() -> bool:
    """Whether the poller's thread runs, which is named after its function (seen on 1.85.3)."""
    return _find() is not None


def can_poll() -> bool:
    """Whether it runs or can be started: in Python 3.12 no thread begins once the interpreter ends (3.13.0 allows it).

    grpcio does not expect that, and the process crashes in the constructor of its asyncio channels (1.85.3, 3.12.1).
    """
    if has_poller():
        return True
    try:
        _thread.start_new_thread(lambda: None, ())
    except RuntimeError as error:
        # Where the machine has no more threads, grpcio is to say so.
        return "shutdown" not in str(error)
    return True


class Patience:
    """Waits for the poller's end, less long for one that was waited for in vain.

    Args:
        find: returns the thread, None where there is none.
    """

    def __init__(self, find: Callable[[], threading.Thread | None] | None = None) -> None:
        self._find = find or _find
        self._lasting: Callable[[], threading.Thread | None] = lambda: None
        self._limit = _LONGEST

    async def wait(self) -> None:
        """Return when it has ended, or after half a second; half as long where the last wait for it was in vain."""
        now = asyncio.get_running_loop().time
        began_at, poller = now(), self._find()
        is_known = poller is not None and poller is self._lasting()
        self._limit = max(_SHORTEST, self._limit / 2) if is_known else _LONGEST
        while (poller := self._find()) is not None and now() - began_at < self._limit:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)
        if poller is not None:
            self._lasting = weakref.ref(poller)


async def calls_ended(loop: asyncio.AbstractEventLoop) -> None:
    """Return once grpcio has heard how the calls of this loop ended that were cancelled, or after five seconds.

    A cancelled call keeps its channel, and with it the poller, until C-core tells how it ended. That takes a
    millisecond, but more than half a second was seen on a busy machine; a fork before loses it for good (1.85.3).
    """
    deadline = loop.time() + _LAST_STATUSES
    while (tasks := grpcio_tasks(loop)) and (left := deadline - loop.time()) > 0:
        await asyncio.wait(tasks, timeout=left)


def grpcio_tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    """Return the tasks of this loop that grpcio runs for its calls: they are methods of its own (seen on 1.85.3)."""
    return [task for task in asyncio.all_tasks(loop) if _is_grpcios(getattr(task.get_coro(), "__qualname__", ""))]


def _is_grpcios(name: str) -> bool:
    owner, dot, _ = name.partition(".")
    return bool(dot) and (owner == "_AioCall" or hasattr(_CALLS, owner))


def _find() -> threading.Thread | None:
    return next((thread for thread in threading.enumerate() if "_poll_wrapper" in thread.name), None)
