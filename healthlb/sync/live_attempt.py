"""The attempts of a call: what each holds, and what its end says."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from typing import Any

import grpc

from healthlb.calls.attempts import Attempts, Outcome
from healthlb.calls.subchannels_base import SubchannelsBase
from healthlb.control.codes import to_grpc_code
from healthlb.core.call.failover import Start
from healthlb.core.call.waiting import Wait, begin_wait
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Fail
from healthlb.core.snapshot import Snapshot
from healthlb.sync import grpcio
from healthlb.sync.errors import failed


class LiveAttempt:
    """One call of C-core, and the tag of what was started on it.

    Args:
        came: takes each event of it; returns whether that was the last.
        number: which of the call's attempts it is.
        sub: where it goes.
        due: how many events are to come at first; where there are two, one is that of the initial metadata.
        is_counting: whether its events are not those that grpcio waits for, one for one: where they are queued, or
            requests are sent again.

    Attributes:
        real: C-core's call, None until it is started.
        started_at: in seconds on the monotonic clock.
        due: how many events are to come, counted until `passes`.
        held: events that the caller does not hear of until this attempt is known to end the call.
        passes: whether its events are the caller's.
        is_dropped: whether they never will be.
        is_ended: whether its status came.
        status: the batch that ends with its status, None before that came.
        has_headers: whether the event of its initial metadata is held.
        says_headers: whether that says something.
        headers_due: whether that event is still to come.
        sent: how many requests were started to be sent.
        is_receiving: whether it waits for a response.
        is_sending: whether one of the requests is on its way.
        is_closing: whether the end of the requests was.
    """

    __slots__ = (
        "_came",
        "due",
        "has_headers",
        "headers_due",
        "held",
        "is_closing",
        "is_counting",
        "is_dropped",
        "is_ended",
        "is_receiving",
        "is_sending",
        "number",
        "passes",
        "real",
        "says_headers",
        "sent",
        "started_at",
        "status",
        "sub",
    )

    def __init__(
        self, came: Callable[[LiveAttempt, Any], bool], number: int, sub: Subchannel, due: int, is_counting: bool
    ) -> None:
        self._came = came
        self.number = number
        self.sub = sub
        self.due = due
        self.is_counting = is_counting
        self.started_at = time.monotonic()
        self.real: grpcio.CoreCall | None = None
        self.held: list[Any] = []
        self.status: Any = None
        self.headers_due = due > 1
        self.passes = self.is_dropped = self.is_ended = self.has_headers = self.says_headers = False
        self.sent = 0
        self.is_receiving = self.is_sending = self.is_closing = False

    def __call__(self, event: Any) -> bool:
        """Take in an event; return whether it was the last."""
        return self._came(self, event)

    @property
    def is_decided(self) -> bool:
        """Whether it is known what its status means: initial metadata may come behind that of a failure (1.85.1)."""
        return self.passes or not self.headers_due or self.status[-1].code() == 0

    def take_headers(self, operation: Any) -> None:
        """Take in the event of its initial metadata."""
        self.has_headers, self.headers_due = True, False
        self.says_headers = bool(operation.initial_metadata())

    def operate(self, operations: tuple[Any, ...]) -> bool:
        """Start operations; False where the call is over. Under the call's lock."""
        assert self.real is not None
        self.due += 1
        is_started = False
        try:
            is_started = bool(self.real.operate(operations, self))
        finally:
            if not is_started:
                self.due -= 1
        return is_started

    def cancel(self, code: int, details: str) -> None:
        """Cancel it, if it is started."""
        if self.real is not None:
            self.real.cancel(code, details)


class End:
    """An event that ends operations without a result; it has what grpcio reads of events, and no more.

    Args:
        state: grpcio's.
        fail: how the call ends.
        kinds: of which operations, if they are due; those that are not get theirs otherwise.
    """

    def __init__(self, state: Any, fail: Fail, kinds: Set[int] = grpcio.ALL) -> None:
        self._state = state
        self._fail = fail
        self._kinds = kinds

    @property
    def batch_operations(self) -> list[_Ended]:
        """What is due by the time when grpcio asks; the status comes last."""
        return [_Ended(kind, self._fail) for kind in sorted(self._state.due & self._kinds, key=_is_status)]


def _is_status(kind: int) -> bool:
    return kind == grpcio.RECEIVE_STATUS


class _Ended:
    """One operation without a result."""

    def __init__(self, kind: int, fail: Fail) -> None:
        self._kind = kind
        self._fail = fail

    def type(self) -> int:
        """The operation's number."""
        return self._kind

    def initial_metadata(self) -> tuple[Any, ...]:
        """Nothing was received."""
        return ()

    trailing_metadata = initial_metadata

    def message(self) -> None:
        """Nothing was received."""

    def code(self) -> int:
        """C-core's number of the status."""
        return grpcio.NUMBERS[to_grpc_code(self._fail.code)]

    def details(self) -> str:
        """The status's text."""
        return self._fail.details

    def error_string(self) -> str:
        """C-core has none for this call."""
        return ""


# --- what the end of an attempt says ---------------------------------------------------------------


def outcome_of(state: Any) -> Outcome:
    """Return how a call failed that blocked, by the state that grpcio has left."""
    # No text of C-core's: it is here that the response could not be read, and it had come.
    is_unreadable = state.debug_error_string is None
    is_begun = bool(state.initial_metadata) or state.response is not None or is_unreadable
    trailers = state.trailing_metadata or ()
    details = grpcio.decode(state.details or "")
    return Outcome(state.code, details, is_begun or bool(trailers), trailers, is_begun, is_unreadable)


def outcome_of_batch(attempt: LiveAttempt, *, is_stream: bool, is_asked: bool) -> Outcome | None:
    """Return how an attempt failed by the batch that ends with its status, None for OK.

    Args:
        attempt: whose status came.
        is_stream: whether it is of a stream of responses, of which initial metadata alone are no beginning.
        is_asked: whether the caller has asked for the initial metadata.
    """
    status = attempt.status[-1]
    number = status.code()
    if number == 0:
        return None
    code = grpcio.CODES.get(number, grpc.StatusCode.UNKNOWN)
    trailers = status.trailing_metadata() or ()
    has_answer = attempt.says_headers or any(_came_with(operation) for operation in attempt.status)
    is_begun = has_answer and not is_stream
    details = status.details() or ""
    return Outcome(code, details, has_answer or bool(trailers), trailers, is_begun, is_asked and is_begun)


def _came_with(operation: Any) -> bool:
    kind = operation.type()
    if kind == grpcio.RECEIVE_INITIAL_METADATA:
        return bool(operation.initial_metadata())
    return kind == grpcio.RECEIVE_MESSAGE and operation.message() is not None


# --- the pick of a call that blocks -----------------------------------------------------------------


def wait_for_pick(attempts: Attempts, start: Start) -> Subchannel:
    """Return a subchannel with the call counted in; block while there is none but may be. The channel has been started.

    Raises:
        grpc.RpcError: UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, or CANCELLED where the channel was closed.
    """
    subchannels = attempts.method.subchannels
    wait: Wait | Fail | None = None
    try:
        while True:
            snapshot = subchannels.holder.snapshot
            sub = attempts.try_pick(start)
            if sub is not None:
                return sub
            fail = attempts.failure(snapshot)
            if fail is None:
                wait = wait or begin_wait(subchannels, time.monotonic_ns(), attempts.deadline_at, snapshot)
                fail = wait if isinstance(wait, Fail) else _wait_on(wait, subchannels, snapshot)
            if fail is not None:
                raise failed(fail, attempts.history)
    finally:
        if isinstance(wait, Wait):
            wait.end()


def _wait_on(wait: Wait, subchannels: SubchannelsBase, snapshot: Snapshot) -> Fail | None:
    """Block until there is another snapshot; return how the call ends where that takes too long."""
    ends_at = None if wait.ends_at is None else wait.ends_at / SECOND
    return None if subchannels.holder.wait(snapshot.generation, ends_at) else wait.ran_out(snapshot)


def pause(subchannels: SubchannelsBase, until: int) -> None:
    """Block until `until` (monotonic nanoseconds) or until the channel is closed."""
    while not subchannels.is_closed and subchannels.holder.wait(subchannels.holder.snapshot.generation, until / SECOND):
        continue
