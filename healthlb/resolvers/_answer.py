"""What a look at a name finds, and the thread in which one waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a look found.

    Attributes:
        addresses: IP addresses, as text, in any order.
        ttl: seconds for which the answer holds, or None where nobody says.
    """

    addresses: tuple[str, ...]
    ttl: float | None = None


async def in_daemon_thread(function: Callable[[], _Result]) -> _Result:
    """Return what `function` returns, or raise what it raises; it runs in a daemon thread.

    The loop's own executor would not do: `asyncio.run` and the interpreter join its threads at
    the end, and a getaddrinfo without a DNS server takes tens of seconds.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(setter: Callable[..., None], value: object) -> None:
        if not future.done():
            setter(value)

    def work() -> None:
        setter: Callable[..., None]
        value: object
        try:
            setter, value = future.set_result, function()
        except Exception as error:
            setter, value = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop was closed in the meantime
            loop.call_soon_threadsafe(settle, setter, value)

    threading.Thread(target=work, name="healthlb-lookup", daemon=True).start()
    return await future
