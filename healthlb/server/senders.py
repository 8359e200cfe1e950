"""A few threads that send for all Watches of a sync server.

grpcio's `send_response` returns when the message has left, so a client that does not read holds its sender. Hence
lanes: the Watches of one connection take turns, so that it holds one thread; connections that have shown that they
read have senders that no others can hold; threads are added for those that are held, and more while nothing moves; and
where that does not help, those for which others wait are cut off.

One rule: whoever hands work in is never made to wait.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from healthlb.server.failures import log_failure
from healthlb.server.fair_queue import USUAL, FairQueue, Work

_log = logging.getLogger("healthlb.server")

_IDLE = 5.0  # Seconds after which a sender without work ends.
_LOOK = 0.02  # Seconds between looks at those held. Patience is counted in looks: a machine that is busy looks late.
_TELL = 10.0  # Seconds between log lines on clients that were cut off.
_PATIENCE = 250  # Looks that a client may hold a sender,
_PATIENCE_WHEN_STUCK = 10  # and when others wait for it and no other client's work has been done so long.
_PROVEN, _NEW, _STARTING = range(3)  # Kinds of work, in the order in which they are taken.
# Senders for connections that have read something; for those that have not yet; for Watches whose request is awaited.
# One client may hold three quarters of each.
_LIMIT, _CLIENT_LIMIT = 128, 96


class Sendable(Protocol):
    """What waits in a lane: a Watch with something to tell."""

    def send(self) -> bool:
        """Send one message, which may block. Returns whether there is more."""

    def cut_off(self) -> None:
        """Cancel the call, so that a blocked `send` returns; from any thread."""


class Lane:
    """The Watches of one connection that have something to tell; at most one of them sends.

    Args:
        senders: which run it.
        client: whose connection it is.
        key: under which the senders know it; "" where they do not.

    Attributes:
        watches: open ones of this connection.
    """

    def __init__(self, senders: Senders, client: str = "", key: str = "") -> None:
        self._senders = senders
        self._waiting: deque[Sendable] = deque()
        self._is_taken = threading.Lock()
        self._sending: Sendable | None = None
        self._is_proven = self._is_cut_off = False
        self.client = client
        self.key = key
        self.watches = 0

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

    def cut_off(self) -> None:
        """Cancel the call that sends; what its client proved is forgotten."""
        item = self._sending
        if item is not None:
            self._is_cut_off = True
            item.cut_off()

    def _claim(self) -> None:
        # Whoever adds while the lane is taken leaves it to the holder, who comes back here after letting go.
        if self._waiting and self._is_taken.acquire(blocking=False):
            self._senders.post(self, _PROVEN if self._is_proven else _NEW)

    def _send(self, item: Sendable) -> bool:
        self._sending, self._is_cut_off = item, False
        try:
            return item.send()
        except BaseException as error:  # A call that broke is not the other Watches' business.
            log_failure("a Watch could not be served", error)
            return False
        finally:
            self._sending, self._is_proven = None, not self._is_cut_off


class _Held:
    """A sender at work, and for how many looks."""

    __slots__ = ("is_cut_off", "is_slow", "looks", "queue", "work")

    def __init__(self, work: Work, queue: FairQueue) -> None:
        self.work = work
        self.queue = queue
        self.looks = 0
        self.is_slow = self.is_cut_off = False


class Senders:
    """Threads for lanes and the like, started on demand and ended when idle. Thread-safe.

    Args:
        fan_out: called with each name that was announced, on a thread of its own.

    Attributes:
        cut_off: how often a client was cut off because it held a sender.
    """

    def __init__(self, fan_out: Callable[[str], None]) -> None:
        self._fan_out = fan_out
        self._names: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()  # One for each idle thread that is to look for work.
        self._queues = [FairQueue(_LIMIT, _CLIENT_LIMIT) for _ in (_PROVEN, _NEW, _STARTING)]
        self._dispatcher: threading.Thread | None = None  # While there is a Watch, or a sender.
        self._watches = 0
        self._threads = 0
        self._idle = 0
        self._held: dict[_Held, None] = {}  # In the order in which they began.
        self._lane_of: dict[str, Lane] = {}
        self._unreported: Counter[str] = Counter()
        self._report_at = 0.0
        self.cut_off = 0

    def __repr__(self) -> str:
        return f"<Senders {self._threads} threads, {sum(map(len, self._queues))} waiting>"

    def announce(self, name: str) -> None:
        """Have `fan_out` called with the name, soon. Safe in signal handlers."""
        # Where a Watch is about to begin, and no other is there, it is told once there is a dispatcher.
        self._names.put(name)

    def post(self, work: Work, kind: int = _STARTING) -> None:
        """Have the work done, soon."""
        with self._lock:
            self._queues[kind].put(work)
            if self._idle and self._queues[kind].takeable:
                self._calls.put(None)
            elif self._threads < USUAL:
                self._add()

    def lane(self, peer: str, client: str) -> Lane:
        """Return the lane of a connection for one more Watch; give it back with `leave_lane`."""
        # Only an IP address comes with a port, which tells one connection from another.
        key = peer if peer.startswith(("ipv4:", "ipv6:")) else ""
        with self._lock:
            lane = self._lane_of.get(key) or Lane(self, client, key)
            lane.watches += 1
            if key:
                self._lane_of[key] = lane
        self.enter()
        return lane

    def leave_lane(self, lane: Lane) -> None:
        """Forget one Watch of a connection."""
        with self._lock:
            lane.watches -= 1
            if not lane.watches:
                self._lane_of.pop(lane.key, None)
        self.leave()

    def enter(self) -> None:
        """Have what is announced told from now on, to one more Watch."""
        with self._lock:
            self._watches += 1
            self._start()

    def leave(self) -> None:
        """Forget one Watch."""
        with self._lock:
            self._watches -= 1
        self._names.put(None)  # The dispatcher may have to end.

    def _start(self) -> None:
        """Start the thread that hears of announcements, where it does not run. The lock is held."""
        if self._dispatcher is None or not self._dispatcher.is_alive():
            self._dispatcher = threading.Thread(target=self._dispatch, name="healthlb-health", daemon=True)
            self._dispatcher.start()

    def _add(self) -> None:
        """Start a thread. The lock is held."""
        threading.Thread(target=self._work, name="healthlb-health-sender", daemon=True).start()
        self._threads += 1
        self._start()
        self._names.put(None)  # The dispatcher must look now and then while there are senders.

    def _work(self) -> None:
        held: _Held | None = None
        while True:
            with self._lock:
                if held is not None:
                    self._give_back(held)
                held = self._take()
                self._idle += held is None
            if held is not None:
                held.work.run()
            elif not self._is_called():
                return

    def _is_called(self) -> bool:
        """Wait for work; False where none comes, and the thread is to end."""
        with contextlib.suppress(queue.Empty):
            self._calls.get(timeout=_IDLE)
        with self._lock:
            self._idle -= 1
            is_needed = any(work_queue.takeable for work_queue in self._queues) or not self._calls.empty()
            self._threads -= not is_needed
            return is_needed

    def _give_back(self, held: _Held) -> None:
        del self._held[held]
        held.queue.give_back(held.work, is_done=not held.is_cut_off, is_slow=held.is_slow)

    def _take(self) -> _Held | None:
        for work_queue in self._queues:
            work = work_queue.take()
            if work is not None:
                held = _Held(work, work_queue)
                self._held[held] = None
                return held
        return None

    def _dispatch(self) -> None:
        looked_at = time.monotonic()
        while not self._is_over():
            try:
                with contextlib.suppress(queue.Empty):
                    name = self._names.get(timeout=_LOOK if self._threads else None)
                    if name is not None:
                        self._fan_out(name)
                if time.monotonic() - looked_at >= _LOOK:
                    looked_at = time.monotonic()
                    self._look()
            except Exception as error:
                log_failure("a status could not be announced", error)

    def _is_over(self) -> bool:
        """Whether the dispatcher is to end: there is no Watch, no sender, and nothing announced."""
        with self._lock:
            is_over = not self._watches and not self._threads and self._names.empty()
            if is_over:
                self._dispatcher = None
            return is_over

    def _look(self) -> None:
        with self._lock:
            for work_queue in self._queues:
                work_queue.look()
            for held in self._held:
                held.looks += 1
                if held.looks > 1 and not held.is_slow:
                    held.is_slow = True
                    held.queue.slow()
            self._grow()
            overdue = self._overdue()
        for held in overdue:
            held.work.cut_off()
        self._report_cut_off([held.work.client for held in overdue])

    def _grow(self) -> None:
        """Have every work done that may be done now."""
        takeable = sum(work_queue.takeable for work_queue in self._queues)
        for _ in range(min(takeable, self._idle)):
            self._calls.put(None)
        for _ in range(takeable - self._idle):
            self._add()

    def _overdue(self) -> list[_Held]:
        found = []
        # No more than others wait for, the oldest first, and none while work is done: a crowd of honest clients on a
        # busy machine is slow, but it moves.
        needed = {work_queue: len(work_queue) for work_queue in self._queues}
        for held in self._held:
            if held.is_cut_off:
                continue
            is_stuck = min(held.looks, held.queue.stuck_for) > _PATIENCE_WHEN_STUCK
            is_in_the_way = is_stuck and held.queue.is_held_up(held.work.client)
            if held.looks > _PATIENCE or (is_in_the_way and needed[held.queue] > 0):
                needed[held.queue] -= 1
                held.is_cut_off = True
                found.append(held)
        return found

    def _report_cut_off(self, clients: list[str]) -> None:
        self.cut_off += len(clients)
        self._unreported.update(clients)
        if self._unreported and time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + _TELL
            most = ", ".join(f"{client} ({count})" for client, count in self._unreported.most_common(3))
            _log.warning("%d calls were cut off whose clients took or sent nothing: %s", self._unreported.total(), most)
            self._unreported.clear()
