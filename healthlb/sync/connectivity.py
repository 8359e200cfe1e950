"""Tells each change of a channel's connectivity, of any kind of sync channel.

The one rule: it keeps no channel. grpcio tells no subscriber that a channel was closed: it drops them, and that is how
this one learns of it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from healthlb.control.delivery import Deliverer
from healthlb.errors import ConfigError
from healthlb.health_client.connectivity import Callback, ConnectivityChange, check_callback, core_channel

_SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN
# For callbacks that block; of the changes that wait, the newest count.
_MOST_WAITING = 10_000


class _Ear:
    """What the channel calls; that nothing but the channel holds it is how its end is noticed."""

    __slots__ = ("__weakref__", "_hear")

    def __init__(self, hear: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._hear = hear

    def __call__(self, state: grpc.ChannelConnectivity) -> None:
        self._hear(state)


class StateFollower:
    """Follows the connectivity of one channel until that is SHUTDOWN, or it is closed itself.

    Attributes:
        is_closed: whether nothing more will be told.
    """

    def __init__(self, channel: grpc.Channel, callback: Callback, *, try_to_connect: bool) -> None:
        self.is_closed: bool = False
        self._channel = weakref.ref(channel)
        self._callback = callback
        self._state: grpc.ChannelConnectivity | None = None
        self._deliverer = Deliverer(_MOST_WAITING)
        ear = _Ear(self._hear)
        self._ear = weakref.ref(ear)
        # What is registered keeps this object for as long as the channel lives.
        self._gone = weakref.finalize(ear, self._hear, _SHUTDOWN)
        self._gone.atexit = False
        if _is_closed(channel):
            return
        channel.subscribe(ear, try_to_connect)

    def close(self) -> None:
        """Tell nothing more; a second time does nothing. From any thread, and from the callback."""
        self.is_closed = True
        self._gone.detach()
        channel, ear = self._channel(), self._ear()
        if channel is not None and ear is not None:
            channel.unsubscribe(ear)

    def _hear(self, state: grpc.ChannelConnectivity) -> None:
        if self.is_closed or state is self._state or self._state is _SHUTDOWN:
            return
        self._state = state
        self._deliverer.submit(partial(self._tell, ConnectivityChange(state, time.time())))

    def _tell(self, change: ConnectivityChange) -> None:
        if self.is_closed:
            return
        if change.state is _SHUTDOWN:
            self.close()
        self._callback(change)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "nothing said yet" if self._state is None else self._state.name
        return f"<StateFollower {state}{' closed' if self.is_closed else ''}>"


def _is_closed(channel: Any) -> bool:
    """Whether a channel of grpcio's own is closed: to subscribe to it would raise in a thread of grpcio's."""
    core = core_channel(channel)
    if core is None:
        return False
    try:
        core.check_connectivity_state(False)
    except ValueError:
        return True
    return False


def follow_state(
    channel: grpc.Channel, callback: Callback | None = None, *, try_to_connect: bool = False
) -> StateFollower:
    """Tell the state of a channel, and each change of it with its time, until SHUTDOWN or closed.

    It works on every `grpc.Channel`: grpcio's own, intercepted ones, a `HealthAwareChannel`. It keeps none of them: one
    that is closed, or dropped, is told as SHUTDOWN.

    Args:
        channel: to be followed.
        callback: takes each `ConnectivityChange`, in order, on a thread that runs while there are any; what it raises
            is logged. None writes a line at level INFO to the logger `healthlb`.
        try_to_connect: whether an IDLE channel is to connect, now.

    Returns:
        An object with `close()`, also a context manager. It need not be kept.

    Raises:
        ConfigError: no sync channel, or a callback that cannot be called or is a coroutine function.
    """
    if isinstance(channel, grpc.aio.Channel):
        raise ConfigError(f"channel must be a grpc.Channel, not {channel!r}: use healthlb.aio.follow_state")
    if not hasattr(channel, "subscribe"):
        raise ConfigError(f"channel must be a grpc.Channel, not {channel!r}")
    return StateFollower(channel, check_callback(callback, channel), try_to_connect=try_to_connect)
