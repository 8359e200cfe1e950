"""The channels that sync calls use: plain sync channels, made fresh and warmed on the control loop.

The one rule: a channel with calls in flight is never closed (but with the whole), and none is made READY by a call.
In plaintext they use the connection of the control channel. With credentials they have one of their own, so a stray
call during an outage would leave the channel in C-core's backoff long after the backend is back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import grpc

from healthlb.calls.refusals import connectivity
from healthlb.control.delivery import Deliverer
from healthlb.control.grpc_transport import GrpcConnection
from healthlb.control.options import ChannelOptions, dial_target, unshared
from healthlb.control.tasks import start_task
from healthlb.control.transport import Connection, DataDone
from healthlb.core.load import Subchannel
from healthlb.core.messages import ConnectivityState, Endpoint
from healthlb.core.subchannel.reconnecting import NOTHING_SERVED
from healthlb.sync.grpcio import close_with, open_channel

_READY = ConnectivityState.READY.value
_FAILURES = (ConnectivityState.TRANSIENT_FAILURE.value, ConnectivityState.SHUTDOWN.value)
_IDLE = ConnectivityState.IDLE.value
# Seconds in which a channel that was told to connect is no longer IDLE, unless its connection was closed already.
_CONNECTING_BY = 0.1
_FIRST_LOOK = 0.0005
_LAST_LOOK = 0.02


class _Made(NamedTuple):
    """A channel that was made.

    Attributes:
        generation: its number.
        shared: by which arguments it shares its connection, None where it has one of its own.
    """

    generation: int
    shared: ChannelOptions | None


class SyncData:
    """The data channels of one channel's subchannels.

    Args:
        credentials: None is plaintext.
        options: channel arguments, complete.
        compression: the default of calls.

    Attributes:
        deliverer: runs what may have to wait for the user's code.
        opening: held while a method is opened on a channel, which is not closed meanwhile. C-core ends the process
            where a method is registered on a closed one (1.85.3). Reentrant, as the garbage collector may close some.
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
        # By subchannel: the present generation, and with which channels that shares its connection.
        self._current: dict[int, _Made] = {}
        self._warming: dict[int, tuple[_Made, float, DataDone]] = {}
        self._warmer: asyncio.Task[None] | None = None
        self._last_generation = 0
        self.deliverer = Deliverer()
        self.opening = threading.RLock()

    def channel(self, sub: Subchannel) -> grpc.Channel | None:
        """Return the channel of what was picked, None where it is closed already. Any thread."""
        return self._channels.get((sub.id, sub.generation))

    def is_ready(self, sub: Subchannel) -> bool:
        """Whether the channel of what was picked is connected now. Any thread."""
        channel = self.channel(sub)
        try:
            return channel is not None and connectivity(channel, connect=False) == _READY
        except ValueError:  # It is closed, to end the calls there, and this one asks of its own end.
            return False

    def prepare(self, sub: int, endpoint: Endpoint, control: Connection, done: DataDone) -> None:
        """Have a READY channel, fresh unless the present one is READY and not another connection's."""
        shared = cast(GrpcConnection, control).shared
        current = self._current.get(sub)
        if current is not None and current.shared is shared and self._is_connected(sub, current.generation):
            done(current.generation, "")
            return
        self.forget(sub)
        self._last_generation += 1
        target = dial_target(endpoint.address)
        loop = asyncio.get_running_loop()
        channel = open_channel(target, self._credentials, shared or unshared(self._options), self._compression)
        self._channels[sub, self._last_generation] = channel
        connectivity(channel, connect=True)
        self._warming[sub] = (_Made(self._last_generation, shared), loop.time(), done)
        if self._warmer is None or self._warmer.done():
            self._warmer = start_task(loop, self._warm())

    def forget(self, sub: int) -> None:
        """Make the next `prepare` start afresh; one that was not handed out yet is closed."""
        self._current.pop(sub, None)
        warming = self._warming.pop(sub, None)
        if warming is not None:
            self.close(sub, warming[0].generation)

    def close(self, sub: int, generation: int) -> None:
        """Close one channel."""
        channel = self._take_out(sub, generation)
        if channel is not None:
            # grpcio's close waits for the user's callbacks, and the control loop may not.
            self.deliverer.submit(channel.close)

    def _take_out(self, sub: int, generation: int) -> grpc.Channel | None:
        """Return a channel that is to be closed, and of which no call may hear any more."""
        current = self._current.get(sub)
        if current is not None and current.generation == generation:
            del self._current[sub]
        with self.opening:
            return self._channels.pop((sub, generation), None)

    def end_calls(self, sub: Subchannel, details: str) -> None:
        """End the calls in flight on a channel that takes no more of them, with UNAVAILABLE and this text."""
        channel = self._take_out(sub.id, sub.generation)
        if channel is not None:
            self.deliverer.submit(partial(close_with, channel, grpc.StatusCode.UNAVAILABLE, details))
            self.deliverer.submit(channel.close)

    def start_afresh(self) -> None:
        """Prepare connections on another loop from now on; those that calls use stay until they are closed."""
        warming, self._warming = self._warming, {}
        self._current = {}
        self._warmer = None
        for sub, (made, *_) in warming.items():
            self.close(sub, made.generation)

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
            for sub, warming in list(self._warming.items()):
                self._look(sub, *warming)
            pause = _FIRST_LOOK if self._last_generation != known else min(2 * pause, _LAST_LOOK)
            known = self._last_generation
            await asyncio.sleep(pause)

    def _is_connected(self, sub: int, generation: int) -> bool:
        return connectivity(self._channels[sub, generation], connect=False) == _READY

    def _look(self, sub: int, made: _Made, began_at: float, done: DataDone) -> None:
        state = connectivity(self._channels[sub, made.generation], connect=False)
        if state == _READY:
            del self._warming[sub]
            self._current[sub] = made
            done(made.generation, "")
        elif state in _FAILURES:
            self.forget(sub)
            done(None, "it could not connect")
        elif state == _IDLE and asyncio.get_running_loop().time() > began_at + _CONNECTING_BY:
            # Not dialled again: a server that closes each connection at once would be, at each look.
            self.forget(sub)
            done(None, NOTHING_SERVED)
