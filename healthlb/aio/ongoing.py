"""The calls of the aio face.

The one rule: to its caller it is one call from beginning to end, however many attempts it takes. On the way where
nothing fails there is no task but grpcio's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio import _get_running_loop
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from healthlb.aio.errors import AioCallError
from healthlb.aio.pool import Pool
from healthlb.aio.replay import AsyncReplay
from healthlb.control.attempts import Method, Outcome
from healthlb.control.evidence import MADE_UP
from healthlb.control.replay import RequestLog
from healthlb.control.runner import Runner
from healthlb.core.load import Subchannel
from healthlb.core.messages import Fail


class OngoingCall(Runner):
    """What the four kinds of calls share.

    Args:
        method: what is called.
        request: the request, or the iterable of requests, None where they are written one by one.
        arguments: credentials and compression.
        terms: the caller's timeout, metadata and wait_for_ready.
    """

    # One loop runs a call, so nobody ever waits for this; it costs less than a nullcontext.
    _lock = threading.RLock()
    _changed: asyncio.Future[None] | None = None

    # --- attempts --------------------------------------------------------------------------------

    def _call(self, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        method = self._method
        pool: Pool = method.pool  # type: ignore[assignment]
        if _get_running_loop() is not pool.loop:
            pool.check_caller()
        call = method.opened.get(sub) or method.open(sub)
        credentials, compression = self._arguments
        return call(
            self._request, timeout=timeout, metadata=metadata, credentials=credentials, compression=compression
        )

    def _outcome(self, inner: Any) -> Outcome | None:
        if inner._cython_call.is_ok():
            return None
        code = now(inner.code())
        if inner._cython_call.is_locally_cancelled():
            # By grpcio, together with whoever awaited it: no other attempt is wanted.
            self._attempts.is_cancelled = True
        trailers = tuple(now(inner.trailing_metadata()) or ())
        has_metadata = bool(now(inner.initial_metadata()) or trailers)
        details = now(inner.details()) or ""
        if code is grpc.StatusCode.INTERNAL and details == MADE_UP:
            code = grpc.StatusCode.UNAVAILABLE
        return Outcome(code, details, has_metadata, trailers)

    def _trailers(self, inner: Any) -> Iterable[tuple[str, Any]]:
        return now(inner.trailing_metadata()) or ()

    def _when_done(self, inner: Any, callback: Callable[[], None]) -> None:
        # grpcio's public add_done_callback keeps the call alive until it is over, so that one whose
        # user has dropped it would never be cancelled; the call beneath does not.
        # And it may call back twice: a write that fails makes up a status, and then comes the true one.
        inner._cython_call.add_done_callback(callback)

    def _make_error(self, fail: Fail) -> AioCallError:
        return AioCallError(fail, self.attempts)

    def _commit(self, inner: Any) -> bool:
        """Let no other attempt take over; False where one has already, and what `inner` gave is to be dropped."""
        if self._inner is not inner:
            return False
        self._attempts.is_committed = True
        return True

    # --- waiting -----------------------------------------------------------------------------------

    def _wake(self) -> None:
        changed = self._changed
        if changed is not None:
            self._changed = None
            if not changed.done():
                changed.set_result(None)

    async def _started(self) -> Any:
        """Return the attempt under way; wait for it.

        Raises:
            grpc.aio.AioRpcError: the call ended without one.
            asyncio.CancelledError: the caller cancelled it.
        """
        while self._inner is None:
            self._raise_error()
            try:
                await self._change()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return self._inner

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _raise_error(self) -> None:
        if self._error is not None:
            if self._attempts.is_cancelled:
                raise asyncio.CancelledError
            raise self._error

    def _is_final(self, inner: Any, error: grpc.aio.AioRpcError) -> bool:
        """Whether an attempt that failed was the last; grpcio's callbacks run before its awaiters."""
        if self._inner is not inner:
            return False
        error.attempts = self.attempts  # type: ignore[attr-defined]
        return True

    async def _ask(self, name: str, otherwise: Callable[[AioCallError], Any]) -> Any:
        while True:
            inner = self._inner
            if self._error is not None:
                return otherwise(self._error)
            if inner is None:
                await self._change()
                continue
            value = await getattr(inner, name)()
            if self._inner is inner:
                return value

    # --- what the caller sees ------------------------------------------------------------------------

    def cancelled(self) -> bool:
        """Whether it ended with CANCELLED."""
        if self._inner is not None:
            return bool(self._inner.cancelled())
        return self._error is not None and self._error.code() is grpc.StatusCode.CANCELLED

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this call once it is over, maybe at once."""
        if not self._add_callback(partial(callback, self)):
            callback(self)

    async def initial_metadata(self) -> Any:
        """The server's initial metadata. From then on no other attempt takes over."""
        metadata = await self._ask("initial_metadata", AioCallError.initial_metadata)
        self._commit(self._inner)
        return metadata

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
            except asyncio.CancelledError:
                self.cancel()
                raise


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
            except (asyncio.CancelledError, Exception):
                # grpcio cancels the attempt with whoever awaits it. What it refuses to send, for its metadata say, it
                # tells whoever awaits it alone, and never ends (1.85.1). No other attempt is to be made of either.
                self.cancel()
                raise


class StreamResponse(OngoingCall):
    """A call with a stream of responses: iterate over it, or read one by one."""

    _responses: AsyncIterator[Any] | None = None

    def __del__(self) -> None:
        # Whoever drops a stream cancels it. grpcio 1.85.1 means to do so, but its list of running calls holds on to it.
        live = () if self._is_over else tuple(self._live.values())
        for inner in live:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the call
                inner._loop.call_soon_threadsafe(inner.cancel)

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
                    if not self._attempts.is_committed and not self._commit(inner):
                        break
                    yield response
                else:
                    return
            except grpc.aio.AioRpcError as error:
                if self._is_final(inner, error):
                    raise
            except asyncio.CancelledError:
                self.cancel()
                raise

    async def read(self) -> Any:
        """Return the next response, or `grpc.aio.EOF`."""
        while True:
            inner = await self._started()
            try:
                response = await inner.read()
            except grpc.aio.AioRpcError as error:
                if self._is_final(inner, error):
                    raise
            except asyncio.CancelledError:
                self.cancel()
                raise
            else:
                if self._attempts.is_committed or self._commit(inner):
                    return response


class StreamRequest(OngoingCall):
    """A call with a stream of requests: an iterable, or written one by one."""

    def __init__(
        self, method: Method, request: Any, arguments: Any, terms: tuple[float | None, Any, bool | None]
    ) -> None:
        limit = method.policy.buffer_limit
        self._replay = AsyncReplay(request, limit) if request is not None else None
        self._written = RequestLog(limit)
        self._write_lock = asyncio.Lock()
        self._is_done_writing = False
        self._written_to: Any = None
        self._position = 0
        self._rewriting: asyncio.Task[None] | None = None
        super().__init__(method, request, arguments, terms)

    def _call(self, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        self._request = None if self._replay is None else self._replay.reader()
        return super()._call(sub, timeout, metadata)

    def _outcome(self, inner: Any) -> Outcome | None:
        outcome = super()._outcome(inner)
        if not (self._written.is_whole if self._replay is None else self._replay.rewind()):
            self._attempts.is_committed = True
        return outcome

    def _commit(self, inner: Any) -> bool:
        if not super()._commit(inner):
            return False
        self._written.commit()
        if self._replay is not None:
            self._replay.commit()
        return True

    def cancel(self) -> bool:
        """End the call with CANCELLED; False where it is over."""
        is_cancelled = super().cancel()
        if is_cancelled and self._replay is not None:
            self._replay.close()
        return is_cancelled

    def _wake(self) -> None:
        has_written = len(self._written) or self._is_done_writing
        if has_written and self._inner is not None and self._inner is not self._written_to:
            self._rewriting = asyncio.get_running_loop().create_task(self._write_again())
        super()._wake()

    async def _write_again(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            await self._flush()

    async def write(self, request: Any) -> None:
        """Write one request."""
        self._check_style()
        if self._is_over:
            if self._error is not None and not self._attempts.is_cancelled:
                raise self._error
            raise asyncio.InvalidStateError("RPC already finished.")
        self._written.append(request)
        await self._flush()

    async def done_writing(self) -> None:
        """Write no more."""
        self._check_style()
        if not self._is_over:
            self._is_done_writing = True
            await self._flush()

    @property
    def _done_writing_flag(self) -> bool:
        # grpcio asks for it where interceptors stand between its user's writes and this call (1.85.1).
        return self._is_done_writing

    def _check_style(self) -> None:
        if self._replay is not None:
            raise grpc.aio.UsageError("Please don't mix two styles of API for streaming requests")

    async def _flush(self) -> None:
        async with self._write_lock:
            while True:
                inner = await self._started()
                try:
                    await self._write_to(inner)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    if self._inner is inner:
                        raise
                except asyncio.CancelledError:
                    self.cancel()
                    raise
                else:
                    return

    async def _write_to(self, inner: Any) -> None:
        if inner is not self._written_to:
            self._written_to = inner
            self._position = 0
        while self._position < len(self._written):
            request = self._written.get(self._position)
            self._position += 1
            await inner.write(request)
        if self._is_done_writing:
            await inner.done_writing()


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
