"""Tells each change of a channel's connectivity, of any kind of asyncio channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from healthlb.aio.health_watches import Ending
from healthlb.control.delivery import run_callback
from healthlb.control.tasks import LoopEnd, start_task
from healthlb.errors import ChannelUnusable, ConfigError
from healthlb.health_client.connectivity import Callback, ConnectivityChange, check_callback, core_channel

_SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN
# C-core is asked for a change within this time, in seconds: a question cannot be taken back (grpcio 1.85.3).
_SLICE = 0.2


class StateFollower:
    """Follows the connectivity of one channel until that is SHUTDOWN, or it is closed itself.

    Attributes:
        is_closed: whether nothing more will be told.
    """

    def __init__(self, channel: Any, callback: Callback, *, try_to_connect: bool) -> None:
        self.is_closed: bool = False
        self._callback = callback
        self._state: grpc.ChannelConnectivity | None = None
        work = self._follow(channel, try_to_connect)
        self._task: asyncio.Task[None] | None = start_task(asyncio.get_running_loop(), work)
        self._end: LoopEnd | None = LoopEnd(self._close_with_loop)

    def close(self) -> Awaitable[None]:
        """Tell nothing more; a second time does nothing. Await it to have nothing of it pending afterwards."""
        self.is_closed = True
        return Ending(self._task)

    async def _close_with_loop(self) -> None:
        await self.close()

    async def _follow(self, channel: Any, try_to_connect: bool) -> None:
        try:
            while not self.is_closed:
                state = channel.get_state(try_to_connect=try_to_connect)
                try_to_connect = False
                if state is not self._state:
                    self._state = state
                    run_callback(partial(self._callback, ConnectivityChange(state, time.time())))
                if state is _SHUTDOWN:
                    return
                await _changed(channel, state)
        finally:
            self.is_closed = True
            # A task that was cancelled keeps the frames that hold this object.
            self._task = self._end = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "nothing said yet" if self._state is None else self._state.name
        return f"<StateFollower {state}{' closed' if self.is_closed else ''}>"


async def _changed(channel: Any, state: grpc.ChannelConnectivity) -> None:
    """Return when the channel may be in another state."""
    core = core_channel(channel)
    if core is None:
        await channel.wait_for_state_change(state)
        return
    asked = start_task(asyncio.get_running_loop(), _ask(core, state))
    try:
        await asyncio.shield(asked)
    except asyncio.CancelledError:
        await asyncio.wait({asked})
        raise


async def _ask(core: Any, state: grpc.ChannelConnectivity) -> None:
    with suppress(grpc.aio.UsageError):  # it is closed by now
        await core.watch_connectivity_state(state.value[0], time.time() + _SLICE)


def follow_state(
    channel: grpc.aio.Channel, callback: Callback | None = None, *, try_to_connect: bool = False
) -> StateFollower:
    """Tell the state of a channel, and each change of it with its time, until SHUTDOWN or closed.

    It works on every `grpc.aio.Channel`, and goes on until the channel is closed or its loop ends.

    Args:
        channel: to be followed.
        callback: takes each `ConnectivityChange`, in order, on the event loop; what it raises is logged. None writes a
            line at level INFO to the logger `healthlb`.
        try_to_connect: whether an IDLE channel is to connect, now.

    Returns:
        An object with `close()`, which may be awaited; also an async context manager. It need not be kept.

    Raises:
        ConfigError: no asyncio channel, or a callback that cannot be called or is a coroutine function.
        ChannelUnusable: no event loop runs.
    """
    if not hasattr(channel, "get_state"):
        raise ConfigError(f"channel must be a grpc.aio.Channel, not {channel!r}: see healthlb.follow_state")
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ChannelUnusable("healthlb.aio.follow_state needs a running event loop") from None
    return StateFollower(channel, check_callback(callback, channel), try_to_connect=try_to_connect)
