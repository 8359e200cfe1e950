"""The tasks of one subchannel: they follow its connection and its Watch, and send its Checks.

The one rule: what an old connection or an old Watch still says is never posted as news of the new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from healthlb.control.tasks import HiddenIterator, start_task
from healthlb.control.transport import Connection, Transport, WatchEnded
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

_READY = ConnectivityState.READY
_IDLE = ConnectivityState.IDLE
_CONNECTING = ConnectivityState.CONNECTING
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_REASON_TIMEOUT = 1.0
_REASON_AFTER, _REASON_GROWTH, _REASON_LONGEST = 2.0, 2.0, 60.0  # seconds until a reason is asked for again


class SubchannelWatcher(ConnectionWatcher):
    """Follows one subchannel from its opening.

    Args:
        sub: its number.
        endpoint: where to connect.
        transport: opens the connections.
        post: takes the events.
    """

    connection: Connection

    def __init__(self, sub: int, endpoint: Endpoint, transport: Transport, *, post: Callable[[Event], None]) -> None:
        self._transport = transport
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._racing: asyncio.Task[None] | None = None
        super().__init__(sub, endpoint)

    def _connect(self) -> Connection:
        return self._transport.connect(self.endpoint)

    def _is_ready(self) -> bool:
        return self.connection.state() is _READY

    def _follow(self) -> None:
        self._spawn(self._follow_connection(self.connection))

    def _race(self, rival: Connection) -> None:
        self._racing = start_task(self._loop, self._run_race(rival))

    def _stop_race(self) -> None:
        assert self._racing is not None
        self._racing.cancel()

    def _open_watch(self, watch: int, service: str) -> asyncio.Task[None]:
        return self._spawn(self._follow_watch(self.connection, watch, service))

    def send_check(self, check: int, service: str, timeout: float) -> None:
        """Send a Check over the present connection."""
        self._spawn(self._check(self.connection, check, service, timeout))

    def send_ping(self, ping: int, timeout: float) -> None:
        """Call a method that nobody has registered over the present connection."""
        self._spawn(self._ping(self.connection, ping, timeout))

    # --- tasks ---------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start_task(self._loop, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        self._present_watch = None

    async def _follow_connection(self, connection: Connection) -> None:
        reason = ""
        last: ConnectivityState | None = None
        connection.connect()
        if connection.state() is _IDLE:
            await connection.left(_IDLE)
        while True:
            state = connection.state()
            if last is _READY and state in (_READY, _FAILURE):
                # It was left and is back already, on another connection: A17 starts anew there.
                self._post(ConnectivityChanged(self.sub, _IDLE))
                last = _IDLE
            if state is _READY:
                self._drop_rival()
                reason = ""
            elif state is _FAILURE and not reason:
                # Before it is told of: calls that wait end with the first word, and are to hear why.
                reason = await self._ask_reason(connection)
                if connection.state() is not _FAILURE:
                    continue
            self._post(ConnectivityChanged(self.sub, state, reason if state is _FAILURE else ""))
            last = state
            renewal = self._spawn(self._renew_reason(connection, reason)) if state is _FAILURE else None
            try:
                await connection.left(state)
            finally:
                if renewal is not None:
                    renewal.cancel()

    async def _renew_reason(self, connection: Connection, reason: str) -> None:
        """C-core stays in TRANSIENT_FAILURE while it fails for one reason after another; tell each that is new."""
        delay = _REASON_AFTER
        while True:
            await asyncio.sleep(delay)
            newest = await self._ask_reason(connection)
            if newest and newest != reason and connection.state() is _FAILURE:
                reason = newest
                self._post(ConnectivityChanged(self.sub, _FAILURE, reason))
            delay = min(delay * _REASON_GROWTH, _REASON_LONGEST)

    async def _ask_reason(self, connection: Connection) -> str:
        # Only a failing call is told why there is no connection; this one never leaves.
        answer = await connection.check("", _REASON_TIMEOUT)
        # What is not UNAVAILABLE is why C-core cannot make a channel at all.
        return answer.details if answer.code in (Code.UNAVAILABLE, Code.INTERNAL, Code.INVALID_ARGUMENT) else ""

    async def _run_race(self, rival: Connection) -> None:
        rival.connect()
        last = rival.state()
        while last is not _READY:
            await rival.left(last)
            last = rival.state()
            if last is _IDLE:
                return  # It was closed at once; the core asks for another one.
        self._won(rival)

    async def _follow_watch(self, connection: Connection, watch: int, service: str) -> None:
        try:
            async for status in HiddenIterator(connection.watch(service)):
                self._post(HealthReported(self.sub, watch, status))
        except WatchEnded as end:
            state = connection.state()
            if state is not _READY:
                # The Watch ended with its connection: that says nothing of health (P4). IDLE is told by who follows it.
                self._post(ConnectivityChanged(self.sub, _CONNECTING if state is _IDLE else state))
            self._post(WatchClosed(self.sub, watch, end.code, end.details))

    async def _check(self, connection: Connection, check: int, service: str, timeout: float) -> None:
        answer = await connection.check(service, timeout)
        self._post(CheckEnded(self.sub, check, answer.code, answer.status, answer.details, answer.is_unsent))

    async def _ping(self, connection: Connection, ping: int, timeout: float) -> None:
        self._post(PingEnded(self.sub, ping, await connection.ping(timeout)))
