"""One run of a check, bounded in time, whatever the check does.

The one rule: a run that does not end is left alone, not waited for; the next one waits until it has.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

from healthlb.server.check import Check


class Runner:
    """Runs one check again and again; functions on daemon threads, coroutines on a loop.

    Args:
        check: what to run.
        loop: for coroutines; None for the loop that `run` is called on.
    """

    def __init__(self, check: Check, loop: asyncio.AbstractEventLoop | None) -> None:
        self._check = check
        self._loop = loop
        self._pending: Future[str] | None = None

    async def run(self) -> str:
        """Return what went wrong, "" where nothing did. Never raises for what the check did."""
        if self._pending is not None and not self._pending.done():
            return "the run before is still under way"
        self._pending = future = self._start()
        waiting = asyncio.wrap_future(future)
        done, _ = await asyncio.wait({waiting}, timeout=self._check.timeout)
        if done:
            return waiting.result()
        if _is_async(self._check.probe):
            waiting.cancel()
        return f"no result within {self._check.timeout:g} s"

    def _start(self) -> Future[str]:
        if _is_async(self._check.probe):
            return asyncio.run_coroutine_threadsafe(self._await(), self._loop or asyncio.get_running_loop())
        future: Future[str] = Future()
        threading.Thread(target=self._call, args=(future,), name="healthlb-check", daemon=True).start()
        return future

    def _call(self, future: Future[str]) -> None:
        # BaseException: a check that calls sys.exit() must not pass for one that hangs.
        try:
            value = self._check.probe()
            if inspect.isawaitable(value):
                value = asyncio.run(_value_of(value))
            future.set_result(_judge(value))
        except BaseException as error:
            future.set_result(_describe(error))

    async def _await(self) -> str:
        try:
            return _judge(await _value_of(self._check.probe()))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit would end the whole loop.
            return _describe(error)


def _is_async(probe: Any) -> bool:
    return inspect.iscoroutinefunction(probe) or inspect.iscoroutinefunction(getattr(probe, "__call__", None))


async def _value_of(value: Awaitable[object] | object) -> object:
    return await value if inspect.isawaitable(value) else value


def _judge(value: object) -> str:
    if value is None or value is True:
        return ""
    return f"it returned {value!r:.100}, not None"


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
