"""Event loops of every kind on which programs of the asyncio face are run; only those that exist here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import uvloop


def _debug() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    # A slow callback is logged as a warning, which says nothing here.
    loop.slow_callback_duration = 60.0
    return loop


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "debug": _debug,
    "uvloop": uvloop.new_event_loop,
}

if sys.version_info >= (3, 12):

    def _eager() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    LOOPS["eager"] = _eager
