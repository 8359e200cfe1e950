"""Follows one subchannel's control connection, its Watch and its Checks, as the driver's `SubchannelWatcher` does.

What it hears it posts in the next iteration of the loop, as a task does that was waiting for it. What an old connection
or an old Watch still says is not posted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from healthlb.core.hosting import ConnectionWatcher
from healthlb.core.messages import (
    CheckEnded,
    Code,
    ConnectivityChanged,
    ConnectivityState,
    Endpoint,
    Event,
    HealthReported,
    PingEnded,
    WatchClosed,
)
from healthlb.simulation.world.connection import Connection
from healthlb.simulation.world.link import Stream
from healthlb.simulation.world.protocols import Surroundings

_READY = ConnectivityState.READY
_IDLE = ConnectivityState.IDLE
_CONNECTING = ConnectivityState.CONNECTING
_FAILURE = ConnectivityState.TRANSIENT_FAILURE


class SubchannelWatcher(ConnectionWatcher):
    """Follows one subchannel from its opening.

    Args:
        around: the world.
        soon: has something done in the next iteration of the loop.
        post: takes in events.
        sub: its number.
        endpoint: where to connect.
    """

    connection: Connection

    def __init__(
        self, around: Surroundings, soon: Callable[..., object], post: Callable[[Event], None], *, sub: int,
        endpoint: Endpoint,
    ) -> None:  # fmt: skip
        self._around = around
        self._soon = soon
        self._post = post
        self._told = _CONNECTING  # Of the first dial the core knows, since it has asked for it.
        self._followed: Connection | None = None
        super().__init__(sub, endpoint)

    def _connect(self) -> Connection:
        return self._around.connect(self.endpoint, self._changed)

    def _is_ready(self) -> bool:
        return self.connection.state is _READY

    def _follow(self) -> None:
        self._followed = self.connection
        self._soon(self._dial, self.connection)

    def _race(self, rival: Connection) -> None:
        self._soon(self._dial, rival)

    def _stop(self) -> None:
        self._followed, self._told = None, _IDLE
        self._end_watch()

    def _dial(self, connection: Connection) -> None:
        if connection not in (self._followed, self._rival):
            return
        if connection.state is _IDLE:
            connection.connect()
        else:
            self._changed(connection)

    def _changed(self, connection: Connection) -> None:
        self._soon(self._tell if connection is not self._rival else self._look_at_race, connection)

    def _tell(self, connection: Connection) -> None:
        while connection is self._followed and connection.state is not self._told:
            state = self._told = connection.state
            if state is _READY:
                self._drop_rival()
            reason = connection.failure if state is _FAILURE else ""
            self._post(ConnectivityChanged(self.sub, state, reason))

    def _look_at_race(self, rival: Connection) -> None:
        if rival is not self._rival:
            return
        if rival.state is _READY:
            self._won(rival)

    # --- health --------------------------------------------------------------------------------------

    def _open_watch(self, watch: int, service: str) -> Stream | None:
        self._around.watch_started()
        return self.connection.watch(service, partial(self._said, watch), partial(self._ended, watch))

    def _said(self, watch: int, status: int) -> None:
        self._soon(self._hear, watch, HealthReported(self.sub, watch, status))

    def _ended(self, watch: int, code: Code, details: str) -> None:
        self._soon(self._hear, watch, WatchClosed(self.sub, watch, code, details))

    def _hear(self, watch: int, event: Event) -> None:
        if self._is_present(watch):
            self._post(event)

    def send_check(self, check: int, service: str, timeout: float) -> None:
        """Send a Check over the present connection; its time is the core's affair."""
        connection = self.connection
        streams: list[Stream | None] = []

        def ended(code: Code, details: str) -> None:
            stream = streams.pop() if streams else None  # Taken out, so that there is no cycle for each Check.
            said = stream.said if stream is not None and code is Code.OK else None
            self._soon(self._answer, connection, CheckEnded(self.sub, check, code, said, details))

        streams.append(connection.check(service, ended))

    def send_ping(self, ping: int, timeout: float) -> None:
        """Call a method that nobody has registered over the present connection; its time is the core's affair."""
        connection, sub = self.connection, self.sub
        connection.ping(lambda code, _: self._soon(self._answer, connection, PingEnded(sub, ping, code)))

    def _answer(self, connection: Connection, event: Event) -> None:
        if connection is self._followed:
            self._post(event)
