"""How changes reach the Watches of an event loop.

One rule: an iteration of the loop wakes a few Watches only, however many there are, so other work comes in between.
"""

from __future__ import annotations

import asyncio
from collections import deque

from healthlb.server.registry import Registry, Watcher

_SLICE = 25  # Watches woken in one iteration: some milliseconds of the loop (each message of grpcio 1.85 takes 0.1).


class LoopCourier:
    """Wakes the watchers of one event loop.

    Args:
        registry: of the watchers.
        loop: where they are woken.
    """

    def __init__(self, registry: Registry, loop: asyncio.AbstractEventLoop) -> None:
        self._registry = registry
        self._names: deque[str] = deque()
        self._waiting: deque[Watcher] = deque()
        self._is_busy = False
        self.loop = loop

    def announce(self, name: str) -> None:
        """See `Courier`."""
        self._names.append(name)
        try:
            self.loop.call_soon_threadsafe(self._begin)
        except RuntimeError:  # The loop is closed, and its Watches with it.
            self._names.clear()

    def _begin(self) -> None:
        if not self._is_busy:
            self._wake_some()

    def _wake_some(self) -> None:
        # A name is looked up when those of the one before have been woken: changes in between are announced once.
        if not self._waiting and self._names:
            self._waiting.extend(self._registry.watchers(self._names.popleft(), self))
        for _ in range(min(_SLICE, len(self._waiting))):
            self._waiting.popleft().wake()
        self._is_busy = bool(self._waiting or self._names)
        if self._is_busy:
            self.loop.call_soon(self._wake_some)


class LoopCouriers:
    """The couriers of one servicer, one for each event loop it is used on.

    Args:
        registry: of the watchers.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._couriers: dict[asyncio.AbstractEventLoop, LoopCourier] = {}

    def here(self) -> LoopCourier:
        """Return the courier of the running loop."""
        loop = asyncio.get_running_loop()
        courier = self._couriers.get(loop)
        if courier is None:
            for closed in [other for other in tuple(self._couriers) if other.is_closed()]:
                self._couriers.pop(closed, None)
            courier = self._couriers[loop] = LoopCourier(self._registry, loop)
        return courier
