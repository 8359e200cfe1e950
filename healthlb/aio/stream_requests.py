"""The requests of a call with a stream, beneath grpcio's: they go to the attempt that is under way.

They are kept, as bytes, until the call is committed or they are too much; the next attempt sends them again from the
beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from healthlb.aio.balanced import BalancedCall, start_attempt
from healthlb.aio.grpcio import InternalError, check_message
from healthlb.aio.stream_attempt import StreamAttempt
from healthlb.calls.refusals import MADE_UP
from healthlb.calls.replay import RequestLog
from healthlb.control.tasks import resolve
from healthlb.core.messages import Code, Fail


class SendingCall(BalancedCall):
    """A call that can send requests on whichever attempt is under way."""

    _current: StreamAttempt | None = None
    _changed: asyncio.Future[None] | None = None
    _log: RequestLog | None = None
    _is_half_closed = False
    _is_committed = False
    _is_unary_response = False
    _when_sent: Callable[[], None] | None = None
    # The attempt that has ended for its caller alone, since it takes no more requests.
    _unsendable: StreamAttempt | None = None

    def _commit(self, attempt: StreamAttempt) -> bool:
        """Let no other attempt take over; False where one has already."""
        raise NotImplementedError

    async def _change(self) -> None:
        """Return when there may be another attempt, or the call is over."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def _notify_change(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            resolve(changed)

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
            if self._is_over:
                await self._raise_over()
            raise InternalError("the call is over")
        attempt = self._current
        if attempt is None or not attempt.is_ready_for(log.count):
            log.append(message)
            await self._send_on_each(lambda attempt: self._catch_up(attempt, log.count))
        elif not await self._send_at_once(attempt, log, message):
            await self._send_on_each(lambda attempt: self._catch_up(attempt, log.count))

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
            await self._raise_over()
        else:
            await self._send_on_each(lambda attempt: self._catch_up(attempt, log.count))

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
        await self._raise_over()

    async def _raise_over(self) -> NoReturn:
        await self.status()  # Its caller may still be to be told; until then grpcio would cancel it for this error.
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
        """Note that the attempt's metadata were sent, so that requests may follow. C-core calls this at its end too."""
        if attempt.real.done() or attempt is not self._current:
            return
        attempt.is_open = True
        self._notify_change()
        log = self._log
        if log is not None and (log.count or self._is_half_closed):
            start_attempt(self._send_again(attempt))
        when_sent, self._when_sent = self._when_sent, None
        if when_sent is not None:
            when_sent()

    async def _send_again(self, attempt: StreamAttempt) -> None:
        log = self._log
        if log is None:
            return
        try:
            await self._catch_up(attempt, log.count)
        except InternalError:
            return  # the attempt's status says why
