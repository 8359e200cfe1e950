"""The tasks of one subchannel: they follow its connection and its Watch, and send its Checks.

The one rule: what an old connection or an old Watch still says is never posted as news of the new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from healthlb.control.port import Connection, Transport, WatchEnded
from healthlb.control.tasks import start_task
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

_READY = ConnectivityState.READY
_IDLE = ConnectivityState.IDLE
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
_REASON_TIMEOUT = 1.0


class SubchannelWatcher:
    """Follows one subchannel from its opening.

    Args:
        sub: its number.
        endpoint: where to connect.
        transport: opens the connections.
        post: takes the events.
    """

    def __init__(self, sub: int, endpoint: Endpoint, transport: Transport, post: Callable[[Event], None]) -> None:
        self.sub = sub
        self.endpoint = endpoint
        self._transport = transport
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._service = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._watch: tuple[int, asyncio.Task[None]] | None = None
        self._challenger: tuple[Connection, asyncio.Task[None]] | None = None
        self.connection = transport.connect(endpoint)
        self._spawn(self._follow(self.connection, None))

    def close(self) -> None:
        """Stop all tasks and give up the connection."""
        self._cancel_tasks()
        self._drop_challenger()
        self.connection.release()

    def replace(self) -> None:
        """Go on with a fresh connection."""
        self.close()
        self.connection = self._transport.connect(self.endpoint)
        self._spawn(self._follow(self.connection, None))

    def challenge(self) -> None:
        """Race a fresh connection against the present one, unless that is up by now; the last challenger gives way."""
        if self.connection.state() is _READY:
            # The word of it is still on its way here. A challenger would win over it later, its Watch included.
            return
        self._drop_challenger()
        challenger = self._transport.connect(self.endpoint)
        self._challenger = (challenger, start_task(self._loop, self._race(challenger)))

    def start_watch(self, watch: int, service: str) -> None:
        """Open a Watch on the present connection; an older one ends."""
        if self._watch is not None:
            # One batch may stop and start: what opens is done first, and the stop would find the new one.
            self._watch[1].cancel()
        self._service = service
        self._watch = (watch, self._spawn(self._follow_watch(self.connection, watch, service)))

    def stop_watch(self, watch: int) -> None:
        """Cancel a Watch if it is the present one."""
        if self._watch is not None and self._watch[0] == watch:
            self._watch[1].cancel()
            self._watch = None

    def send_check(self, check: int, timeout: float) -> None:
        """Send a Check over the present connection."""
        self._spawn(self._check(self.connection, check, timeout))

    # --- tasks ---------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = start_task(self._loop, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cancel_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        self._watch = None

    def _drop_challenger(self) -> None:
        if self._challenger is not None:
            connection, task = self._challenger
            task.cancel()
            connection.release()
            self._challenger = None

    async def _follow(self, connection: Connection, last: ConnectivityState | None) -> None:
        reason = ""
        while True:
            state = connection.state()
            if last is _READY and state in (_READY, _FAILURE):
                # It was left and is back already, on another connection: A17 starts anew there.
                self._post(ConnectivityChanged(self.sub, _IDLE))
                last = _IDLE
            if state is _READY:
                self._drop_challenger()
                reason = ""
            elif state is _FAILURE and not reason:
                # Before it is told of: calls that wait end with the first word, and are to hear why.
                reason = await self._ask_reason(connection)
                if connection.state() is not _FAILURE:
                    continue
            self._post(ConnectivityChanged(self.sub, state, reason if state is _FAILURE else ""))
            last = state
            await connection.left(state)

    async def _ask_reason(self, connection: Connection) -> str:
        # Only a failing call is told why there is no connection; this one never leaves.
        code, details = await connection.check(self._service, _REASON_TIMEOUT)
        return details if code is Code.UNAVAILABLE else ""

    async def _race(self, challenger: Connection) -> None:
        while (state := challenger.state()) is not _READY:
            await challenger.left(state)
        self._challenger = None
        self._cancel_tasks()
        self.connection.release()
        self.connection = challenger
        self._spawn(self._follow(challenger, None))

    async def _follow_watch(self, connection: Connection, watch: int, service: str) -> None:
        try:
            async for status in connection.watch(service):
                self._post(HealthReported(self.sub, watch, status))
        except WatchEnded as end:
            state = connection.state()
            if state is not _READY:
                # The Watch ended with its connection: that says nothing of health (P4).
                self._post(ConnectivityChanged(self.sub, state))
            self._post(WatchClosed(self.sub, watch, end.code, end.details))

    async def _check(self, connection: Connection, check: int, timeout: float) -> None:
        code, _ = await connection.check(self._service, timeout)
        self._post(CheckEnded(self.sub, check, code))
