"""What the caller of a call that does not block gets: grpcio's own object, with the attempts that failed.

Callbacks, cancellation, iteration and the end at collection are grpcio's own code; `balanced.py` is what that code
takes for a call of C-core.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc

from healthlb.calls.attempts import Attempt, add_notes, with_remedy
from healthlb.sync import grpcio
from healthlb.sync.errors import snapshot

# An answer without headers of its own brings its status in the same packet; no caller notices this much.
_STATUS_FOLLOWS = 0.001
_LOOK_AGAIN = 0.1
_INTERNAL = grpcio.NUMBERS[grpc.StatusCode.INTERNAL]


class _WithAttempts:
    """What both kinds have more than grpcio's."""

    _state: Any
    _call: Any
    _has_notes = False

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts that failed."""
        attempts: tuple[Attempt, ...] = self._call.attempts
        return attempts

    @property
    def address(self) -> str | None:
        """The backend that has answered, None before one has."""
        address: str | None = self._call.address
        return address

    def details(self) -> str | None:
        """Return the status's text, with what to do about it where that is known; block until it is there."""
        details = super().details()  # type: ignore[misc]
        return with_remedy(self._state.code, details)

    def __next__(self) -> Any:
        """Return the next response.

        Raises:
            StopIteration: the stream ended with OK.
            grpc.RpcError: it ended otherwise.
        """
        try:
            return self._next()  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            # The frames beneath hold this very object: it would never be freed but by the garbage collector.
            raise self._noted(error).with_traceback(None) from None
        finally:
            del self

    next = __next__

    def traceback(self, timeout: float | None = None) -> Any:
        """Return the traceback of what the call failed with, None where it did not; block until that is known.

        Raises:
            grpc.FutureTimeoutError: not within `timeout` seconds.
            grpc.FutureCancelledError: the caller cancelled it.
        """
        before = getattr(self, "__traceback__", None)
        try:
            return super().traceback(timeout)  # type: ignore[misc]
        finally:
            self.__traceback__ = before  # the frames beneath hold this very object, as in __next__
            del self

    def _noted(self, error: Any) -> Any:
        """Return the call's error, which says why it was not tried again, once however often it is raised."""
        with self._state.condition:
            is_first, self._has_notes = not self._has_notes, True
        if is_first and error is not None:
            add_notes(error, self.attempts)
        return error

    def __reduce__(self) -> Any:
        return snapshot(self._state, self.attempts, type(self).__name__)


class _MultiThreadedRendezvous(_WithAttempts, grpcio.MultiThreadedRendezvous):  # type: ignore[misc]
    """A future, or a stream of responses; see `grpc.Call` and `grpc.Future`."""

    def initial_metadata(self) -> Any:
        """Return the server's initial metadata; block until it is there. From then on no other attempt takes over."""
        state, call = self._state, self._call
        if state.initial_metadata is None:
            call.want_headers(even_empty=False)
        while True:
            with state.condition:
                if state.initial_metadata is None and not call.has_headers:
                    state.condition.wait(_LOOK_AGAIN)
                if state.initial_metadata is not None:
                    return state.initial_metadata
            if call.has_headers:
                time.sleep(_STATUS_FOLLOWS)
                call.take_headers()

    def result(self, timeout: float | None = None) -> Any:
        """Return the response; block until it is there.

        Raises:
            grpc.FutureTimeoutError: not within `timeout` seconds.
            grpc.FutureCancelledError: the caller cancelled it.
            grpc.RpcError: the call failed.
        """
        try:
            return super().result(timeout)
        except grpc.RpcError as error:
            raise self._noted(error).with_traceback(None) from None  # as in __next__
        finally:
            del self

    def exception(self, timeout: float | None = None) -> Any:
        """Return what the call failed with, None where it did not; block until that is known.

        Raises:
            grpc.FutureTimeoutError: not within `timeout` seconds.
            grpc.FutureCancelledError: the caller cancelled it.
        """
        return self._noted(super().exception(timeout))


class _SingleThreadedRendezvous(_WithAttempts, grpcio.SingleThreadedRendezvous):  # type: ignore[misc]
    """A stream of responses whose events its reader's thread takes in; see `grpc.experimental.ChannelOptions`."""

    def initial_metadata(self) -> Any:
        """Return the server's initial metadata; block until it is there. From then on no other attempt takes over."""
        self._call.want_headers(even_empty=True)
        # grpcio's own waits with the condition held, which whoever brings the event needs here.
        while self._state.initial_metadata is None:
            self._consume_next_event()
        return self._state.initial_metadata


# Under grpcio's own names: texts, logs and error trackers go by them.
MultiThreadedRendezvous = _MultiThreadedRendezvous
SingleThreadedRendezvous = _SingleThreadedRendezvous


class StreamDeserializer:
    """A deserializer of a stream's responses; one that cannot be read ends the call.

    grpcio ends it for its reader alone, and lets it run on (seen on 1.85.3).

    Args:
        deserialize: the caller's.

    Attributes:
        attempt: what the responses come from.
    """

    __slots__ = ("_deserialize", "attempt")

    def __init__(self, deserialize: Callable[[bytes], Any]) -> None:
        self._deserialize = deserialize
        self.attempt: Any = None

    def __call__(self, message: bytes) -> Any:
        """Return the response."""
        response = None
        try:
            response = self._deserialize(message)
        finally:
            if response is None and self.attempt is not None:
                self.attempt.cancel(_INTERNAL, "Exception deserializing response!")
        return response
