"""Where a driver publishes and calls read: the snapshot, and who waits for the next one.

The one rule: publishing is one attribute store; a call that reads it once needs no lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from healthlb.control.delivery import run_callback
from healthlb.core.messages import ConnectivityState
from healthlb.core.snapshot import Snapshot


class Board:
    """One channel's snapshot, for readers on any thread.

    Attributes:
        snapshot: the present one.
        observe: called with the state of each.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._changed = threading.Condition()
        self._watchers: list[Callable[[], None]] = []
        self.observe: Callable[[ConnectivityState], None] = lambda state: None

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the snapshot, wake who waits and call back who asked."""
        self.snapshot = snapshot
        with self._changed:
            self._changed.notify_all()
            watchers, self._watchers = self._watchers, []
        self.observe(snapshot.state)
        for watcher in watchers:
            run_callback(watcher)

    def wait(self, generation: int, deadline: float | None) -> bool:
        """Block until there is another generation; False if `deadline` (monotonic seconds) came first."""
        with self._changed:
            while self.snapshot.generation == generation:
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    return False
                # A wait that is too long for the platform is cut up.
                self._changed.wait(min(remaining, 3600.0) if remaining is not None else 3600.0)
        return True

    def when_changed(self, generation: int, watcher: Callable[[], None]) -> None:
        """Call `watcher` once, at the first generation other than this; maybe at once."""
        with self._changed:
            if self.snapshot.generation == generation:
                self._watchers.append(watcher)
                return
        watcher()
