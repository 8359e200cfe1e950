"""Connectivity callbacks of a sync channel: the state now, then each change, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import grpc

from healthlb.control.codes import to_grpc_state
from healthlb.control.delivery import Deliverer
from healthlb.core.messages import ConnectivityState

Callback = Callable[[grpc.ChannelConnectivity], object]
# For callbacks that block; of the states that wait, the newest count.
_MOST_WAITING = 10_000


class Subscriptions:
    """The callbacks of one channel; they run on a thread of their own.

    Args:
        state: what the channel is in.
    """

    def __init__(self, state: ConnectivityState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._callbacks: tuple[Callback, ...] = ()
        self._deliverer = Deliverer(_MOST_WAITING)

    def add(self, callback: Callback) -> None:
        """Call `callback` with the present state, and with each change."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)
            self._put(callback)
        self._deliverer.run()

    def remove(self, callback: Callback) -> None:
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

    def _find(self, callback: Callback) -> Callback | None:
        # Under no lock: to compare is the user's code, too.
        return next((one for one in self._callbacks if one is callback or one == callback), None)

    def _put(self, callback: Callback) -> None:
        self._deliverer.put(partial(self._call, callback, to_grpc_state(self._state)))

    def _call(self, callback: Callback, state: grpc.ChannelConnectivity) -> None:
        if self._find(callback) is not None:
            callback(state)
