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

from healthlb.core.user_code import words
from healthlb.server.check import Check
from healthlb.text import printable


class CheckRunner:
    """Runs one check again and again; functions on daemon threads, coroutines on a loop.

    Args:
        check: what to run.
        loop: for coroutines; another than the one that `run` is called on, since a coroutine may block it.
    """

    def __init__(self, check: Check, loop: asyncio.AbstractEventLoop) -> None:
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
            if not done:
                return f"no result within {self._check.timeout:g} s"
            # A check that cancels itself, or whose loop is shutting down, must not cancel whoever waits for it.
            return "CancelledError" if waiting.cancelled() else waiting.result()
        finally:
            waiting.cancel()  # Reaches coroutines only; a function's thread runs on.

    def _start(self) -> Future[str]:
        if is_async(self._check.probe):
            return asyncio.run_coroutine_threadsafe(self._await(), self._loop)
        future: Future[str] = Future()
        future.set_running_or_notify_cancel()
        thread = threading.Thread(target=self._call, args=(future,), name="healthlb-check", daemon=True)
        self._is_running = True
        try:
            thread.start()
        except BaseException:
            self._is_running = False
            raise
        return future

    def _call(self, future: Future[str]) -> None:
        # BaseException: a check that calls sys.exit() must not pass for one that hangs.
        try:
            value = self._check.probe()
            if inspect.isawaitable(value):
                value = asyncio.run(_value_of(value))
            outcome = _judge(value)
        except BaseException as error:
            outcome = words(error)
        self._is_running = False
        future.set_result(outcome)

    async def _await(self) -> str:
        self._is_running = True
        try:
            return _judge(await _value_of(self._check.probe()))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit would end the whole loop.
            return words(error)
        finally:
            self._is_running = False


def is_async(probe: Any) -> bool:
    """Return whether a check runs on an event loop."""
    return inspect.iscoroutinefunction(probe) or inspect.iscoroutinefunction(type(probe).__call__)


async def _value_of(value: Awaitable[object] | object) -> object:
    return await value if inspect.isawaitable(value) else value


def _judge(value: object) -> str:
    if value is None or value is True:
        return ""
    try:
        shown = printable(repr(value), 100)
    except BaseException:
        shown = f"a {type(value).__name__}"
    return f"it returned {shown}, not None"
