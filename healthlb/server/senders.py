"""A few threads that send for all Watches of a sync server.

grpcio's `send_response` returns when the message has left, so a client that does not read holds its sender. Hence
lanes: the Watches of one connection take turns, so a stuck connection holds one thread; threads are added while all are
held, and when there are no more to add, whoever holds one too long is cut off.

The one rule: whoever hands work in is never made to wait.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

_log = logging.getLogger("healthlb.server")

_IDLE = 5.0  # Seconds after which a sender without work ends.
_LOOK = 0.05  # Seconds between looks at those held.
_SLOW = 0.02  # Seconds of one send after which another sender takes over what waits.
_HELD = 10.0  # Seconds that a client may hold a sender,
_HELD_WHEN_SHORT = 0.5  # and when every sender is held.
_USUAL = 3  # More would only fight for the interpreter.
_MOST = 32


class Sendable(Protocol):
    """What waits for a sender: a Watch with something to tell."""

    def send(self) -> bool:
        """Send one message, which may block. Returns whether there is more."""

    def cut_off(self) -> None:
        """Cancel the call, so that a blocked `send` returns; from any thread."""


class Lane:
    """The Watches of one connection that have something to tell; at most one of them sends.

    Attributes:
        watches: open ones of this connection.
        sending: the one that sends, None in between.
        since: when it began, in seconds of the monotonic clock.
    """

    def __init__(self, senders: Senders) -> None:
        self._senders = senders
        self._waiting: deque[Sendable] = deque()
        self._is_taken = threading.Lock()
        self.watches = 0
        self.sending: Sendable | None = None
        self.since = 0.0

    def put(self, item: Sendable) -> None:
        """Add a Watch; it must not be in the lane already."""
        self._waiting.append(item)
        self._claim()

    def run(self) -> None:
        """Let one Watch send, then go to the end of the queue."""
        try:
            item = self._waiting.popleft()
        except IndexError:
            pass
        else:
            if self._send(item):
                self._waiting.append(item)
        self._is_taken.release()
        self._claim()

    def _claim(self) -> None:
        # Whoever adds while the lane is taken leaves it to the holder, who comes back here after letting go.
        if self._waiting and self._is_taken.acquire(blocking=False):
            self._senders.post(self)

    def _send(self, item: Sendable) -> bool:
        self.sending, self.since = item, time.monotonic()
        try:
            return item.send()
        except Exception:  # A call that broke is not the other Watches' business.
            _log.exception("a Watch could not be served")
            return False
        finally:
            self.sending = None


class Senders:
    """Threads for lanes, started on demand and ended when idle. Thread-safe.

    Args:
        fan_out: called with each name that was announced, on a thread of its own.

    Attributes:
        cut_off: how many Watches were cancelled because their client took nothing.
    """

    def __init__(self, fan_out: Callable[[str], None]) -> None:
        self._fan_out = fan_out
        self._names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dispatcher: threading.Thread | None = None
        self._running: dict[int, Lane | None] = {}
        self._lane_of: dict[str, Lane] = {}
        self.cut_off = 0

    def __repr__(self) -> str:
        return f"<Senders {len(self._running)} threads, {self._lanes.qsize()} lanes waiting>"

    def announce(self, name: str) -> None:
        """Have `fan_out` called with the name, soon."""
        # Before the first Watch there is no dispatcher, and nobody to tell.
        self._names.put(name)

    def post(self, lane: Lane) -> None:
        """Have the lane run, soon."""
        self._lanes.put(lane)
        running = tuple(self._running.values())
        if len(running) < _USUAL and None not in running:
            self._add()

    def lane(self, peer: str) -> Lane:
        """Return the lane of a connection for one more Watch; give it back with `leave_lane`."""
        with self._lock:
            lane = self._lane_of.setdefault(peer, Lane(self))
            lane.watches += 1
        self.start()
        return lane

    def leave_lane(self, peer: str) -> None:
        """Forget one Watch of a connection."""
        with self._lock:
            lane = self._lane_of[peer]
            lane.watches -= 1
            if not lane.watches:
                del self._lane_of[peer]

    def start(self) -> None:
        """Start the thread that hears of announcements, where it does not run."""
        with self._lock:
            if self._dispatcher is None or not self._dispatcher.is_alive():
                self._dispatcher = threading.Thread(target=self._dispatch, name="healthlb-health", daemon=True)
                self._dispatcher.start()

    def _add(self) -> None:
        with self._lock:
            if len(self._running) >= _MOST:
                return
            thread = threading.Thread(target=self._work, name="healthlb-health-sender", daemon=True)
            thread.start()
            assert thread.ident is not None
            self._running.setdefault(thread.ident, None)
        self._names.put(None)  # The dispatcher must look now and then while there are senders.

    def _work(self) -> None:
        own = threading.get_ident()
        while True:
            try:
                lane = self._lanes.get(timeout=_IDLE)
            except queue.Empty:
                break
            self._running[own] = lane
            lane.run()
            self._running[own] = None
        with self._lock:
            self._running.pop(own, None)
        # A lane that came in just now saw this thread as idle.
        if not self._lanes.empty():
            self._add()

    def _dispatch(self) -> None:
        looked_at = time.monotonic()
        while True:
            try:
                name = self._names.get(timeout=_LOOK if self._running else None)
                if name is not None:
                    self._fan_out(name)
            except queue.Empty:
                pass
            except Exception:
                _log.exception("a status could not be announced")
            if time.monotonic() - looked_at > _LOOK:
                looked_at = time.monotonic()
                self._look(looked_at)

    def _look(self, now: float) -> None:
        held = [lane for lane in tuple(self._running.values()) if lane is not None and lane.sending is not None]
        waiting = self._lanes.qsize()
        slow = sum(now - lane.since > _SLOW for lane in held)
        if waiting and slow == len(self._running):
            for _ in range(min(waiting, slow + 1)):
                self._add()
        is_short = waiting > 0 and slow >= _MOST
        for lane in held:
            item, seconds = lane.sending, now - lane.since
            if item is not None and seconds > (_HELD_WHEN_SHORT if is_short else _HELD):
                _log.warning("a Watch is cancelled: its client took nothing for %.1f s", seconds)
                self.cut_off += 1
                item.cut_off()
