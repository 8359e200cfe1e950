"""The connections that sync calls use: plain sync channels, made fresh and warmed on the control loop.

The one rule: a channel with calls in flight is never closed (but with the whole), and none is made READY by a call.
A sync and an aio channel cannot share a connection, so a stray call during an outage would leave the
data channel in C-core's backoff long after the backend is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from healthlb.control.delivery import Deliverer
from healthlb.control.evidence import connectivity
from healthlb.control.options import ChannelOptions, dial_target
from healthlb.control.port import Connection, DataDone
from healthlb.control.tasks import start_task
from healthlb.core.load import Subchannel
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.sync.grpcio import open_channel

_READY = ConnectivityState.READY.value
_FAILURES = (ConnectivityState.TRANSIENT_FAILURE.value, ConnectivityState.SHUTDOWN.value)
_FIRST_LOOK = 0.0005
_LAST_LOOK = 0.02


class SyncData:
    """The data channels of one pool.

    Args:
        credentials: None is plaintext.
        options: channel arguments, complete.
        compression: the default of calls.

    Attributes:
        deliverer: runs what may have to wait for the user's code.
    """

    def __init__(
        self,
        credentials: grpc.ChannelCredentials | None,
        options: ChannelOptions,
        compression: grpc.Compression | None,
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._compression = compression
        self._channels: dict[tuple[int, int], grpc.Channel] = {}
        self._current: dict[int, int] = {}
        self._warming: dict[int, tuple[int, DataDone]] = {}
        self._warmer: asyncio.Task[None] | None = None
        self._last_generation = 0
        self.deliverer = Deliverer()

    def channel(self, sub: Subchannel) -> grpc.Channel | None:
        """Return the channel of what was picked, None where it is closed already. Any thread."""
        return self._channels.get((sub.id, sub.generation))

    def is_ready(self, sub: Subchannel) -> bool:
        """Whether the channel of what was picked is connected now. Any thread."""
        channel = self.channel(sub)
        return channel is not None and connectivity(channel, connect=False) == _READY

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        """Have a READY channel, fresh unless the present one is READY."""
        current = self._current.get(sub)
        if current is not None and connectivity(self._channels[sub, current], connect=False) == _READY:
            done(current, "")
            return
        self.forget(sub)
        self._last_generation += 1
        target = dial_target(endpoint.address)
        channel = open_channel(target, self._credentials, self._options, self._compression)
        self._channels[sub, self._last_generation] = channel
        self._warming[sub] = (self._last_generation, done)
        if self._warmer is None or self._warmer.done():
            self._warmer = start_task(asyncio.get_running_loop(), self._warm())

    def forget(self, sub: int) -> None:
        """Make the next `prepare` start afresh; one that was not handed out yet is closed."""
        self._current.pop(sub, None)
        warming = self._warming.pop(sub, None)
        if warming is not None:
            self.close(sub, warming[0])

    def close(self, sub: int, generation: int) -> None:
        """Close one channel."""
        if self._current.get(sub) == generation:
            del self._current[sub]
        channel = self._channels.pop((sub, generation), None)
        if channel is not None:
            # grpcio's close waits for the user's callbacks, and the control loop may not.
            self.deliverer.submit(channel.close)

    def start_afresh(self) -> None:
        """Prepare connections on another loop from now on; those that calls use stay until they are closed."""
        warming, self._warming = self._warming, {}
        self._current = {}
        self._warmer = None
        for sub, (generation, _) in warming.items():
            self.close(sub, generation)

    def close_all(self) -> None:
        """Close what is left."""
        for sub, generation in tuple(self._channels):
            self.close(sub, generation)

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call `callback` once all that was closed so far is."""
        self.deliverer.submit(callback)

    async def _warm(self) -> None:
        # One task looks at all of them: waiting for a sync channel would take a thread for each.
        pause = _FIRST_LOOK
        known = 0
        while self._warming and self._warmer is asyncio.current_task():
            for sub, (generation, done) in list(self._warming.items()):
                self._look(sub, generation, done)
            pause = _FIRST_LOOK if self._last_generation != known else min(2 * pause, _LAST_LOOK)
            known = self._last_generation
            await asyncio.sleep(pause)

    def _look(self, sub: int, generation: int, done: DataDone) -> None:
        state = connectivity(self._channels[sub, generation], connect=True)
        if state == _READY:
            del self._warming[sub]
            self._current[sub] = generation
            done(generation, "")
        elif state in _FAILURES:
            self.forget(sub)
            done(None, "it could not connect")
