"""The calls of the aio face.

The one rule: to its caller it is one call from beginning to end, however often it had to wait or pick
again before an attempt left. On the way where nothing fails there is no task but grpcio's own.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Self

import grpc
import grpc.aio

from healthlb.aio.errors import AioCallError
from healthlb.control.attempts import Attempt, Attempts, Outcome
from healthlb.control.delivery import run_callback
from healthlb.control.pool import failure, too_late
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Fail

_CANCELLED = "Locally cancelled by application!"


class OngoingCall:
    """What the four kinds of calls share.

    Args:
        attempts: the call's way through the subchannels.
        arguments: of grpcio's multi-callable, but for the timeout.
        request: the request, or the iterator of requests, or nothing.
    """

    def __init__(self, attempts: Attempts, arguments: dict[str, Any], *request: Any) -> None:
        self._attempts = attempts
        self._arguments = arguments
        self._request = request
        self._inner: Any = None
        self._error: AioCallError | None = None
        self._is_cancelled = False
        self._is_over = False
        self._changed: asyncio.Future[None] | None = None
        self._stop_timer: Callable[[], object] | None = None
        self._watcher = -1
        self._callbacks: list[Callable[[Any], None]] = []

    def begin(self) -> Self:
        """Make the first attempt, or begin to wait for it."""
        self._attempts.method.pool.start()
        sub = self._attempts.try_pick()
        if sub is None or not self._open(sub):
            self._advance()
        return self

    # --- attempts --------------------------------------------------------------------------------

    def _advance(self) -> None:
        attempts = self._attempts
        while not self._is_over:
            snapshot = attempts.method.pool.board.snapshot
            sub = attempts.try_pick()
            if sub is None:
                fail = failure(snapshot, wait_for_ready=attempts.wait_for_ready)
                if fail is not None:
                    self._end(fail)
                else:
                    self._wait(snapshot.generation)
                return
            attempts.waited()
            if self._open(sub):
                return

    def _wait(self, generation: int) -> None:
        pool = self._attempts.method.pool
        reference = weakref.ref(self)
        delay = self._attempts.time_remaining
        if delay is not None and self._stop_timer is None:
            self._stop_timer = pool.call_later(delay, lambda: _on(reference, OngoingCall._expire))
        self._watcher = pool.board.when_changed(generation, lambda: _on(reference, OngoingCall._advance))

    def _expire(self) -> None:
        if self._inner is None:
            self._end(too_late(self._attempts.method.pool.board.snapshot))

    def _open(self, sub: Subchannel) -> bool:
        try:
            call = self._attempts.method.on(sub)
            inner = call(*self._request, timeout=self._attempts.timeout, **self._arguments)
        except (ValueError, grpc.aio.UsageError):
            if self._attempts.lost(sub):
                return False
            raise
        except BaseException:
            sub.load.abandon()
            raise
        self._inner = inner
        _when_done(inner, weakref.ref(self), sub)
        self._wake()
        return True

    def _attempt_ended(self, sub: Subchannel) -> None:
        inner = self._inner
        code = now(inner.code())
        if code is grpc.StatusCode.OK:
            sub.load.succeed(time.monotonic_ns())
        else:
            outcome = Outcome(code, now(inner.details()) or "", bool(now(inner.initial_metadata())))
            if not self._attempts.failed(sub, outcome):
                self._inner = None
                self._advance()
                return
        self._finish(None)

    def _end(self, fail: Fail) -> None:
        self._finish(AioCallError(fail, self._attempts.history))

    def _finish(self, error: AioCallError | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._error = error
        if self._stop_timer is not None:
            self._stop_timer()
        if self._watcher >= 0:
            self._attempts.method.pool.board.forget(self._watcher)
        self._wake()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            run_callback(lambda callback=callback: callback(self))  # type: ignore[misc]

    # --- waiting -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _started(self) -> Any:
        """Return the attempt under way; wait for it.

        Raises:
            grpc.aio.AioRpcError: the call ended without one.
            asyncio.CancelledError: the caller cancelled it.
        """
        while self._inner is None:
            self._raise_error()
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            try:
                await asyncio.shield(self._changed)
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._inner

    def _raise_error(self) -> None:
        if self._is_cancelled:
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error

    def _is_final(self, inner: Any, error: grpc.aio.AioRpcError) -> bool:
        """Whether an attempt that failed was the last; grpcio's callbacks run before its awaiters."""
        if self._inner is not inner:
            return False
        error.attempts = self._attempts.history  # type: ignore[attr-defined]
        return True

    async def _ask(self, name: str, otherwise: Callable[[AioCallError], Any]) -> Any:
        while True:
            if self._error is not None:
                return otherwise(self._error)
            try:
                inner = await self._started()
            except grpc.aio.AioRpcError:
                continue
            except asyncio.CancelledError:
                if self._error is None:
                    raise
                continue
            value = await getattr(inner, name)()
            if self._inner is inner:
                return value

    # --- what the caller sees ------------------------------------------------------------------------

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed."""
        return self._attempts.history

    def cancel(self) -> bool:
        """End the call with CANCELLED; False where it is over."""
        if self._is_over:
            return False
        if self._inner is not None:
            return bool(self._inner.cancel())
        self._is_cancelled = True
        self._end(Fail(Code.CANCELLED, _CANCELLED))
        return True

    def cancelled(self) -> bool:
        """Whether it ended with CANCELLED."""
        if self._inner is not None:
            return bool(self._inner.cancelled())
        return self._error is not None and self._error.code() is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether the call is over."""
        return self._is_over

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None without one."""
        return self._attempts.time_remaining

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this call once it is over, maybe at once."""
        if self._is_over:
            callback(self)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> Any:
        """The server's initial metadata."""
        return await self._ask("initial_metadata", AioCallError.initial_metadata)

    async def trailing_metadata(self) -> Any:
        """The server's trailing metadata, once the call is over."""
        return await self._ask("trailing_metadata", AioCallError.trailing_metadata)

    async def code(self) -> Any:
        """The status code, once the call is over."""
        return await self._ask("code", AioCallError.code)

    async def details(self) -> Any:
        """The status's text, once the call is over."""
        return await self._ask("details", AioCallError.details)

    async def debug_error_string(self) -> Any:
        """C-core's own text, once the call is over."""
        return await self._ask("debug_error_string", AioCallError.debug_error_string)

    async def wait_for_connection(self) -> None:
        """Return once the call is under way on a connection; raise its error where it failed."""
        while True:
            inner = await self._started()
            try:
                return await inner.wait_for_connection()  # type: ignore[no-any-return]
            except grpc.aio.AioRpcError as error:
                if self._is_final(inner, error):
                    raise

    def __repr__(self) -> str:
        what = self._inner or self._error or "waiting for a subchannel"
        return f"<{type(self).__name__} {self._attempts.method.name}: {what}>"


class UnaryResponse(OngoingCall):
    """A call with one response: awaiting it gives that."""

    def __await__(self) -> Generator[Any, None, Any]:
        """Return the response.

        Raises:
            grpc.aio.AioRpcError: the call failed.
            asyncio.CancelledError: it was cancelled, or the awaiting task was.
        """
        while True:
            inner = self._inner
            if inner is None:
                inner = yield from self._started().__await__()
            try:
                return (yield from inner.__await__())
            except grpc.aio.AioRpcError as error:
                if self._is_final(inner, error):
                    raise


class StreamResponse(OngoingCall):
    """A call with a stream of responses: iterate over it, or read one by one."""

    def __init__(self, attempts: Attempts, arguments: dict[str, Any], *request: Any) -> None:
        super().__init__(attempts, arguments, *request)
        self._responses: AsyncIterator[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return the responses; raises `grpc.aio.AioRpcError` where the call fails."""
        if self._responses is None:
            self._responses = self._iterate() if self._inner is None or not self._is_over else self._inner.__aiter__()
        return self._responses

    async def _iterate(self) -> AsyncIterator[Any]:
        while True:
            inner = await self._started()
            try:
                async for response in inner:
                    yield response
                return
            except grpc.aio.AioRpcError as error:
                if self._is_final(inner, error):
                    raise

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        while True:
            inner = await self._started()
            try:
                return await inner.read()
            except grpc.aio.AioRpcError as error:
                if self._is_final(inner, error):
                    raise


class StreamRequest(OngoingCall):
    """A call with a stream of requests that may be written one by one."""

    async def write(self, request: Any) -> None:
        """Write one request."""
        await (await self._started()).write(request)

    async def done_writing(self) -> None:
        """Write no more."""
        await (await self._started()).done_writing()


class UnaryUnaryCall(UnaryResponse, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """One request, one response."""


class UnaryStreamCall(StreamResponse, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of responses."""


class StreamUnaryCall(StreamRequest, UnaryResponse, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A stream of requests, one response."""


class StreamStreamCall(StreamRequest, StreamResponse, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]
    """A stream of requests, a stream of responses."""


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine gives that has nothing to wait for, as those of a call that is over."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("the call is not over")


def _on(reference: weakref.ref[OngoingCall], act: Callable[[OngoingCall], None]) -> None:
    call = reference()
    if call is not None:
        act(call)


def _when_done(inner: Any, reference: weakref.ref[OngoingCall], sub: Subchannel) -> None:
    # grpcio's public add_done_callback keeps the call alive until it is over, so that one whose
    # user has dropped it would never be cancelled; the call beneath does not.
    inner._cython_call.add_done_callback(lambda: _attempt_ended(reference, sub))


def _attempt_ended(reference: weakref.ref[OngoingCall], sub: Subchannel) -> None:
    call = reference()
    if call is None:
        sub.load.abandon()
    else:
        call._attempt_ended(sub)
