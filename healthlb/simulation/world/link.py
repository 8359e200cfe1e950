"""Links: TCP connections with the attempts and streams on them.

A link knows its two ends by protocols alone, so that servers, connections and clients can each be built upon it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from healthlb.core.call.failover import Start
from healthlb.core.load import Subchannel
from healthlb.core.pickers.orca import LoadReport
from healthlb.core.states import Code
from healthlb.simulation.engine.stations import Job
from healthlb.simulation.world.path import Path
from healthlb.simulation.world.work import Works


class Caller(Protocol):
    """A client, as its attempts and the servers know it."""

    @property
    def id(self) -> str:
        """Return its name."""

    def replied(self, attempt: Attempt, code: Code) -> None:
        """Take in a reply."""

    def attempt_lost(self, attempt: Attempt) -> None:
        """Take in that the link of an attempt is gone."""

    def attempt_refused(self, attempt: Attempt) -> None:
        """Take in that an attempt never left, since there is no connection."""

    def attempt_closed(self, attempt: Attempt) -> None:
        """Take in that the client itself has closed the connection of an attempt."""


class HealthPort(Protocol):
    """A server's health service, as its clients reach it."""

    def asked(self, stream: Stream) -> None:
        """Take a Watch or a Check that has arrived."""

    def left(self, stream: Stream) -> None:
        """Take in that the client has cancelled a Watch."""


class ServerPort(Protocol):
    """A server, as its clients reach it.

    Attributes:
        name: its address.
        law: which of the scenario's laws of work is its own, by number.
        picks: attempts that were sent to it, by bins of time.
    """

    name: str
    law: int
    picks: list[int]
    finish: Callable[[Any, Code], object]

    @property
    def health(self) -> HealthPort:
        """Return its health service."""

    def knocked(self, connection: LinkOwner, token: int) -> None:
        """Take in that a client wants to connect."""

    def closed(self, link: Link, attempts: Iterable[Attempt]) -> None:
        """Take in that a client has closed a connection, and given up the attempts on it."""

    def arrive(self, attempt: Attempt) -> None:
        """Take a request."""

    def cancelled(self, attempt: Attempt) -> None:
        """Take in that a client has given an attempt up."""

    def report(self) -> LoadReport:
        """Return what a reply says of the load."""


class LinkOwner(Protocol):
    """A connection, as its links, its attempts and the servers know it.

    Attributes:
        path: the way to the server.
        server: at its end.
        queue: attempts that wait for it to be READY.
    """

    path: Path
    server: ServerPort
    queue: dict[Attempt, None]

    def accepted(self, token: int) -> None:
        """Take in that the server's kernel has accepted, and that a handshake follows."""

    def established(self, token: int, link: Link) -> None:
        """Take in that the connection can be used."""

    def refused(self, token: int) -> None:
        """Take in that the server's host has refused."""

    def lost(self, link: Link, reason: str) -> None:
        """Take in that the link is gone, or is to be left to the attempts on it."""


class Attempt(Job):
    """One attempt, from pick to reply.

    Attributes:
        client: whose it is.
        call: its `Call`, None while it is the first attempt and nothing has gone wrong.
        start: what asked for it.
        sub: where it goes.
        connection: on which it goes.
        link: on which it is, None while it waits for one.
        number: of its call among the client's.
        arrived_at: when its call began, in nanoseconds.
        started_at: when it began.
        deadline: of its call, in nanoseconds, 0 for none.
        works: its work by each of the scenario's laws.
        user: of a closed loop, whose turn is next when its call is over, or None.
        is_over: whether the client has heard its end, or hears no more of it.
    """

    __slots__ = (
        "arrived_at", "call", "client", "connection", "deadline", "is_over", "link", "number", "start", "started_at",
        "sub", "user", "works",
    )  # fmt: skip

    client: Caller
    call: Any
    start: Start
    sub: Subchannel
    connection: LinkOwner
    link: Link | None
    number: int
    arrived_at: int
    started_at: int
    deadline: int
    works: Works
    user: int | None
    is_over: bool


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
        *,
        on_end: Callable[[Code, str], object],
    ) -> None:
        self.link = link
        self.service = service
        self.on_status = on_status
        self.on_end = on_end
        self.is_over = False
        self.said = -1

    def cancel(self) -> None:
        """Cancel the Watch; what it still says is ignored."""
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


class Ping(Stream):
    """A call of a method that nobody has registered."""

    __slots__ = ()


class Link:
    """One TCP connection.

    Args:
        server: at its end.
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

    def __init__(self, server: ServerPort, connection: LinkOwner, limit: int | None) -> None:
        self.path = connection.path
        self.server = server
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
