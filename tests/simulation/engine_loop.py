"""An asyncio event loop on the simulator's heap: the loop's callbacks and timers are events among the world's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from healthlb.simulation.engine.engine import Engine

SECOND = 1_000_000_000


class EngineLoop(asyncio.BaseEventLoop):
    """What is called soon comes after all that is due now, and timers are rounded to nanoseconds."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine
        self.errors: list[dict[str, Any]] = []
        self._is_stalled = False
        self._ready_meanwhile: list[asyncio.Handle] = []
        self._due: list[asyncio.Handle] = []
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def time(self) -> float:
        return self.engine.now / SECOND

    def clock(self) -> int:
        return self.engine.now

    def call_soon(self, callback: Any, *arguments: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, self, context)
        self.engine.after(0, self._turn, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *arguments: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, arguments, self, context)
        self.engine.at(round(when * SECOND), self._turn, handle)
        return handle

    def _turn(self, handle: asyncio.Handle) -> None:
        if self._is_stalled:
            is_timer = isinstance(handle, asyncio.TimerHandle)
            (self._due if is_timer else self._ready_meanwhile).append(handle)
        elif not handle.cancelled():
            with self.running():
                handle._run()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop."""
        asyncio.events._set_running_loop(self)
        try:
            yield
        finally:
            asyncio.events._set_running_loop(None)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap, and does nothing there."""

    def stall(self) -> None:
        """Stand still, as in a callback that does not return."""
        self._is_stalled = True

    def resume(self) -> None:
        """Go on, first with what is ready, then with the timers that are due."""
        self._is_stalled = False
        handles = [*self._ready_meanwhile, *self._due]
        self._ready_meanwhile, self._due = [], []
        for handle in handles:
            self.engine.after(0, self._turn, handle)
