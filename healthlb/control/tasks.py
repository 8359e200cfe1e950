"""The tasks of the control plane.

Those on an event loop of the user's are not among `asyncio.all_tasks()`: a program that waits for all its tasks waits
for none of these, as it waits for none of a plain channel's. They end with their channel, or with the loop (`LoopEnd`).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from healthlb.control.user_code import is_control_thread

T = TypeVar("T")

# For whoever looks for what `asyncio.all_tasks()` does not show.
hidden: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


def start_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Start a task that ends with its channel, or without a word where its loop is closed before."""
    task = loop.create_task(work)
    if is_control_thread():
        return quiet(task)
    return _hide(task)


def start_call(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task that is among `asyncio.all_tasks()`: it is part of a call of the program's, or ends at once."""
    return quiet(loop.create_task(work))


@contextlib.contextmanager
def hidden_tasks(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Hide the tasks that grpcio starts within the block, and those that these start; nothing may be awaited in it."""
    if is_control_thread():
        yield
        return
    factory = loop.get_task_factory()
    loop.set_task_factory(_make_hidden)
    try:
        yield
    finally:
        loop.set_task_factory(factory)


def quiet(task: asyncio.Task[T]) -> asyncio.Task[T]:
    """Keep asyncio from warning of a task whose loop is closed before it has ended."""
    # asyncio's own background tasks say so too: it is the user's loop, and no news to the user.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return task


def _hide(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    asyncio._unregister_task(task)
    hidden.add(task)
    return quiet(task)


def _make_hidden(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    return _hide(asyncio.Task(_HiddenWork(loop, work), loop=loop, **options))


class _HiddenWork(Coroutine[Any, Any, Any]):
    """A coroutine whose tasks are hidden as its own is.

    Args:
        loop: it runs there.
        work: the coroutine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._work = work
        self.__qualname__ = getattr(work, "__qualname__", type(work).__name__)

    def send(self, value: Any) -> Any:
        """Go on to the next wait."""
        with hidden_tasks(self._loop):
            return self._work.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where it waits."""
        try:
            with hidden_tasks(self._loop):
                return self._work.throw(*error)
        finally:
            # This frame stands in the exception's traceback: they would keep each other, and with them the channel.
            del error

    def close(self) -> None:
        """End it where it waits."""
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()


class HiddenIterator(AsyncIterator[T]):
    """An asynchronous generator that its loop does not close: it ends with the hidden task that iterates over it.

    Args:
        generator: not begun yet.
    """

    def __init__(self, generator: AsyncIterator[T]) -> None:
        self._generator = generator

    def __anext__(self) -> Awaitable[T]:
        # The first one tells the loop of the generator.
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            return self._generator.__anext__()
        finally:
            sys.set_asyncgen_hooks(*hooks)


class LoopEnd:
    """Closes a channel with its event loop, where the loop's asynchronous generators are closed first.

    That is what `asyncio.run` and `asyncio.Runner` do. It stands among these generators, which no program waits for.
    The loop does not keep it: whoever makes it does, as long as the channel is open.

    Args:
        close: called on the loop when that ends.
    """

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close
        register = sys.get_asyncgen_hooks().firstiter
        if register is not None:
            register(self)  # type: ignore[arg-type]

    async def aclose(self) -> None:
        """Close the channel."""
        await self._close()


def resolve(future: asyncio.Future[None]) -> None:
    """Set the result of `future`, unless it is done."""
    if not future.done():
        future.set_result(None)


def is_task_cancelled() -> bool:
    """Whether the running task is cancelled itself, rather than a call that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
