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
        self._is_running = False

    async def run(self) -> str:
        """Return what went wrong, "" where nothing did. Never raises for what the check did."""
        if self._is_running:
            return "the run before is still under way"
        waiting = asyncio.wrap_future(self._start())
        try:
            done, _ = await asyncio.wait({waiting}, timeout=self._check.timeout)
            return waiting.result() if done else f"no result within {self._check.timeout:g} s"
        finally:
            waiting.cancel()  # Reaches coroutines only; a function's thread runs on.

    def _start(self) -> Future[str]:
        if _is_async(self._check.probe):
            loop = self._loop or asyncio.get_running_loop()
            return asyncio.run_coroutine_threadsafe(self._await(), loop)
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()
        thread = threading.Thread(target=self._call, args=(future,), name="healthlb-check", daemon=True)
        thread.start()
        return future

    def _call(self, future: Future[str]) -> None:
        self._is_running = True
        # BaseException: a check that calls sys.exit() must not pass for one that hangs.
        try:
            value = self._check.probe()
            if inspect.isawaitable(value):
                value = asyncio.run(_value_of(value))
            outcome = _judge(value)
        except BaseException as error:
            outcome = _describe(error)
        self._is_running = False
        future.set_result(outcome)

    async def _await(self) -> str:
        self._is_running = True
        try:
            return _judge(await _value_of(self._check.probe()))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit would end the whole loop.
            return _describe(error)
        finally:
            self._is_running = False


def _is_async(probe: Any) -> bool:
    return inspect.iscoroutinefunction(probe) or inspect.iscoroutinefunction(type(probe).__call__)


async def _value_of(value: Awaitable[object] | object) -> object:
    return await value if inspect.isawaitable(value) else value


def _judge(value: object) -> str:
    if value is None or value is True:
        return ""
    return f"it returned {value!r:.100}, not None"


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
