"""Tells each change of a channel's connectivity: `follow_state` of any sync channel, `Subscriptions` of our own.

The one rule: `follow_state` keeps no channel. grpcio tells no subscriber that a channel was closed: it drops them, and
that is how this one learns of it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from healthlb.control.codes import to_grpc_state
from healthlb.control.delivery import Deliverer
from healthlb.core.messages import ConnectivityState
from healthlb.errors import ConfigError
from healthlb.health_client.connectivity import Callback, ConnectivityChange, check_callback, core_channel

_SHUTDOWN = grpc.ChannelConnectivity.SHUTDOWN
StateCallback = Callable[[grpc.ChannelConnectivity], object]
# For callbacks that block; of the changes that wait, the newest count.
_MOST_WAITING = 10_000


class _ChannelCallback:
    """The callback that the channel is given. Only the channel refers to it, so it is collected with the channel."""

    __slots__ = ("__weakref__", "_state_is")

    def __init__(self, state_is: Callable[[grpc.ChannelConnectivity], None]) -> None:
        self._state_is = state_is

    def __call__(self, state: grpc.ChannelConnectivity) -> None:
        self._state_is(state)


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
        registered = _ChannelCallback(self._state_is)
        self._registered = weakref.ref(registered)
        # What is registered keeps this object for as long as the channel lives.
        self._gone = weakref.finalize(registered, self._state_is, _SHUTDOWN)
        self._gone.atexit = False
        if _is_closed(channel):
            return
        channel.subscribe(registered, try_to_connect)

    def close(self) -> None:
        """Tell nothing more; a second time does nothing. From any thread, and from the callback."""
        self.is_closed = True
        self._gone.detach()
        channel, registered = self._channel(), self._registered()
        if channel is not None and registered is not None:
            channel.unsubscribe(registered)

    def _state_is(self, state: grpc.ChannelConnectivity) -> None:
        if self.is_closed or state is self._state or self._state is _SHUTDOWN:
            return
        self._state = state
        self._deliverer.submit(partial(self._call_back, ConnectivityChange(state, time.time())))

    def _call_back(self, change: ConnectivityChange) -> None:
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


class Subscriptions:
    """The callbacks of one channel; they run on a thread of their own.

    Args:
        state: what the channel is in.
    """

    def __init__(self, state: ConnectivityState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._callbacks: tuple[StateCallback, ...] = ()
        self._deliverer = Deliverer(_MOST_WAITING)

    def add(self, callback: StateCallback) -> None:
        """Call `callback` with the present state, and with each change."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)
            self._put(callback)
        self._deliverer.run()

    def remove(self, callback: StateCallback) -> None:
        """Call `callback` no more; nothing happens where it was not added."""
        found = self._find(callback)
        with self._lock:
            places = [place for place, one in enumerate(self._callbacks) if one is found]
            if places:
                self._callbacks = self._callbacks[: places[0]] + self._callbacks[places[0] + 1 :]

    def observe(self, state: ConnectivityState) -> None:
        """Take in the state of a new snapshot."""
        with self._lock:
            if state is self._state:
                return
            self._state = state
            for callback in self._callbacks:
                self._put(callback)
        self._deliverer.run()

    def _find(self, callback: StateCallback) -> StateCallback | None:
        # Under no lock: to compare is the user's code, too.
        return next((one for one in self._callbacks if one is callback or one == callback), None)

    def _put(self, callback: StateCallback) -> None:
        self._deliverer.put(partial(self._call, callback, to_grpc_state(self._state)))

    def _call(self, callback: StateCallback, state: grpc.ChannelConnectivity) -> None:
        if self._find(callback) is not None:
            callback(state)
