"""Where a driver publishes and calls read: the snapshot, and who waits for the next one.

The one rule: publishing is one attribute store; a call that reads it once needs no lock.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable

from healthlb.control.delivery import run_callback
from healthlb.control.user_code import check_may_wait
from healthlb.core.messages import ConnectivityState
from healthlb.core.snapshot import Snapshot

_LONGEST_WAIT = 3600.0

Deliver = Callable[[Callable[[], object]], None]


class SnapshotHolder:
    """One channel's snapshot, for readers on any thread.

    Attributes:
        snapshot: the present one.
        observe: called with the state of each.
        deliver: runs who asked to be called back.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.observe: Callable[[ConnectivityState], None] = lambda state: None
        self.deliver: Deliver = run_callback
        self._changed = threading.Condition()
        self._watchers: dict[int, tuple[Callable[[], object], Deliver | None]] = {}
        self._numbers = itertools.count()

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the snapshot, wake the threads that wait, and call the registered watchers."""
        self.snapshot = snapshot
        with self._changed:
            self._changed.notify_all()
            watchers, self._watchers = self._watchers, {}
        self.observe(snapshot.state)
        for watcher, deliver in watchers.values():
            (deliver or self.deliver)(watcher)

    def wait(self, generation: int, deadline: float | None) -> bool:
        """Block until there is another generation; False if `deadline` (monotonic seconds) came first.

        Raises:
            ChannelUnusable: on the control thread, which may not wait.
        """
        check_may_wait()
        with self._changed:
            while self.snapshot.generation == generation:
                remaining = _LONGEST_WAIT if deadline is None else deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._changed.wait(min(remaining, _LONGEST_WAIT))
        return True

    def when_changed(self, generation: int, watcher: Callable[[], object], deliver: Deliver | None = None) -> int:
        """Call `watcher` once, at the first generation other than this, maybe at once.

        Args:
            generation: the one that the caller has seen.
            watcher: what is called.
            deliver: runs it, on the thread that publishes; None for the board's own.

        Returns:
            A number for `forget`.
        """
        number = next(self._numbers)
        with self._changed:
            if self.snapshot.generation == generation:
                self._watchers[number] = (watcher, deliver)
                return number
        watcher()
        return number

    def forget(self, number: int) -> None:
        """Do not call that watcher any more."""
        with self._changed:
            self._watchers.pop(number, None)
