"""The calls with a stream, beneath grpcio's: messages go to the attempt that is under way.

Request messages are kept, as bytes, until the call is committed or they are too much; the next attempt sends them
again from the beginning. A response message commits the call (gRFC A6): from then on it is the attempt's alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from healthlb.aio.balanced import BalancedCall, outcome_of, start_attempt
from healthlb.aio.grpcio import EOF, InternalError, check_message, turns
from healthlb.aio.stream_attempt import StreamAttempt
from healthlb.control.attempts import Outcome
from healthlb.control.call_metadata import check_types, illegal_keys
from healthlb.control.evidence import MADE_UP
from healthlb.control.replay import RequestLog
from healthlb.control.tasks import resolve
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Fail


class BalancedStream(BalancedCall):
    """A call with a stream of requests, of responses, or of both."""

    _begin_attempt: Callable[[StreamAttempt, tuple[Any, ...]], Awaitable[Any]]
    _current: StreamAttempt | None = None
    _changed: asyncio.Future[None] | None = None
    _log: RequestLog | None = None
    _is_half_closed = False
    _is_committed = False
    _gives_metadata = False
    _refusal: Exception | None = None
    _is_unary_response = False
    _when_sent: Callable[[], None] | None = None
    _response: bytes | None = None
    # The attempt that has ended for its caller alone, since it takes no more requests.
    _unsendable: StreamAttempt | None = None

    # --- how grpcio begins each arity --------------------------------------------------------------------

    async def initiate_unary_stream(self, request: bytes, metadata: tuple[Any, ...], context: Any = None) -> None:
        """Begin a call with one request; return when its headers are there, or an attempt has failed."""

        def begin(attempt: StreamAttempt, metadata: tuple[Any, ...]) -> Awaitable[Any]:
            return attempt.real.initiate_unary_stream(request, metadata, context)  # type: ignore[no-any-return]

        await self._initiate(begin, metadata, request)

    async def initiate_stream_stream(
        self, metadata: tuple[Any, ...], when_sent: Callable[[], None], context: Any = None
    ) -> None:
        """Begin a call with a stream of requests, which may be sent once `when_sent` was called."""

        def begin(attempt: StreamAttempt, metadata: tuple[Any, ...]) -> Awaitable[Any]:
            opened = partial(self._opened, attempt)
            return attempt.real.initiate_stream_stream(metadata, opened, context)  # type: ignore[no-any-return]

        self._take_requests(when_sent)
        await self._initiate(begin, metadata)

    async def stream_unary(
        self, metadata: tuple[Any, ...], when_sent: Callable[[], None], context: Any = None
    ) -> bytes | None:
        """Make a call with a stream of requests; return the response, None where it did not end with OK."""

        def begin(attempt: StreamAttempt, metadata: tuple[Any, ...]) -> Awaitable[Any]:
            opened = partial(self._opened, attempt)
            return attempt.real.stream_unary(metadata, opened, context)  # type: ignore[no-any-return]

        self._is_unary_response = True
        self._take_requests(when_sent)
        await self._initiate(begin, metadata)
        await self.status()
        return self._response

    def _take_requests(self, when_sent: Callable[[], None]) -> None:
        self._when_sent = when_sent
        self._log = RequestLog(self._method.policy.buffer_limit)
        self._tell_change()

    async def _initiate(
        self,
        begin: Callable[[StreamAttempt, tuple[Any, ...]], Awaitable[Any]],
        metadata: tuple[Any, ...],
        request: bytes | None = None,
    ) -> None:
        if not self._is_over:
            await self._check(request, metadata)
        if self._is_over:  # it was cancelled before it began
            self._let_send()
            return
        self._begin_attempt = begin
        self._metadata = metadata
        self.run()
        while self._status is None and (self._current is None or not self._current.is_open):
            await self._change()
        refusal, self._refusal = self._refusal, None
        if refusal is not None:
            try:
                raise refusal
            finally:
                del refusal  # its traceback holds this frame

    async def _check(self, request: bytes | None, metadata: tuple[Any, ...]) -> None:
        # C-core looks at them when a call is made, and this one may wait for a subchannel.
        try:
            check_message(request)
            check_types(metadata)
        except (TypeError, ValueError) as error:
            start_attempt(self._end_unsent_later(error))
            raise
        if illegal_keys(metadata):
            await turns()

    async def _end_unsent_later(self, error: Exception) -> None:
        # Who reads is to hear of the error itself, as from grpcio, and not that the call is over.
        await turns()
        self._end_unsent(error)

    # --- attempts ----------------------------------------------------------------------------------------

    def _open(self, number: int, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        real = self._make_real(sub, timeout)
        attempt = StreamAttempt(number, real)
        self._current = attempt
        start_attempt(self._attempt(attempt, tuple(metadata or ())))
        return real

    async def _attempt(self, attempt: StreamAttempt, metadata: tuple[Any, ...]) -> None:
        real = attempt.real
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
        self._tell_change()
        await real.status()
        if attempt.is_asked and await attempt.has_response() and attempt is self._current:
            self._end_unread(attempt, MADE_UP)
        if real.is_ok() and attempt is self._current:
            self._response = response
        outcome = None if real.is_ok() else self._outcome(attempt)
        if attempt is self._current:
            self._current = None
        self.attempt_ended(attempt.number, outcome, real)
        self._tell_change()

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where the attempt under way is on this backend, which was found hung, if the call may."""
        is_whole = self._log is None or self._log.is_whole
        return is_whole and super().rescue(sub)

    def _drop(self, inner: Any) -> None:
        if self._current is not None and self._current.real is inner:
            self._current = None
        super()._drop(inner)

    def _outcome(self, attempt: StreamAttempt) -> Outcome:
        if self._log is not None and not self._log.is_whole:
            self._commit(attempt)
        outcome = outcome_of(attempt.real)
        # Of a stream of responses, headers that nobody asked for are no response yet.
        return outcome if self._is_unary_response else replace(outcome, is_begun=False)

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
            await turns()
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
        if not self.commit(attempt.number):
            return False
        self._is_committed = True
        metadata = attempt.real._initial_metadata
        if metadata is not None:
            self._set_initial_metadata(metadata)
        if self._log is not None:
            self._log.commit(attempt.position)
        # From here on grpcio reads from the attempt itself.
        vars(self)["receive_serialized_message"] = attempt.reads
        return True

    def _over(self, inner: Any, fail: Fail | None) -> None:
        super()._over(inner, fail)
        vars(self).pop("_begin_attempt", None)
        vars(self).pop("receive_serialized_message", None)
        if self._unsendable is not None:
            vars(self)["receive_serialized_message"] = partial(self._receive_rest, self._unsendable)
        self._current = self._log = self._unsendable = None
        self._let_send()
        self._tell_change()

    def _let_send(self) -> None:
        """Let go of who waits until requests can be sent: the call is over, as they will find."""
        when_sent, self._when_sent = self._when_sent, None
        if when_sent is not None:
            # Later: with eager tasks grpcio is still making its call.
            asyncio.get_running_loop().call_soon(when_sent)

    async def _change(self) -> None:
        """Return when there may be another attempt, or the call is over."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _tell_change(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            resolve(changed)

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

    # --- requests ----------------------------------------------------------------------------------------

    def set_internal_error(self, text: str) -> None:
        """End the call as one of which a request could not be sent.

        As with grpcio's own, what has been answered can still be read after that, and then the server's status.
        """
        attempt = self._current
        if attempt is None or not self._is_committed or (attempt.real.done() and not attempt.is_asked):
            super().set_internal_error(text)
        else:
            self._end_unread(attempt, text)

    def _end_unread(self, attempt: StreamAttempt, text: str) -> None:
        self._commit(attempt)
        self._unsendable = attempt
        attempt.leave(text)
        self._finish(None, Fail(Code.INTERNAL, MADE_UP))

    async def send_serialized_message(self, message: bytes) -> None:
        """Send one request, on whichever attempt is under way.

        Raises:
            grpc.aio.InternalError: the call is over.
        """
        check_message(message, "message")
        log = self._log
        if log is None:
            raise InternalError("the call is over")
        attempt = self._current
        if attempt is None or not attempt.is_ready_for(len(log)):
            log.append(message)
            await self._send_on_each(lambda attempt: self._catch_up(attempt, len(log)))
        elif not await self._send_at_once(attempt, log, message):
            await self._send_on_each(lambda attempt: self._catch_up(attempt, len(log)))

    async def _send_at_once(self, attempt: StreamAttempt, log: RequestLog, message: bytes) -> bool:
        """Send where nothing is to be sent before it; False where the attempt has failed."""
        if not self._is_committed:
            log.append(message)
            attempt.position += 1
            if not log.is_whole:
                self._commit(attempt)
        async with attempt.sending:
            try:
                await attempt.real.send_serialized_message(message)
            except InternalError:
                if await self._has_answered(attempt):
                    raise
                await self._wait_for_the_next(attempt)
                return False
        return True

    async def _has_answered(self, attempt: StreamAttempt) -> bool:
        """Whether an attempt that takes no more requests is the call's last, for there are responses of it.

        Its status is told to who has read them all, so one that only sends would wait for it until its deadline.
        """
        if attempt.real.done() or self._is_unary_response:  # where the response is read from the beginning
            return False
        return self._is_committed or (await attempt.has_response() and self._commit(attempt))

    async def _wait_for_the_next(self, attempt: StreamAttempt) -> None:
        """Return when it is known what becomes of a call whose attempt has failed."""
        await attempt.real.status()
        if attempt is self._current:
            await self._change()

    async def send_receive_close(self) -> None:
        """Say that no request follows."""
        self._is_half_closed = True
        while self._log is None and not self._is_over:
            await self._change()  # it is not begun
        log = self._log
        if log is None:
            raise InternalError("the call is over")
        await self._send_on_each(lambda attempt: self._catch_up(attempt, len(log)))

    async def _send_on_each(self, send: Callable[[StreamAttempt], Awaitable[None]]) -> None:
        """Send on the attempt that is under way, and where it fails on the next one."""
        while not self._is_over:
            attempt = self._current
            if attempt is None or not attempt.is_open:
                await self._change()
                continue
            try:
                await send(attempt)
            except InternalError:
                if await self._has_answered(attempt):
                    raise
                await self._wait_for_the_next(attempt)
            else:
                return
        raise InternalError("the call is over")

    async def _catch_up(self, attempt: StreamAttempt, count: int) -> None:
        """Send what this attempt has not sent of the first `count` requests, and the end where there is one."""
        async with attempt.sending:
            while self._log is not None and attempt.position < count:
                request = self._log.get(attempt.position)
                attempt.position += 1
                await attempt.real.send_serialized_message(request)
            if self._is_half_closed and not attempt.is_half_closed and attempt.position >= count:
                attempt.is_half_closed = True
                await attempt.real.send_receive_close()

    def _opened(self, attempt: StreamAttempt) -> None:
        """Its metadata were sent, so that requests may be; or it has ended, which changes nothing."""
        if attempt.real.done() or attempt is not self._current:
            return
        attempt.is_open = True
        self._tell_change()
        log = self._log
        if log is not None and (len(log) or self._is_half_closed):
            start_attempt(self._send_again(attempt))
        when_sent, self._when_sent = self._when_sent, None
        if when_sent is not None:
            when_sent()

    async def _send_again(self, attempt: StreamAttempt) -> None:
        log = self._log
        if log is None:
            return
        try:
            await self._catch_up(attempt, len(log))
        except InternalError:
            return  # the attempt's status says why
