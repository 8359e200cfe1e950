"""The wire: links between clients and servers, and the connections that clients keep.

The one rule: who hears of a break, and when, is decided here; what is made of it, elsewhere.

A connection does what a grpcio channel to one address does: it connects, leaves a link that the server wants to end to
the calls on it, and comes back after a backoff. A link is one TCP connection with its streams.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays
from healthlb.core.states import Code, ConnectivityState
from healthlb.simulation.path import Path
from healthlb.simulation.scenario import SECOND

if TYPE_CHECKING:
    from healthlb.simulation.call import Attempt

_IDLE = ConnectivityState.IDLE
_CONNECTING = ConnectivityState.CONNECTING
_READY = ConnectivityState.READY
_FAILURE = ConnectivityState.TRANSIENT_FAILURE

# C-core's `min_reconnect_backoff_ms`, which is its connect timeout too.
_CONNECT_TIMEOUT = 20 * SECOND
# Linux sends a SYN again after a second at first; that doubles.
_FIRST_SYN_AGAIN = SECOND


class Stream:
    """A Watch or a Check under way.

    Args:
        link: what it is on.
        service: whose health it asks for.
        on_status: called with each serving status, of a Watch.
        on_end: called once with status and text; not after `cancel`.
    """

    __slots__ = ("is_over", "link", "on_end", "on_status", "said", "service")

    def __init__(
        self,
        link: Link,
        service: str,
        on_status: Callable[[int], object] | None,
        on_end: Callable[[Code, str], object],
    ) -> None:
        self.link = link
        self.service = service
        self.on_status = on_status
        self.on_end = on_end
        self.is_over = False
        self.said = -1

    def cancel(self) -> None:
        """Hear no more of it."""
        if not self.is_over:
            self.is_over = True
            self.link.streams.pop(self, None)
            self.link.path.up(self.link.server.health.left, self)

    def deliver(self, status: int) -> None:
        """A status has arrived at the client."""
        if not self.is_over and self.on_status is not None:
            self.on_status(status)

    def end(self, code: Code, details: str = "") -> None:
        """The end has arrived at the client."""
        if not self.is_over:
            self.is_over = True
            self.link.streams.pop(self, None)
            self.on_end(code, details)


class Link:
    """One TCP connection.

    Args:
        path: the way it takes.
        connection: whose it is.
        limit: how many attempts may be on it at once, None for any number.

    Attributes:
        is_open: whether the client takes it for open.
        is_known: whether the server does.
        is_mute: whether the server's host answers nothing on it any more, not even that it does not know it.
        is_draining: whether the server has asked for its end.
        attempts: under way, in the order they were sent.
        waiting: attempts for which there is no room at present.
        streams: Watches and Checks under way.
    """

    __slots__ = (
        "attempts", "connection", "is_draining", "is_known", "is_mute", "is_open", "limit", "path", "server", "streams",
        "waiting",
    )  # fmt: skip

    def __init__(self, path: Path, connection: Connection, limit: int | None) -> None:
        self.path = path
        self.server = path.server
        self.connection = connection
        self.limit = limit
        self.is_open = False
        self.is_known = True
        self.is_mute = False
        self.is_draining = False
        self.attempts: dict[Attempt, None] = {}
        self.waiting: deque[Attempt] = deque()
        self.streams: dict[Stream, None] = {}

    def send(self, attempt: Attempt) -> None:
        """Send an attempt, or let it wait for room (HTTP/2's MAX_CONCURRENT_STREAMS)."""
        if self.limit is not None and len(self.attempts) >= self.limit:
            self.waiting.append(attempt)
            return
        self.attempts[attempt] = None
        self.path.up(self.server.arrive, attempt)

    def leave(self, attempt: Attempt) -> None:
        """An attempt on it is over."""
        self.attempts.pop(attempt, None)
        while self.waiting and self.is_open:
            following = self.waiting.popleft()
            if not following.is_over:
                self.send(following)
                break
        if self.is_draining and not self.attempts:
            self.close()

    def cancel(self, attempt: Attempt) -> None:
        """The client has given an attempt up."""
        if attempt in self.attempts:
            if self.is_open:
                self.path.up(self.server.cancelled, attempt)
            self.leave(attempt)

    def reset(self) -> None:
        """The client learns that the connection is gone."""
        if self.is_open:
            self.is_open = False
            self.connection.lost(self, "Connection reset by peer")
            self._end_streams()
            for attempt in (*self.attempts, *self.waiting):
                attempt.client.attempt_lost(attempt)

    def go_away(self) -> None:
        """The client learns that the server wants the connection's end; attempts on it go on."""
        if self.is_open and not self.is_draining:
            self.is_draining = True
            self.connection.lost(self, "")
            if not self.attempts:
                self.close()

    def close(self) -> None:
        """Close it from the client's end; attempts that are still on it are cancelled."""
        if self.is_open:
            self.is_open = False
            self.path.up(self.server.closed, self, tuple(self.attempts))
            self._end_streams()
            for attempt in (*self.attempts, *self.waiting):
                attempt.client.attempt_closed(attempt)

    def _end_streams(self) -> None:
        for stream in tuple(self.streams):
            stream.end(Code.UNAVAILABLE, "the connection is gone")


class Connection:
    """What a client keeps to one address; as a grpcio channel, it is never given up but by `release`.

    Args:
        path: the way to the server.
        reconnect: the backoff between attempts to connect.
        jitter: the stream for it.
        on_change: called after each change of `state`.
        on_connect: called at each attempt to connect.

    Attributes:
        state: the connectivity state. Once TRANSIENT_FAILURE it stays so until READY (gRFC A62).
        link: where calls and Watches go, None while it is not READY.
        failure: why it is in TRANSIENT_FAILURE.
        generation: its number among the connections for calls, None before it is one.
        queue: attempts that wait for it to be READY.
    """

    __slots__ = (
        "_delays", "_next_at", "_old", "_on_connect", "_token", "_users", "failure", "generation", "is_closed", "link",
        "on_change", "path", "queue", "state",
    )  # fmt: skip

    def __init__(
        self,
        path: Path,
        reconnect: Backoff,
        jitter: random.Random,
        on_change: Callable[[Connection], object],
        on_connect: Callable[[], object],
    ) -> None:
        self.path = path
        self.state = _IDLE
        self.link: Link | None = None
        self.failure = ""
        self.generation: int | None = None
        self.is_closed = False
        self.on_change = on_change
        self.queue: dict[Attempt, None] = {}
        self._on_connect = on_connect
        self._delays = BackoffDelays(Backoff(initial=reconnect.initial, maximum=reconnect.maximum), jitter)
        self._next_at = 0
        self._token = 0
        self._users = 1
        self._old: dict[Link, None] = {}

    # --- connecting ----------------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin, where it is IDLE."""
        if self.state is _IDLE and not self.is_closed:
            self._try()

    def _try(self) -> None:
        self._token += 1
        engine = self.path.engine
        delay = self._delays.next()
        self._next_at = engine.now + delay
        engine.after(max(delay, _CONNECT_TIMEOUT), self._time_out, self._token)
        self._on_connect()
        if self.state is _IDLE:
            self._become(_CONNECTING)
        self._knock(self._token, _FIRST_SYN_AGAIN)

    def _knock(self, token: int, again: int) -> None:
        if token == self._token:
            path = self.path
            if not path.cuts:
                path.up(path.server.knocked, self, token)
            path.engine.after(again, self._knock, token, 2 * again)

    def established(self, token: int, link: Link) -> None:
        """The server has accepted."""
        if token != self._token:
            self.path.up(self.path.server.closed, link, ())
            return
        self._token += 1
        self._delays.reset()
        self.link = link
        link.is_open = True
        self._become(_READY)
        queue, self.queue = self.queue, {}
        for attempt in queue:
            attempt.link = link
            link.send(attempt)

    def refused(self, token: int) -> None:
        """The server's host has refused."""
        if token == self._token:
            self._fail("Connection refused")

    def _time_out(self, token: int) -> None:
        if token == self._token:
            self._fail("connection attempt timed out")

    def _fail(self, reason: str) -> None:
        self._token += 1
        self.failure = f"failed to connect to {self.path.server.name}: {reason}"
        engine = self.path.engine
        engine.at(self._next_at, self._again, self._token)
        self._become(_FAILURE)
        queue, self.queue = self.queue, {}
        for attempt in queue:
            attempt.client.attempt_refused(attempt)

    def _again(self, token: int) -> None:
        if token == self._token:
            self._try()

    def _become(self, state: ConnectivityState) -> None:
        if state is not self.state:
            self.state = state
            self.on_change(self)

    def lost(self, link: Link, reason: str) -> None:
        """The link is gone, or is to be left to the attempts on it; a lost one is replaced at once."""
        if link.is_draining and link.is_open:
            self._old[link] = None
        else:
            self._old.pop(link, None)
        if link is self.link:
            self.link = None
            self.failure = reason
            self._become(_IDLE)

    # --- use -----------------------------------------------------------------------------------------

    def watch(
        self, service: str, on_status: Callable[[int], object], on_end: Callable[[Code, str], object]
    ) -> Stream | None:
        """Open a Watch; None where there is no link, and then `on_end` was called."""
        return self._ask(service, on_status, on_end)

    def check(self, service: str, on_end: Callable[[Code, str], object]) -> Stream | None:
        """Send a Check; None where there is no link, and then `on_end` was called."""
        return self._ask(service, None, on_end)

    def _ask(
        self, service: str, on_status: Callable[[int], object] | None, on_end: Callable[[Code, str], object]
    ) -> Stream | None:
        link = self.link
        if link is None:
            on_end(Code.UNAVAILABLE, self.failure)
            return None
        stream = Stream(link, service, on_status, on_end)
        link.streams[stream] = None
        self.path.up(link.server.health.asked, stream)
        return stream

    def attempts(self) -> Iterator[Attempt]:
        """Yield the attempts on it, be they under way or waiting."""
        for link in (*self._old, *([self.link] if self.link is not None else [])):
            yield from (*link.attempts, *link.waiting)
        yield from self.queue

    def hold(self) -> None:
        """Count a further user."""
        self._users += 1

    def release(self) -> None:
        """Count a user out; the last one closes it."""
        self._users -= 1
        if self._users:
            return
        self.is_closed = True
        self._token += 1
        link, self.link = self.link, None
        for one in (*self._old, *([link] if link is not None else [])):
            one.close()
        self._old.clear()
        queue, self.queue = self.queue, {}
        for attempt in queue:
            attempt.client.attempt_closed(attempt)
