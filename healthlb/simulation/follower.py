"""Follows one subchannel's control connection, its Watch and its Checks, as the driver's `SubchannelWatcher` does.

The one rule: what it hears it posts a turn later, as a task does that was waiting for it; and what an old connection or
an old Watch still says is not posted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from healthlb.core.messages import (
    CheckEnded,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    Endpoint,
    Event,
    HealthReported,
    WatchClosed,
)
from healthlb.simulation.seam import Surroundings
from healthlb.simulation.wire import Connection, Stream

_READY = ConnectivityState.READY
_IDLE = ConnectivityState.IDLE
_FAILURE = ConnectivityState.TRANSIENT_FAILURE


class Follows(Protocol):
    """Whose follower it is.

    Attributes:
        around: the world.
    """

    around: Surroundings

    def soon(self, act: Callable[..., object], *arguments: object) -> None:
        """Have something done in the next turn."""

    def post(self, event: Event) -> None:
        """Take in an event."""


class Follower:
    """Follows one subchannel from its opening.

    Args:
        host: whose it is.
        sub: its number.
        endpoint: where to connect.
    """

    __slots__ = ("_challenger", "_endpoint", "_followed", "_host", "_sub", "_told", "_watch", "connection")

    def __init__(self, host: Follows, sub: int, endpoint: Endpoint) -> None:
        self._host = host
        self._sub = sub
        self._endpoint = endpoint
        self._watch: tuple[int, Stream | None] | None = None
        self._challenger: Connection | None = None
        self.connection = self._connect()

    def _connect(self) -> Connection:
        connection = self._host.around.connect(self._endpoint, self._changed)
        self._begin_with(connection)
        return connection

    def _begin_with(self, connection: Connection) -> None:
        self.connection = connection
        self._followed: Connection | None = connection
        self._told: ConnectivityState | None = None
        self._changed(connection)

    def _changed(self, connection: Connection) -> None:
        self._host.soon(self._follow, connection)

    def _follow(self, connection: Connection) -> None:
        while connection is self._followed and connection.state is not self._told:
            state = self._told = connection.state
            if state is _IDLE:
                connection.connect()
            elif state is _READY:
                self._drop_challenger()
            reason = connection.failure if state is _FAILURE else ""
            self._host.post(ConnectivityChanged(self._sub, state, reason))

    def close(self) -> None:
        """Stop the Watch and give up the connection."""
        self._followed = None
        self._forget_watch()
        self._drop_challenger()
        self.connection.release()

    def replace(self) -> None:
        """Go on with a fresh connection."""
        self.close()
        self._connect()

    def challenge(self) -> None:
        """Race a fresh connection against the present one, unless that is up by now; the last challenger gives way."""
        if self.connection.state is not _READY:
            self._drop_challenger()
            self._challenger = self._host.around.connect(self._endpoint, self._challenger_changed)
            self._challenger_changed(self._challenger)

    def _challenger_changed(self, challenger: Connection) -> None:
        self._host.soon(self._race, challenger)

    def _race(self, challenger: Connection) -> None:
        if challenger is not self._challenger:
            return
        if challenger.state is _IDLE:
            challenger.connect()
        elif challenger.state is _READY:
            self._challenger = None
            self._forget_watch()
            self.connection.release()
            challenger.on_change = self._changed
            self._begin_with(challenger)

    def _drop_challenger(self) -> None:
        challenger, self._challenger = self._challenger, None
        if challenger is not None:
            challenger.release()

    # --- health --------------------------------------------------------------------------------------

    def start_watch(self, watch: int, service: str) -> None:
        """Open a Watch on the present connection; an older one ends."""
        self._forget_watch()
        self._host.around.watch_started()
        self._watch = (watch, None)
        stream = self.connection.watch(service, partial(self._said, watch), partial(self._ended, watch))
        if stream is not None:
            self._watch = (watch, stream)

    def stop_watch(self, watch: int) -> None:
        """Cancel a Watch if it is the present one."""
        if self._watch is not None and self._watch[0] == watch:
            self._forget_watch()

    def _forget_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch[1] is not None:
            watch[1].cancel()

    def _said(self, watch: int, status: int) -> None:
        self._host.soon(self._hear, watch, HealthReported(self._sub, watch, status))

    def _ended(self, watch: int, code: Code, details: str) -> None:
        self._host.soon(self._hear, watch, WatchClosed(self._sub, watch, code, details))

    def _hear(self, watch: int, event: Event) -> None:
        if self._watch is not None and self._watch[0] == watch:
            self._host.post(event)

    def send_check(self, check: int, service: str) -> None:
        """Send a Check over the present connection; its time is the core's affair."""
        connection = self.connection
        connection.check(service, lambda code, details: self._host.soon(self._answer, connection, check, code))

    def _answer(self, connection: Connection, check: int, code: Code) -> None:
        if connection is self._followed:
            self._host.post(CheckEnded(self._sub, check, code))
