"""The calls with a stream, beneath grpcio's: messages go to the attempt that is under way.

The one rule: a response message commits the call (gRFC A6); from then on it is the attempt's alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from healthlb.aio.balanced import start_attempt
from healthlb.aio.grpcio import EOF, CoreCall, check_message, yield_to_core
from healthlb.aio.stream_attempt import StreamAttempt
from healthlb.aio.stream_requests import SendingCall
from healthlb.calls.attempts import Attempts, Live, Outcome
from healthlb.calls.metadata import check_types
from healthlb.calls.refusals import MADE_UP
from healthlb.calls.replay import RequestLog
from healthlb.core.call.call_attempts import FIRST
from healthlb.core.load import Subchannel
from healthlb.core.messages import Fail


class BalancedStream(SendingCall):
    """A call with a stream of requests, of responses, or of both."""

    _begin_attempt: Callable[[StreamAttempt, tuple[Any, ...]], Awaitable[Any]]
    _gives_metadata = False
    _refusal: Exception | None = None
    _response: bytes | None = None

    # --- how grpcio begins each arity --------------------------------------------------------------------

    async def initiate_unary_stream(self, request: bytes, metadata: tuple[Any, ...], context: Any = None) -> None:
        """Begin a call with one request; return when its headers are there, or an attempt has failed."""

        def begin(attempt: StreamAttempt, metadata: tuple[Any, ...]) -> Awaitable[Any]:
            return attempt.real.initiate_unary_stream(request, metadata, context)

        await self._initiate(begin, metadata, request)

    async def initiate_stream_stream(
        self, metadata: tuple[Any, ...], when_sent: Callable[[], None], context: Any = None
    ) -> None:
        """Begin a call with a stream of requests, which may be sent once `when_sent` was called."""

        def begin(attempt: StreamAttempt, metadata: tuple[Any, ...]) -> Awaitable[Any]:
            opened = partial(self._opened, attempt)
            return attempt.real.initiate_stream_stream(metadata, opened, context)

        self._take_requests(when_sent)
        await self._initiate(begin, metadata)

    async def stream_unary(
        self, metadata: tuple[Any, ...], when_sent: Callable[[], None], context: Any = None
    ) -> bytes | None:
        """Make a call with a stream of requests; return the response, None where it did not end with OK."""

        def begin(attempt: StreamAttempt, metadata: tuple[Any, ...]) -> Awaitable[Any]:
            opened = partial(self._opened, attempt)
            return attempt.real.stream_unary(metadata, opened, context)

        self._is_unary_response = True
        self._take_requests(when_sent)
        await self._initiate(begin, metadata)
        await self.status()
        return self._response

    def _take_requests(self, when_sent: Callable[[], None]) -> None:
        self._when_sent = when_sent
        self._log = RequestLog(self._method.policy.buffer_limit)
        self._notify_change()

    async def _initiate(
        self,
        begin: Callable[[StreamAttempt, tuple[Any, ...]], Awaitable[Any]],
        metadata: tuple[Any, ...],
        request: bytes | None = None,
    ) -> None:
        if not self._is_over:
            self._check(request, metadata)
        if self._is_over:  # it was cancelled before it began
            self._let_send()
            return
        self._begin_attempt = begin
        self._metadata = metadata
        first = self._first_attempt()
        await (self._run_here() if first is None else first)
        while self._status is None and (self._current is None or not self._current.is_open):
            await self._change()
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # its traceback holds this frame

    def _check(self, request: bytes | None, metadata: tuple[Any, ...]) -> None:
        # C-core looks at them when a call is made, and this one may wait for a subchannel.
        try:
            check_message(request)
            check_types(metadata)
        except (TypeError, ValueError) as error:
            start_attempt(self._end_unsent_later(error))
            raise

    # --- attempts ----------------------------------------------------------------------------------------

    def _first_attempt(self) -> Awaitable[None] | None:
        """Begin the first attempt where nothing stands in its way, and return what makes it; None where more is needed.

        Of a call whose first attempt succeeds nothing else is known.
        """
        method = self._method
        sub = method.subchannels.holder.snapshot.picker.pick(method.any_call) if method.is_plain else None
        if sub is None or not sub.load.start():
            return None
        try:
            real = (method.opened.get(sub) or method.open(sub))(self._deadline, self._credentials, None)
        except BaseException as error:
            sub.load.abandon()
            if not isinstance(error, Exception):
                raise
            # Maybe its connection was closed since the pick; if it is something else, it comes again.
            return None
        self._live = {FIRST.attempt: Live(FIRST, sub, time.monotonic(), real)}
        self._current = attempt = StreamAttempt(FIRST.attempt, real)
        return self._attempt(attempt, self._metadata)

    def _make_attempts(self) -> Attempts:
        attempts = super()._make_attempts()
        attempts.is_committed = self._is_committed
        return attempts

    def _open(self, number: int, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        real = self._make_real(sub, timeout)
        attempt = StreamAttempt(number, real)
        self._current = attempt
        self._carry_out(self._attempt(attempt, tuple(metadata or ())))
        return real

    async def _attempt(self, attempt: StreamAttempt, metadata: tuple[Any, ...]) -> None:
        real = attempt.real
        if real.done():
            return  # dropped before it began
        try:
            response = await self._begin_attempt(attempt, metadata)
        except asyncio.CancelledError:
            self._cancel_attempt(attempt.number)
            raise
        except Exception as error:
            # What grpcio refuses to send, it tells whoever begins the call.
            self._refusal = error
            self._cancel_attempt(attempt.number)
            self._end_unsent(error)
            return
        attempt.is_open = True
        self._notify_change()
        if self._is_unary_response:
            await real.status()
            self._ended(attempt, response)
        else:
            real.add_done_callback(partial(self._came_to_an_end, attempt))

    def _came_to_an_end(self, attempt: StreamAttempt) -> None:
        """Take in the status of an attempt at a stream of responses; C-core's call is just being told of it."""
        if attempt.is_left:
            return  # its call is over, but for who reads what came before
        if attempt.is_asked and attempt is self._current:
            start_attempt(self._ended_asked(attempt))
        else:
            self._safely(partial(self._ended, attempt))

    async def _ended_asked(self, attempt: StreamAttempt) -> None:
        if await attempt.has_response() and attempt is self._current:
            self._end_unread(attempt, MADE_UP)
        self._ended(attempt)

    def _ended(self, attempt: StreamAttempt, response: bytes | None = None) -> None:
        real = attempt.real
        if real.is_ok() and attempt is self._current:
            self._response = response
        outcome = None if real.is_ok() else self._outcome(attempt)
        if attempt is self._current:
            self._current = None
        self.attempt_ended(attempt.number, outcome, real)
        self._notify_change()

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where the attempt under way is on this backend, which was found hung, if the call may."""
        is_whole = self._log is None or self._log.is_whole
        return is_whole and super().rescue(sub)

    def give_up_on(self, sub: Subchannel, details: str) -> None:
        """End the attempt under way on this subchannel with UNAVAILABLE; another follows where it may."""
        if self._current is not None and self._log is not None and not self._log.is_whole:
            self._commit(self._current)
        super().give_up_on(sub, details)

    def _drop(self, inner: CoreCall) -> None:
        if self._current is not None and self._current.real is inner:
            self._current = None
        super()._drop(inner)

    def _outcome(self, attempt: StreamAttempt) -> Outcome:
        if self._log is not None and not self._log.is_whole:
            self._commit(attempt)
        return self.failed_as(attempt.real)

    def _metadata_wanted(self) -> None:
        if not self._gives_metadata:
            self._gives_metadata = True
            start_attempt(self._give_metadata())

    async def _give_metadata(self) -> None:
        """Give headers to who waits for them, as soon as they are there; that commits the call.

        Headers without metadata may be none: a status that follows at once shows that the attempt has failed.
        """
        while self._initial_metadata is None:
            attempt = self._current
            if attempt is None:
                await self._change()
                continue
            await attempt.real.initial_metadata()
            await yield_to_core()
            if not attempt.real.done():
                self._commit(attempt)
            elif attempt is self._current:
                await self._change()

    def _take_headers(self) -> None:
        attempt = self._current
        if attempt is not None and attempt.real._initial_metadata:
            self._set_initial_metadata(attempt.real._initial_metadata)

    def _commit(self, attempt: StreamAttempt) -> bool:
        """Let no other attempt take over; False where one has already."""
        if self._status is not None:
            return attempt.is_left or self._status is attempt.real._status
        if self._is_committed:
            return True
        self._is_committed = self.commit(attempt.number)
        if not self._is_committed:
            return False
        metadata = attempt.real._initial_metadata
        if metadata is not None:
            self._set_initial_metadata(metadata)
        if self._log is not None:
            self._log.commit(attempt.position)
        # From here on grpcio reads from the attempt itself.
        vars(self)["receive_serialized_message"] = attempt.reads
        return True

    def _over(self, inner: CoreCall | None, fail: Fail | None) -> None:
        super()._over(inner, fail)
        vars(self).pop("_begin_attempt", None)
        vars(self).pop("receive_serialized_message", None)
        if self._unsendable is not None:
            vars(self)["receive_serialized_message"] = partial(self._receive_rest, self._unsendable)
        self._current = self._log = self._unsendable = None
        self._let_send()
        self._notify_change()

    def _let_send(self) -> None:
        """Wake those that wait until requests can be sent, as the call is over."""
        when_sent, self._when_sent = self._when_sent, None
        if when_sent is not None:
            # Later: with eager tasks grpcio is still making its call.
            asyncio.get_running_loop().call_soon(when_sent)

    # --- responses ---------------------------------------------------------------------------------------

    async def receive_serialized_message(self) -> Any:
        """Return the next response, or EOF."""
        while not self._is_over:
            attempt = self._current
            if attempt is None or not attempt.is_open:
                await self._change()
                continue
            message = await attempt.receive()
            if message is not EOF:
                if self._commit(attempt):
                    return message
                continue
            await self._wait_for_the_next(attempt)
        return EOF

    async def _receive_rest(self, attempt: StreamAttempt) -> Any:
        message = await attempt.receive()
        if message is EOF:
            self._status = await attempt.last_status()
            vars(self).pop("receive_serialized_message", None)
        return message
