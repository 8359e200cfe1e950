"""What grpcio takes for a call of C-core: one call over as many attempts as it takes.

grpcio asks it for operations, and hears of each of them once. An attempt's events are held back as long as another
one may take over; those of the attempt that ends the call are passed on as they came, and in their order. The lock is
that of grpcio's own state, which grpcio holds whenever it asks for anything but a cancellation.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import grpc

from healthlb.calls.attempts import Attempts, is_closed_error
from healthlb.calls.call_runner import CANCELLED, CallRunner
from healthlb.control.delivery import run_callback
from healthlb.control.user_code import log_guarded
from healthlb.core.call.call_attempts import FIRST, count_out
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Fail
from healthlb.sync import grpcio
from healthlb.sync.intake import Taken
from healthlb.sync.live_attempt import End, LiveAttempt, outcome_of_batch
from healthlb.sync.rendezvous import StreamDeserializer
from healthlb.sync.requests import Requests

_CANCELLED_NUMBER = grpcio.NUMBERS[grpc.StatusCode.CANCELLED]
# As C-core says it of a second receive_message.
_TOO_MANY = "Internal gRPC call error 8. Please report to https://github.com/grpc/grpc/issues"
_NO_MORE = Fail(Code.CANCELLED, CANCELLED)


class BalancedCall(CallRunner[LiveAttempt]):
    """One call over its attempts.

    Args:
        taken: what the caller asked for.
        arity: the name of grpcio's factory.
        state: grpcio's, of this call.
        pass_on: takes the events that are the caller's.
        reader: is told of each attempt; None for nobody.

    Attributes:
        requests: those of a stream, None for one request.
    """

    # Whether its events are not taken in at once, so that attempts count their own to the end.
    _is_queued = False
    _start_call: Callable[..., grpcio.CoreCall] = staticmethod(grpcio.start_call)
    _lock: Any
    # Class-level defaults: they save stores per call.
    _current: LiveAttempt | None = None
    _is_run = False
    _cancelled_with: Fail | None = None
    _is_committed = False
    _wants_message = False
    _wants_headers = False
    _wants_empty_headers = False
    requests: Requests | None = None
    _context: Context | None = None

    def __init__(
        self,
        taken: Taken,
        arity: str,
        state: Any,
        pass_on: Callable[[Any], object],
        reader: StreamDeserializer | None = None,
    ) -> None:
        self._taken: Taken | None = taken
        self._method = taken.method
        self._make_operations = grpcio.OPERATIONS[arity]
        self._has_stream = arity.endswith("stream")
        self._state = state
        self._lock = grpcio.lock_of(state)
        self._pass_on = pass_on
        self._reader = reader
        if self._method.has_request_stream:
            self.requests = Requests(self._method.policy.buffer_limit)

    # --- begin -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make the first attempt, or begin to wait for it; raise what grpcio raises of the caller's arguments."""
        method, taken = self._method, self._taken
        assert taken is not None
        method.budget.call_started(taken.begun_at)
        sub = method.subchannels.holder.snapshot.picker.pick(method.any_call) if method.is_plain else None
        if sub is not None and sub.load.start():
            self._begin_first(sub)
            return
        taken.check_terms()
        method.subchannels.start()
        taken.check_metadata()
        self._is_run = True
        self._context = copy_context()
        refusal = taken.refusal
        self.run() if refusal is None else self._finish(None, refusal)

    def _begin_first(self, sub: Subchannel) -> None:
        assert self._taken is not None
        try:
            self._start_attempt(FIRST.attempt, sub, self._taken.deadline, self._taken.metadata)
        except BaseException as error:
            self._is_run = True
            actions = self._attempts.made_no_call(FIRST, sub)
            if not actions or not is_closed_error(error):
                raise
            self._method.subchannels.start()  # raises ChannelClosed where all of it was closed
            self._perform(actions)

    def _make_attempts(self) -> Attempts:
        assert self._taken is not None
        return self._taken.attempts()

    def _open(self, number: int, sub: Subchannel, timeout: float | None, metadata: Any) -> LiveAttempt:
        assert self._taken is not None
        start = partial(self._start_attempt, number, sub, self._taken.attempt_deadline, metadata)
        # grpcio's thread of a channel, which deserializes, has the context of the call that has started it (1.85.3).
        return start() if self._context is None else self._context.copy().run(start)

    def _start_attempt(self, number: int, sub: Subchannel, deadline: float | None, metadata: Any) -> LiveAttempt:
        method, taken = self._method, self._taken
        assert taken is not None
        opened = method.opened.get(sub) or method.open(sub)
        metadata = grpcio.augment_metadata(metadata, taken.compression)
        batches = self._make_operations(metadata, taken.body)
        is_counting = self._is_queued or (self.requests is not None and self.requests.have_begun)
        attempt = LiveAttempt(self._came, number, sub, len(batches), is_counting)
        self._set_current(attempt)
        try:
            real = self._start_call(opened, deadline, metadata, taken.credentials, batches, attempt)
        except BaseException:
            self._set_current(None)
            raise
        with self._lock:
            attempt.real = real
            if attempt.is_dropped:
                real.cancel(_CANCELLED_NUMBER, CANCELLED)
            elif not attempt.is_ended:
                # What an attempt before this one was asked for, and had not given.
                if self._wants_message:
                    attempt.is_receiving |= attempt.operate((grpcio.receive_message(),))
                if self.requests is not None:
                    self.requests.send(attempt)
        return attempt

    def _set_current(self, attempt: LiveAttempt | None) -> None:
        # An attempt holds its call: what holds the attempt in turn lets go of it with its end.
        self._current = attempt
        if self._reader is not None:
            self._reader.attempt = attempt

    # --- what grpcio asks for ----------------------------------------------------------------------------

    def operate(self, operations: Any, handler: Any) -> bool:
        """Start an operation; False where the call is over. grpcio holds the lock."""
        if not self._has_stream and operations[0].type() == grpcio.RECEIVE_MESSAGE:
            raise ValueError(_TOO_MANY)  # a future that is read as a stream: its one response is waited for
        with self._lock:
            attempt = self._current
            if attempt is not None and attempt.passes and not attempt.is_counting:
                # Nothing stands between: grpcio's own handler takes the event.
                assert attempt.real is not None
                return bool(attempt.real.operate(operations, handler))
            if self._is_over and (attempt is None or not attempt.due):
                return False
            kind = operations[0].type()
            if kind == grpcio.RECEIVE_MESSAGE:
                return self._receive(attempt, operations)
            assert self.requests is not None
            self.requests.ask(kind)
            if attempt is not None:
                self.requests.send(attempt)
            return True

    def _receive(self, attempt: LiveAttempt | None, operations: Any) -> bool:
        if attempt is None or attempt.real is None:
            if self._wants_message:
                raise ValueError(_TOO_MANY)
        else:
            attempt.is_receiving |= attempt.operate(operations)
        self._wants_message = True
        return True

    def cancel(self, code: int, details: str) -> None:
        """End the call. Its event follows, on another thread than the caller's."""
        with self._lock:
            self._cancelled_with = Fail(Code(code), details)
            attempt = self._current
            if attempt is not None and self._ends_with(attempt):
                attempt.cancel(code, details)
                return
        self.cancel_attempts(details)

    def _ends_with(self, attempt: LiveAttempt) -> bool:
        """Whether a cancelled call ends as this attempt does: its initial metadata are the caller's. Under the lock."""
        if not attempt.passes and attempt.real is not None and attempt.status is None:
            self._attempts.is_cancelled = True
            if self._commit(attempt):
                if not attempt.has_headers:
                    self.address = None  # nothing has come of it yet
                self._release(attempt)
        return attempt.passes or not self._is_run

    # --- initial metadata --------------------------------------------------------------------------------

    @property
    def has_headers(self) -> bool:
        """Whether initial metadata came of an attempt that is not known to end the call."""
        attempt = self._current
        return attempt is not None and attempt.has_headers

    def take_headers(self) -> None:
        """Commit the attempt whose initial metadata came, if its status did not."""
        with self._lock:
            attempt = self._current
            if attempt is not None and attempt.has_headers and attempt.status is None and self._commit(attempt):
                self._release(attempt)

    def want_headers(self, *, even_empty: bool) -> None:
        """Commit an attempt as soon as its initial metadata comes; `even_empty`, as of one that fails at once."""
        with self._lock:
            self._wants_headers = True
            self._wants_empty_headers |= even_empty
            if self._current is not None and (even_empty or self._current.says_headers):
                self.take_headers()

    # --- events ------------------------------------------------------------------------------------------

    def _came(self, attempt: LiveAttempt, event: Any) -> bool:
        operations = event.batch_operations
        operation = operations[-1]
        kind = operation.type()
        is_due = False
        with self._lock:
            if kind == grpcio.RECEIVE_STATUS:
                attempt.status = operations
            attempt.due -= 1
            is_last = not attempt.due
            is_direct = attempt.passes and not attempt.is_counting
            if is_direct:
                pass
            elif attempt.is_dropped:
                return is_last
            elif kind == grpcio.SEND_MESSAGE or kind == grpcio.SEND_CLOSE:
                assert self.requests is not None
                is_due = self.requests.sent(attempt, kind)
            else:
                self._received(attempt, event, operation, kind)
        if is_direct:
            return self._pass_directly(attempt, event, kind)
        if is_due:
            self._pass_on(event)
        if attempt.status is not None and not attempt.is_ended and attempt.is_decided:
            self._ended(attempt)
        if attempt.passes:
            self._release(attempt)
        elif attempt.is_dropped:
            attempt.held = []  # an event holds its tag
        return is_last

    def _pass_directly(self, attempt: LiveAttempt, event: Any, kind: int) -> bool:
        if kind != grpcio.RECEIVE_STATUS:
            return bool(self._pass_on(event))
        self._ended(attempt)
        self._pass_status_on(event)
        self._release(attempt)
        return not self._state.due

    def _received(self, attempt: LiveAttempt, event: Any, operation: Any, kind: int) -> None:
        attempt.held.append(event)
        if kind == grpcio.RECEIVE_STATUS:
            return
        if kind == grpcio.RECEIVE_MESSAGE:
            is_begun = operation.message() is not None
            attempt.is_receiving = False
            self._wants_message &= not (is_begun or attempt.passes)
        else:
            attempt.take_headers(operation)
            # Those that nobody asks for can be another attempt's as well.
            is_wanted = self._wants_headers or (self._method.policy.headers_commit and not self._has_stream)
            is_begun = is_wanted and (attempt.says_headers or self._wants_empty_headers)
            # Who waits for them decides what becomes of empty ones.
            self._state.condition.notify_all()
        if is_begun and not attempt.passes:
            self._commit(attempt)

    def _commit(self, attempt: LiveAttempt) -> bool:
        """Let no other attempt take over: something of its response is the caller's (gRFC A6). Under the lock."""
        if self._is_run and not self.commit(attempt.number):
            return False
        self._is_committed = True
        attempt.passes = True
        self.address = attempt.sub.address
        # Nothing was started on it for what was asked for meanwhile.
        attempt.is_counting |= attempt.real is None
        if self.requests is not None and attempt.is_counting:
            self.requests.commit()
        elif self.requests is not None:
            self.requests.drop()
        return True

    def _release(self, attempt: LiveAttempt) -> None:
        """Pass on what was held, in order, and at the end an event for what none will come for."""
        with self._lock:
            held, attempt.held = attempt.held, []
            attempt.has_headers = False
            orphans = self._orphans(attempt) if attempt.is_ended else None
        for event in held:
            self._pass_status_on(event)
        if orphans:
            self._pass_on(End(self._state, _NO_MORE, orphans))
        if attempt.is_ended:
            self._set_current(None)

    def _pass_status_on(self, event: Any) -> None:
        """Pass on an event at which the caller's callbacks may run. What they raise would end grpcio's thread."""
        run_callback(partial(self._pass_on, event))

    def _orphans(self, attempt: LiveAttempt) -> set[int] | None:
        """Return the operations that grpcio counts as started, though there was no attempt to start them on."""
        if attempt.is_counting:
            return None if attempt.due else set(grpcio.ALL)
        found = set() if self.requests is None else self.requests.orphans(attempt)
        if self._wants_message and not attempt.is_receiving:
            found.add(grpcio.RECEIVE_MESSAGE)
        return found

    # --- ends --------------------------------------------------------------------------------------------

    def _ended(self, attempt: LiveAttempt) -> None:
        """Take in the status of an attempt: it ends the call, or another one takes over."""
        outcome = outcome_of_batch(attempt, is_stream=self._has_stream, is_asked=self._wants_headers)
        with self._lock:
            if attempt.is_dropped:  # by another thread, since its status came
                return
            attempt.is_ended = True
            if not attempt.passes:
                self._set_current(None)
            was_run, self._is_run = self._is_run, True
            if outcome is None and not was_run:
                self._is_over = attempt.passes = True
            else:
                attempts = self._attempts
                attempts.is_cancelled |= self._cancelled_with is not None
                is_whole = self.requests is None or self.requests.are_whole
                attempts.is_committed |= self._is_committed or not is_whole
                attempt.is_dropped = not attempt.passes
        try:
            if outcome is None and not was_run:
                self._first_succeeded(attempt)
            elif outcome is not None and not was_run:
                self.first_failed(attempt.sub, attempt.started_at, outcome, attempt)
            else:
                self.attempt_ended(attempt.number, outcome, attempt)
        except Exception as error:
            log_guarded(logging.ERROR, f"a call of {self._method.name} cannot go on", error)
            self._broke(error)

    def _first_succeeded(self, attempt: LiveAttempt) -> None:
        """The way of nearly all calls: the first attempt, and no plan."""
        method, self.address = self._method, self.address or attempt.sub.address
        count_out(attempt.sub, method.budget, time.monotonic_ns())
        if method.end_hook.of_all:
            method.tell(attempt.sub, Code.OK, attempt.started_at, self._trailers(attempt))
        self._let_go()

    def _trailers(self, inner: LiveAttempt) -> Any:
        return inner.status[-1].trailing_metadata() or ()

    def _drop(self, inner: LiveAttempt) -> None:
        with self._lock:
            if inner.is_ended:  # before whoever began it had hold of it; what it means is decided there
                return
            inner.is_dropped = True
            inner.held = []
            if self._current is inner:
                self._set_current(None)
        inner.cancel(_CANCELLED_NUMBER, CANCELLED)

    def _over(self, inner: LiveAttempt | None, fail: Fail | None) -> None:
        if inner is not None:
            inner.is_dropped, inner.passes = False, True
        elif fail is not None:
            self._set_current(None)
            cancelled = self._cancelled_with
            end = partial(self._pass_status_on, End(self._state, cancelled or fail))
            if cancelled is None or self._is_queued:
                end()
            else:
                # Its caller holds the condition, and no callback runs under that.
                self._method.subchannels.holder.deliver(end)
        self._let_go()

    def _let_go(self) -> None:
        """Keep nothing of the request: the caller may keep the call."""
        self._taken = None
        if self.requests is not None:
            self.requests.drop()
        if self._tried is not None:
            self._tried.metadata = self._context = None
