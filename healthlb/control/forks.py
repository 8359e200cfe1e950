"""What happens around a fork of the process.

Children of a process die in C-core's fork handlers where grpc.aio is at work in it, and grpc.aio never works in them
(seen on grpcio 1.85.3). So the control threads close their connections before a fork and open them again after it, and
the connections for calls, which are plain sync channels, are left to grpcio.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - its hook takes a lock that loops need: registered earlier, it runs later
import os
import threading
import weakref
from typing import Protocol

from healthlb.control.poller import has_poller
from healthlb.control.thread import ControlThread
from healthlb.control.wakeups import part_from_parent, prepare


class Forked(Protocol):
    """An object that is notified in a forked child."""

    def forget_after_fork(self) -> None:
        """Forget the threads, loops and connections, which are the parent's."""


open_channels: weakref.WeakSet[Forked] = weakref.WeakSet()


class _Forks:
    """The fork handlers, and what forks have broken in this process.

    Attributes:
        has_lost_poller: whether grpc.aio waits for a thread that only the parent has, and always will.
    """

    def __init__(self) -> None:
        self.has_lost_poller = False
        self._has_poller = False
        self._lock = threading.RLock()

    def before(self) -> None:
        """Pause the control threads, so that nothing of ours keeps grpc.aio at work. One fork at a time."""
        self._lock.acquire()
        prepare()
        ControlThread.pause_all()
        self._has_poller = has_poller()

    def after_in_parent(self) -> None:
        """Resume the control threads."""
        ControlThread.resume_all()
        self._lock.release()

    def after_in_child(self) -> None:
        """Notify all channels, and part from the wakeups that C-core shares with the parent."""
        self._lock = threading.RLock()
        self.has_lost_poller |= self._has_poller
        ControlThread.forget_after_fork()
        for channel in tuple(open_channels):
            channel.forget_after_fork()
        part_from_parent()


def has_lost_poller() -> bool:
    """Whether grpc.aio waits for a thread that only the parent of this process has, and always will."""
    return _forks.has_lost_poller


_forks = _Forks()
os.register_at_fork(before=_forks.before, after_in_parent=_forks.after_in_parent, after_in_child=_forks.after_in_child)
