"""A stream of requests, as it goes to one attempt and may have to go to another.

grpcio's own thread reads the caller's iterator, one request after the other: the next only when it has heard that
this one was sent. So each is read once, in one context, however many attempts there are.
"""

from __future__ import annotations

from typing import Any

from healthlb.calls.replay import RequestLog
from healthlb.sync import grpcio
from healthlb.sync.live_attempt import LiveAttempt


class Requests:
    """The requests of one call. All but `serialize` is called under the call's lock.

    Args:
        limit: bytes that are kept for another attempt.
    """

    def __init__(self, limit: int) -> None:
        self._log: RequestLog | None = RequestLog(limit)
        self._latest: Any = None
        self._is_sending_reported = self._is_closing_reported = True
        self._is_closed = False

    def serialize(self, serializer: Any, request: Any) -> Any:
        """Return a request's bytes, and keep them for the operation that follows: it does not give them away."""
        body = request if serializer is None else serializer(request)
        if self._log is not None:
            self._latest = body
        return body

    @property
    def are_whole(self) -> bool:
        """Whether the stream can be sent again from its beginning."""
        return self._log is not None and self._log.is_whole

    @property
    def have_begun(self) -> bool:
        """Whether any were sent, or their end."""
        return self._is_closed or (self._log is not None and self._log.count > 0)

    def ask(self, kind: int) -> None:
        """Take what grpcio wants sent: the latest request, or the end."""
        if kind == grpcio.SEND_CLOSE:
            self._is_closed, self._is_closing_reported = True, False
            return
        self._is_sending_reported = False
        if self._log is not None:
            self._log.append(self._latest)
        self._latest = None

    def send(self, attempt: LiveAttempt) -> None:
        """Send the next request on an attempt, or the end."""
        log = self._log
        if log is None or attempt.real is None or attempt.is_sending:
            return
        if attempt.sent < log.count:
            # False where C-core's call is over, and its status has not been taken in yet: no event will come.
            attempt.is_sending = attempt.operate((grpcio.send_message(log.get(attempt.sent), 0),))
            attempt.sent += attempt.is_sending
        elif self._is_closed and not attempt.is_closing:
            attempt.is_closing = attempt.operate((grpcio.send_close(),))

    def sent(self, attempt: LiveAttempt, kind: int) -> bool:
        """Take in that one was sent; return whether grpcio waits for it: it knows of none that was sent again."""
        if kind == grpcio.SEND_CLOSE:
            was_reported, self._is_closing_reported = self._is_closing_reported, True
            return not was_reported
        attempt.is_sending = False
        was_reported = self._is_sending_reported or (self._log is not None and attempt.sent < self._log.count)
        self._is_sending_reported |= not was_reported
        self.send(attempt)
        return not was_reported

    def orphans(self, attempt: LiveAttempt) -> set[int]:
        """Return which operations grpcio waits for that were not started on an attempt."""
        found = set()
        if not (self._is_sending_reported or attempt.is_sending):
            found.add(grpcio.SEND_MESSAGE)
        if not (self._is_closing_reported or attempt.is_closing):
            found.add(grpcio.SEND_CLOSE)
        return found

    def commit(self) -> None:
        """Keep nothing but what is still to be sent."""
        if self._log is not None:
            self._log.commit()

    def drop(self) -> None:
        """Keep nothing."""
        self._log = self._latest = None
