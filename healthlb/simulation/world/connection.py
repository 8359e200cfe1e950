"""The connections that clients keep.

Who hears of a break, and when, is decided here; what is made of it, elsewhere.

A connection does what a grpcio channel to one address does: it connects, leaves a link that the server wants to end to
the calls on it, and comes back after a backoff.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays
from healthlb.core.states import Code, ConnectivityState
from healthlb.simulation.scenario.scenario import SECOND
from healthlb.simulation.world.link import Attempt, Link, Ping, ServerPort, Stream
from healthlb.simulation.world.path import Path

_IDLE = ConnectivityState.IDLE
_CONNECTING = ConnectivityState.CONNECTING
_READY = ConnectivityState.READY
_FAILURE = ConnectivityState.TRANSIENT_FAILURE

# C-core's `min_reconnect_backoff_ms`, which is its connect timeout too.
_CONNECT_TIMEOUT = 20 * SECOND
# Linux sends a SYN again after a second at first; that doubles.
_FIRST_SYN_AGAIN = SECOND


class Connection:
    """What a client keeps to one address; as a grpcio channel, it is never given up but by `release`.

    Args:
        path: the way to the server.
        server: at its end.
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
        "_accepted", "_delays", "_next_at", "_old", "_on_connect", "_token", "_users", "failure", "generation",
        "is_closed", "link", "on_change", "path", "queue", "server", "state",
    )  # fmt: skip

    def __init__(
        self,
        path: Path,
        server: ServerPort,
        reconnect: Backoff,
        *,
        jitter: random.Random,
        on_change: Callable[[Connection], object],
        on_connect: Callable[[], object],
    ) -> None:
        self.path = path
        self.server = server
        self.state = _IDLE
        self.link: Link | None = None
        self.failure = ""
        self.generation: int | None = None
        self.is_closed = False
        self.on_change = on_change
        self.queue: dict[Attempt, None] = {}
        self._on_connect = on_connect
        self._delays = BackoffDelays(reconnect, jitter)
        self._next_at = 0
        self._token = 0
        self._accepted = 0
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
        if token == self._token != self._accepted:
            path = self.path
            if not path.cuts:
                path.up(self.server.knocked, self, token)
            path.engine.after(again, self._knock, token, 2 * again)

    def accepted(self, token: int) -> None:
        """The server's kernel has accepted: nothing is asked again, and a handshake follows."""
        self._accepted = token

    def established(self, token: int, link: Link) -> None:
        """The connection can be used."""
        if token != self._token:
            self.path.up(self.server.closed, link, ())
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
        self.failure = f"failed to connect to {self.server.name}: {reason}"
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

    def ping(self, on_end: Callable[[Code, str], object]) -> None:
        """Call a method that nobody has registered; where there is no link, `on_end` is called at once."""
        self._ask("", None, on_end, Ping)

    def _ask(
        self,
        service: str,
        on_status: Callable[[int], object] | None,
        on_end: Callable[[Code, str], object],
        kind: type[Stream] = Stream,
    ) -> Stream | None:
        link = self.link
        if link is None:
            on_end(Code.UNAVAILABLE, self.failure)
            return None
        stream = kind(link, service, on_status, on_end=on_end)
        link.streams[stream] = None
        self.path.up(self.server.health.asked, stream)
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
