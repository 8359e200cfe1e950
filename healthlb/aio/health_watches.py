"""The two kinds of Watch of the asyncio health client: one that is iterated over, and one that calls back.

The one rule: each is one task, with one beneath it that reads, which end with its Watch, and which hold nothing that
its caller may drop.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import grpc
import grpc.aio

from healthlb.aio.grpcio import retell
from healthlb.config import Backoff
from healthlb.control.codes import to_code
from healthlb.control.tasks import is_task_cancelled, start_call
from healthlb.control.user_code import is_interrupt, log_guarded, run_guarded
from healthlb.core.messages import SECOND
from healthlb.core.states import ServingStatus
from healthlb.core.subchannel.watch_restart import FLOOD_PAUSE, TELL_PAUSE, Following
from healthlb.core.user_code import name_of
from healthlb.errors import ChannelUnusable, ConfigError
from healthlb.health_client.answer import HealthAnswer, answered, ended, failed, failed_with
from healthlb.health_client.target import FORKED, is_final

if TYPE_CHECKING:
    from healthlb.health_client.answer import HealthAdviser
    from healthlb.health_client.target import Metadata

DEFAULT_BACKOFF = Backoff(initial=0.2, maximum=2.0)
Callback = Callable[[ServingStatus], object]
Tell = Callable[[HealthAnswer], Awaitable[None]]
Outcome = tuple[HealthAnswer, BaseException | None]

_ERROR = 40  # logging.ERROR
_LAST_WORDS = 0.1  # Seconds.
_CANCELLED = "the call was cancelled on this side, as by a channel that closes"


class Newest:
    """Holds the newest answer between the task that reads a Watch and the one that passes it on; drops older ones."""

    def __init__(self) -> None:
        self._answer: HealthAnswer | None = None
        self._is_over = False
        self._changed = asyncio.Event()

    def put(self, answer: HealthAnswer) -> None:
        """Replace the answer that was not taken, if there is one."""
        self._answer = answer
        self._changed.set()

    def end(self, _: object = None) -> None:
        """Say that no other answer follows."""
        self._is_over = True
        self._changed.set()

    async def take(self) -> HealthAnswer | None:
        """Return the newest answer when there is one, None after the last."""
        while self._answer is None and not self._is_over:
            self._changed.clear()
            await self._changed.wait()
        answer, self._answer = self._answer, None
        return answer


class WatchOwner(Protocol):
    """What a Watch needs of its client.

    Attributes:
        metadata: goes with every call.
        backoff: between Watches.
        adviser: says what to do about first mistakes.
        watch: begins a Watch.
        subscriptions: the Watches that call back.
        iterators: weak references to those that are iterated over.
    """

    metadata: Metadata
    backoff: Backoff | None
    adviser: HealthAdviser
    watch: Any
    subscriptions: set[WatchSubscription]
    iterators: set[weakref.ref[WatchIterator]]

    def check_caller(self) -> None:
        """Raise where the client cannot be used."""


class WatchReader:
    """Reads the Watches of one caller, one after the other.

    Args:
        link: the client's channel.
        service: the name asked for.
        request: the same as a message.
        follow: whether a Watch that ends is begun again.

    Attributes:
        service: the name asked for.
        is_wanted: whether nobody has closed it: if its task is cancelled then, its loop ends.
        failure: how the last Watch ended, None where none has.
    """

    def __init__(self, link: WatchOwner, service: str, request: bytes, *, follow: bool) -> None:
        self.service = service
        self.is_wanted = True
        self.failure: HealthAnswer | None = None
        self._link = link
        self._request = request
        self._follows = follow
        self._following = Following(link.backoff or DEFAULT_BACKOFF, random.Random())

    async def read(self, tell: Tell) -> Outcome:
        """Tell the newest answer if it is news; return how it ended where it is not followed, and with which error."""
        while True:
            self._following.started(time.monotonic_ns())
            outcome = await self._read_one(tell)
            if outcome is None:
                await asyncio.sleep(FLOOD_PAUSE)
                continue
            answer, error = outcome
            del outcome
            if not (self._follows and self.is_wanted) or is_final(error):
                return answer, error
            delay, is_reported = self._following.ended(to_code(answer.code), time.monotonic_ns())
            self.warn(answer)
            self.failure = answer
            if is_reported:
                await tell(answer)
            if not self.is_wanted:
                return answer, error
            del error
            await asyncio.sleep(delay / SECOND)

    def warn(self, answer: HealthAnswer) -> None:
        """Log what to do about a first mistake: a status does not say it."""
        if not self._following.has_spoken:
            self._link.adviser.warn(answer)

    async def _read_one(self, tell: Tell) -> Outcome | None:
        """Read one Watch; return how it ended, None where it said too much and is to be begun again."""
        newest = Newest()
        reading = start_call(asyncio.get_running_loop(), self._read_call(newest))
        reading.add_done_callback(newest.end)
        try:
            while (answer := await newest.take()) is not None:
                assert answer.number is not None
                self.warn(answer)
                if self._following.is_news(answer.number):
                    await tell(answer)
                if not self.is_wanted:
                    break
                await asyncio.sleep(TELL_PAUSE)
        finally:
            await _stop(reading)
        return reading.result() if self.is_wanted and not reading.cancelled() else (ended(self.service), None)

    async def _read_call(self, newest: Newest) -> Outcome | None:
        call: Any = None
        is_cancelled = False
        try:
            call = self._link.watch(self._request, metadata=self._link.metadata)
            # Iterated over, it would be an asynchronous generator, which may be left to its loop's end.
            while (message := await call.read()) is not grpc.aio.EOF:
                newest.put(answered(self.service, message, call, self._link.adviser))
                if self._following.is_too_much(time.monotonic_ns()):
                    return None
        except asyncio.CancelledError:
            if is_task_cancelled():
                is_cancelled = True
                raise
            # grpc.aio raises it for a call whose channel was closed, too; its caller must not take it for its own.
            nothing = grpc.aio.Metadata()
            error = grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, details=_CANCELLED)
            return failed_with(self.service, error), error
        except Exception as raised:
            adviser = self._link.adviser
            if isinstance(raised, grpc.aio.AioRpcError):
                retell(raised, adviser, "Watch", self.service)
            return failed_with(self.service, raised, "Watch", adviser), raised
        finally:
            # Of one whose interceptor gave an answer of its own, this raises (1.85.3).
            with suppress(AttributeError):
                if call is not None:
                    call.cancel()
            del call
            if is_cancelled and self.is_wanted:
                # grpcio has one poller for all loops: what is still said to a closed one raises in another (1.85.3).
                await asyncio.sleep(_LAST_WORDS)
        return ended(self.service), None


async def _stop(reading: asyncio.Task[Any]) -> None:
    if reading.done():
        return
    if not reading.cancelling():  # as where all tasks of the loop are cancelled: it has last words to hear
        reading.cancel()
    await asyncio.wait({reading})


class Ending:
    """Cancels a task; it may be awaited, and need not be.

    Args:
        task: None where there is none (any more).
    """

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self._task = task
        if task is not None:
            with suppress(RuntimeError):  # its loop is closed
                task.cancel()

    def __await__(self) -> Generator[Any, None, None]:
        task = self._task
        if task is None or task.done() or task is asyncio.current_task():
            return
        yield from asyncio.wait({task}).__await__()


def _is_running(task: asyncio.Task[None] | None) -> bool:
    """Whether this is the task that asks, as in a callback. It ends by itself; cancelled, it would end the callback."""
    try:
        return task is not None and task is asyncio.current_task()
    except RuntimeError:  # no loop runs here
        return False


class HealthWatch:
    """What both kinds of Watch have.

    Attributes:
        is_closed: whether it was closed, or has ended.
    """

    _reader: WatchReader

    def __init__(self, link: WatchOwner, service: str) -> None:
        self._answer: HealthAnswer | None = None
        self.is_closed: bool = False
        self._link = link
        self._service = service
        self._task: asyncio.Task[None] | None = None

    @property
    def answer(self) -> HealthAnswer | None:
        """What was said last, None before; where nothing is known, how the last Watch failed."""
        told = self._answer
        return (self._reader.failure or told) if told is not None and told.number is None else told

    def close(self) -> Awaitable[None]:
        """End the Watch at once; a second time does nothing. Await it to have nothing of it pending afterwards.

        A callback may close its own Watch, its client or its channel, and goes on to its end.
        """
        self.is_closed = True
        self._reader.is_wanted = False
        return Ending(None if _is_running(self._task) else self._task)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        said = "closed" if self.is_closed else self.answer or "nothing said yet"
        return f"<{type(self).__name__} {self._service!r} {said}>"


class _End:
    """The last item of an iterator's queue.

    Attributes:
        answer: how the Watch ended.
        error: what it ended with.
    """

    def __init__(self, answer: HealthAnswer, error: BaseException | None) -> None:
        self.answer = answer
        self.error = error


class WatchIterator(HealthWatch, AsyncIterator[ServingStatus]):
    """Iterates over the statuses of a service.

    It ends when it is closed. Where it was not asked to follow, it ends with its Watch, too: without an error where the
    server has ended that with OK, else with the `grpc.aio.AioRpcError`. Whoever waits for the next status may be
    cancelled, as by `asyncio.wait_for`, and wait again: nothing is lost.
    """

    def __init__(self, link: WatchOwner, service: str, request: bytes, *, follow: bool) -> None:
        super().__init__(link, service)
        self._reader = WatchReader(link, service, request, follow=follow)
        self._said: asyncio.Queue[HealthAnswer | _End] = asyncio.Queue(1)
        link.iterators.add(weakref.ref(self, link.iterators.discard))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServingStatus:
        """Return the next status.

        Raises:
            StopAsyncIteration: it was closed, or the server has ended the Watch.
            grpc.aio.AioRpcError: the Watch has failed, and is not followed.
            InvalidResponse: the server's answer is no HealthCheckResponse, and the Watch is not followed.
            ChannelUnusable: it is used on another event loop than the client, or after a fork.
        """
        if self.is_closed:
            raise StopAsyncIteration
        self._link.check_caller()
        if self._task is None:
            self._task = start_call(asyncio.get_running_loop(), _fill(self._reader, self._said))
            self._task.add_done_callback(partial(_end, self._said))
        said = await self._said.get()
        self._answer = said.answer if isinstance(said, _End) else said
        if not isinstance(said, _End):
            return said.status
        if self.is_closed or said.error is None:
            self.close()
            raise StopAsyncIteration
        self.close()
        try:
            raise said.error.with_traceback(None) from None
        finally:
            del said

    def __del__(self) -> None:
        task, self._reader.is_wanted = self._task, False
        if task is not None and not task.done():
            with suppress(RuntimeError):  # the loop is closed
                # The garbage collector may come by in any thread.
                task.get_loop().call_soon_threadsafe(task.cancel)


async def _fill(reader: WatchReader, said: asyncio.Queue[HealthAnswer | _End]) -> None:
    answer, error = await reader.read(said.put)
    try:
        await said.put(_End(answer, error))
    finally:
        del error


def _end(said: asyncio.Queue[HealthAnswer | _End], task: asyncio.Task[None]) -> None:
    """Tell those that still wait that the Watch was closed."""
    if not task.cancelled() and task.exception() is None:
        return
    if said.full():
        said.get_nowait()
    error = None if task.cancelled() else task.exception()
    said.put_nowait(_End(failed("", grpc.StatusCode.CANCELLED, "closed"), error))


class WatchSubscription(HealthWatch):
    """Calls back with each status of a service, on the client's event loop.

    It goes on until it is closed, or its client, channel or loop is: also where nobody keeps it. Where it was not asked
    to follow, it ends with its Watch. Its last word is UNKNOWN then, and `answer` says why.

    Args:
        link: the client's channel.
        service: the name asked for.
        request: the same as a message.
        callback: takes a status; what it returns is awaited, if it can be. It hears the newest one, at most 100 a
            second; the others are passed over.
        follow: whether a Watch that ends is begun again.
    """

    def __init__(self, link: WatchOwner, service: str, request: bytes, *, callback: Callback, follow: bool) -> None:
        super().__init__(link, service)
        self._callback = callback
        self._reader = WatchReader(link, service, request, follow=follow)

    def start(self) -> None:
        """Begin, on the running loop."""
        self._link.subscriptions.add(self)
        self._task = start_call(asyncio.get_running_loop(), self._run())

    async def _run(self) -> None:
        try:
            answer, _ = await self._reader.read(self._deliver)
            if self._reader.is_wanted:
                self._reader.warn(answer)
                await self._deliver(answer)
        finally:
            self.is_closed = True
            self._task = None  # a task that was cancelled keeps the frames that hold this object
            self._link.subscriptions.discard(self)

    async def _deliver(self, answer: HealthAnswer) -> None:
        self._answer = answer
        waiting: list[object] = []
        run_guarded("watch callback", partial(_call, self._callback, answer.status, waiting))
        for awaitable in waiting:
            await self._await_guarded(awaitable)

    async def _await_guarded(self, awaitable: Any) -> None:
        try:
            await awaitable
        except BaseException as error:
            if is_interrupt(error) or (isinstance(error, asyncio.CancelledError) and is_task_cancelled()):
                raise
            log_guarded(_ERROR, f"the watch callback {name_of(self._callback)} raised", error)


def _call(callback: Callback, status: ServingStatus, waiting: list[object]) -> None:
    returned = callback(status)
    if inspect.isawaitable(returned):
        waiting.append(returned)


def check_callback(callback: object) -> Callback:
    """Return a callback.

    Raises:
        ConfigError: it cannot be called.
    """
    if not callable(callback):
        raise ConfigError(f"callback must be callable, not {callback!r}")
    return callback


def check_process(pid: int) -> None:
    """Raise where the process has forked since.

    Raises:
        ChannelUnusable: it has.
    """
    if pid != os.getpid():
        raise ChannelUnusable(FORKED)
