"""The metadata of Watches and Checks: pairs, or what a callable of the user's returns, asked for each of them.

A callable may wait for a token for long, or for ever. So it runs in a thread of its own, a few at a time, and who asks
waits for a bounded time; a coroutine function runs on the loop. What it raises fails its Watch or Check alone.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any

from healthlb.config import Metadata, MetadataSource, check_metadata
from healthlb.control.tasks import start_task
from healthlb.control.user_code import is_interrupt, log_guarded
from healthlb.core.user_code import name_of, words
from healthlb.errors import ConfigError
from healthlb.resolvers._answer import in_daemon_thread

NAME = "HealthCheck.metadata"
_AT_A_TIME = 4


class NoMetadata(Exception):
    """A Watch or Check cannot be sent; the text says what the callable did."""


class HealthMetadata:
    """Where Watches and Checks of one channel get their metadata from; on one loop.

    Args:
        source: `HealthCheck.metadata`.
    """

    def __init__(self, source: Metadata | MetadataSource) -> None:
        self._source = source
        self._slots = asyncio.Semaphore(_AT_A_TIME)
        self._is_failing = False

    async def get(self, timeout: float) -> tuple[tuple[str, str | bytes], ...]:
        """Return the pairs, after `timeout` seconds at the latest.

        Raises:
            NoMetadata: the callable raised, returned something else, or has not returned.
        """
        if not callable(self._source):
            return tuple(self._source)
        try:
            pairs = check_metadata("it", await self._ask(self._source, timeout))
        except NoMetadata as error:
            self._failed(str(error))
            raise
        except ConfigError as error:
            self._failed(text := f"{self._name} returned what it must not: {error}")
            raise NoMetadata(text) from error
        self._is_failing = False
        return pairs

    @property
    def _name(self) -> str:
        source = self._source
        return f"{NAME} ({name_of(source.func if isinstance(source, functools.partial) else source)})"

    def _failed(self, text: str) -> None:
        if not self._is_failing:
            log_guarded(logging.WARNING, f"{text}; no health can be asked for meanwhile")
        self._is_failing = True

    async def _ask(self, source: MetadataSource, timeout: float) -> Any:
        late = NoMetadata(f"{self._name} has not returned within {timeout:g} s")
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        try:
            async with asyncio.timeout(timeout):
                await self._slots.acquire()
        except TimeoutError:
            raise late from None
        # A callable that hangs keeps its slot: else there would be more and more threads.
        answer: list[Any] = []
        asking = start_task(loop, self._run(source, answer))
        asking.add_done_callback(lambda _: self._slots.release())
        await asyncio.wait((asking,), timeout=max(0.0, began_at + timeout - loop.time()))
        if not answer:
            if inspect.iscoroutinefunction(source):
                asking.cancel()
            raise late
        if isinstance(answer[0], BaseException):
            raise NoMetadata(f"{self._name} raised {words(answer[0])}") from answer[0]
        return answer[0]

    async def _run(self, source: MetadataSource, answer: list[Any]) -> None:
        try:
            if inspect.iscoroutinefunction(source):
                result = await source()
            else:
                result = await in_daemon_thread(functools.partial(_outcome, source))
                if inspect.isawaitable(result):
                    result = await result
        except BaseException as error:
            if is_interrupt(error) or isinstance(error, asyncio.CancelledError):
                raise
            result = error
        answer.append(result)


def _outcome(source: Callable[[], Any]) -> Any:
    """Return what the callable returns, or raises: SystemExit would end the thread without a word."""
    try:
        return source()
    except BaseException as error:
        return error
