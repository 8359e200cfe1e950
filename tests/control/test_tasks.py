"""The hidden tasks of the control plane."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

from healthlb.control.tasks import hidden_tasks


class Held:
    """What a coroutine holds, as grpcio's hold their call."""


async def test_one_that_is_cancelled_keeps_nothing() -> None:
    refs: list[weakref.ref[Held]] = []

    async def work() -> None:
        held = Held()
        refs.append(weakref.ref(held))
        await asyncio.sleep(60)

    async def cancelled() -> None:
        with hidden_tasks(asyncio.get_running_loop()):
            task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    gc.disable()
    try:
        await cancelled()
        await asyncio.sleep(0)  # asyncio holds the exception for as long as the step takes that it is raised in
        assert [ref() for ref in refs] == [None]
    finally:
        gc.enable()
