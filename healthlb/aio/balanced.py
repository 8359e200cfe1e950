"""What grpcio's calls stand on in the asyncio face: a call that goes to a subchannel, and to another one if need be.

It has the methods of C-core's own call object (`cygrpc._AioCall`), for `grpc.aio`'s call classes use no others. So
all that a caller sees of a call, its tasks, contexts, cancellation and iteration, is grpcio's; here are the pick, the
attempts, and the status in which they end. It belongs to one event loop, and needs no lock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from typing import Any

import grpc

from healthlb.aio.grpcio import Status, check_message, check_metadata
from healthlb.control.attempts import RESCUED, Attempts, Method, Outcome, is_closed_error
from healthlb.control.delivery import run_callback
from healthlb.control.grpc_transport import code_of
from healthlb.control.runner import Runner
from healthlb.control.tasks import resolve, start_call
from healthlb.core.attempts import FIRST, count_out
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Fail

_NO_LOCK = nullcontext()
_OK = Code.OK.value
_CANCELLED = Code.CANCELLED.value


class BalancedCall(Runner):
    """One call, over as many attempts as it takes: the status, and what can be asked of any arity.

    Args:
        method: what is called.
        deadline: in seconds of `time.time()`, None for none.
        credentials: of this call, None for none.
        wait_for_ready: the caller's wish, None for the method's default.
    """

    _lock = _NO_LOCK
    # Class-level defaults: they save as many stores per call.
    _status: Any = None
    _initial_metadata: tuple[Any, ...] | None = None
    _is_locally_cancelled = False
    _status_waiters: tuple[asyncio.Future[None], ...] = ()
    _metadata_waiters: tuple[asyncio.Future[None], ...] = ()
    _callbacks: tuple[Callable[[], object], ...] = ()
    _metadata: tuple[tuple[str, str | bytes], ...] = ()
    _context: Any = None
    # grpcio's call that stands on this one, and where it is kept until it is over.
    _kept: tuple[set[Any], Any] | None = None

    def __init__(
        self,
        method: Method,
        deadline: float | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
    ) -> None:
        self._method = method
        self._deadline = deadline
        self._credentials = credentials
        self._wait_for_ready = wait_for_ready

    # --- what grpcio asks --------------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether the call is over."""
        return self._status is not None

    def cancelled(self) -> bool:
        """Whether it ended with CANCELLED."""
        return self._status is not None and self._status.code() == _CANCELLED

    def is_ok(self) -> bool:
        """Whether it ended with OK."""
        return self._status is not None and self._status.code() == _OK

    def is_locally_cancelled(self) -> bool:
        """Whether its caller cancelled it."""
        return self._is_locally_cancelled

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None without one."""
        return None if self._deadline is None else max(0, self._deadline - time.time())  # 0, as C-core's

    async def status(self) -> Any:
        """Return the status once the call is over."""
        while self._status is None:
            future = asyncio.get_running_loop().create_future()
            self._status_waiters += (future,)
            await future
        return self._status

    async def initial_metadata(self) -> tuple[Any, ...]:
        """Return the server's initial metadata once they are there, or nothing where the call ended without."""
        while self._initial_metadata is None:
            future = asyncio.get_running_loop().create_future()
            self._metadata_waiters += (future,)
            self._metadata_wanted()
            await future
        return self._initial_metadata

    def _metadata_wanted(self) -> None:
        """Someone waits for the initial metadata."""

    def _take_headers(self) -> None:
        """The attempt that is under way is the last: its initial metadata are the call's."""

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback` once the call is over, maybe at once."""
        if self._status is not None:
            callback()
        else:
            self._callbacks += (callback,)

    def cancel(self, details: str) -> None:
        """End the call for its caller, before this returns."""
        self._is_locally_cancelled = True
        self._take_headers()
        if not self._cancel_first(details):
            self.cancel_attempts(details)
        self._set_status(Status(_CANCELLED, details, None, None))

    def set_internal_error(self, text: str) -> None:
        """End the call as one of which a message could not be sent."""
        self._finish(None, Fail(Code.INTERNAL, text))

    def __repr__(self) -> str:
        if self._status is None:
            return f"<{type(self).__name__} {self._method.name}>"
        code, details = code_of(self._status.code()), self._status.details()
        debug = "" if self.is_ok() else f'\n\tdebug_error_string = "{self._status.debug_error_string()}"'
        name = type(self).__name__
        return f'<{name} of RPC that terminated with:\n\tstatus = {code}\n\tdetails = "{details}"{debug}\n>'

    # --- the end -----------------------------------------------------------------------------------------

    def keep_in(self, calls: set[Any], call: Any) -> None:
        """Have `calls` hold on to `call`, grpcio's call that stands on this one, until it is over."""
        if self._status is None:
            self._kept = (calls, call)
            calls.add(call)

    def _set_initial_metadata(self, metadata: tuple[Any, ...]) -> None:
        if self._initial_metadata is None:
            self._initial_metadata = metadata
            if self._metadata_waiters:
                waiters, self._metadata_waiters = self._metadata_waiters, ()
                for waiter in waiters:
                    resolve(waiter)

    def _set_status(self, status: Any, initial_metadata: tuple[Any, ...] = ()) -> None:
        if self._status is not None:
            return
        self._is_over = True
        self._status = status
        if self._initial_metadata is None:
            self._initial_metadata = initial_metadata
        kept = self._kept
        if kept is not None:
            self._kept = None
            kept[0].discard(kept[1])
        if self._status_waiters or self._metadata_waiters or self._callbacks:
            self._tell_end()

    def _tell_end(self) -> None:
        waiters = (*self._metadata_waiters, *self._status_waiters)
        callbacks, self._callbacks = self._callbacks, ()
        self._metadata_waiters = self._status_waiters = ()
        for waiter in waiters:
            resolve(waiter)
        for callback in callbacks:
            # Of grpcio's own calls one that raises takes the response along (1.85.3).
            run_callback(callback)

    def _over(self, inner: Any, fail: Fail | None) -> None:
        if fail is None:
            self._set_status(inner._status, inner._initial_metadata or ())
        elif not self._is_locally_cancelled:
            self._set_status(Status(fail.code.value, fail.details, (), fail.details))

    def _cancel_first(self, details: str) -> bool:
        """Cancel a first attempt that no plan knows of; False where there is none."""
        return False

    def _end_unsent(self, error: Exception) -> None:
        """End a call that cannot be sent. grpcio's own would never end (1.85.3)."""
        self._cancel_first("the request could not be sent")
        self._finish(None, Fail(Code.INTERNAL, f"the request could not be sent: {error}"))

    # --- attempts ----------------------------------------------------------------------------------------

    def _make_attempts(self) -> Attempts:
        timeout = None if self._deadline is None else self._deadline - time.time()
        return Attempts(self._method, timeout, self._metadata, self._wait_for_ready, time.monotonic_ns())

    def _make_real(self, sub: Subchannel, timeout: float | None) -> Any:
        method = self._method
        make = method.opened.get(sub) or method.open(sub)
        return make(None if timeout is None else time.time() + timeout, self._credentials, None)

    def _drop(self, inner: Any) -> None:
        if not inner.done():
            inner.cancel("another attempt took over, or the call has ended")

    def _trailers(self, inner: Any) -> Sequence[tuple[str, Any]]:
        return inner._status.trailing_metadata() or ()


class BalancedUnaryCall(BalancedCall):
    """One request, one response."""

    _request: bytes | None = None
    _response: bytes | None = None
    _decided: asyncio.Future[None] | None = None
    # The first attempt, as long as nothing but it is known of the call.
    _first: tuple[Subchannel, Any] | None = None
    _is_rescued = False
    _started_at = 0.0

    def begin(self, metadata: tuple[Any, ...]) -> Any:
        """Make the first attempt where nothing stands in its way; return C-core's call.

        Returns None where more is needed, or the call is over: go on with `go_on`.
        """
        method = self._method
        self._metadata = metadata
        if self._is_over or not method.is_plain:
            return None
        sub = method.pool.board.snapshot.picker.pick(method.any_call)
        if sub is None or not sub.load.start():
            return None
        self._started_at = time.monotonic()
        try:
            real = (method.opened.get(sub) or method.open(sub))(self._deadline, self._credentials, None)
        except BaseException as error:
            sub.load.abandon()
            # A subchannel may be closed between the pick and the call.
            if not is_closed_error(error) or method.pool.is_closed:
                raise
            return None
        self._first = (sub, real)
        return real

    def first_ended(self) -> bool:
        """Take in how the attempt of `begin` ended; False where it failed, and `go_on` says what follows."""
        first = self._first
        if first is None:
            return True  # it was cancelled
        sub, real = first
        if not real.is_ok():
            return False
        self._first = None
        method = self._method
        self.address = sub.address
        count_out(sub, method.budget, time.monotonic_ns())
        if method.told.of_all:
            method.tell(sub, Code.OK, self._started_at, self._trailers(real))
        self._set_status(real._status, real._initial_metadata or ())
        return True

    def not_sent(self, error: Exception) -> None:
        """Take in that grpcio refused what the attempt of `begin` should have sent."""
        self._end_unsent(error)

    async def go_on(self, request: bytes, context: Any) -> bytes | None:
        """Make the call with all that may become necessary: waiting, further attempts, hedges.

        Returns the response, None where it did not end with OK.

        Raises:
            TypeError, grpc.aio.InternalError: message or metadata cannot be sent.
        """
        if self._is_over:
            return None  # it was cancelled before it began
        first, self._first = self._first, None
        if first is None:
            await self._check(request)
            if self._is_over:
                return None  # cancelled meanwhile
        self._request, self._context = request, context
        self._decided = asyncio.get_running_loop().create_future()
        if first is None:
            self.run()
        else:
            outcome = RESCUED if self._is_rescued else outcome_of(first[1])
            self.first_failed(first[0], self._started_at, outcome, first[1])
        if self._status is None:
            await self._decided
        return self._response

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, which was found hung, if the call may."""
        first = self._first
        if first is None:
            return super().rescue(sub)
        if first[0] is not sub or first[1].done() or self._is_rescued:
            return False
        # It is awaited by the call itself, which goes on with its end.
        self._is_rescued = self._attempts.rescue(FIRST, sub, time.monotonic_ns())
        if self._is_rescued:
            first[1].cancel(RESCUED.details)
        return self._is_rescued

    def _over(self, inner: Any, fail: Fail | None) -> None:
        super()._over(inner, fail)
        self._request = self._context = None
        if self._decided is not None:
            resolve(self._decided)

    def _broke(self, error: Exception) -> None:
        decided = self._decided
        self._decided = None
        super()._broke(error)
        if decided is not None and not decided.done():
            decided.set_exception(error)

    async def _check(self, request: bytes) -> None:
        # C-core looks at them when a call is made, and this one waits for a subchannel.
        try:
            check_message(request)
            await check_metadata(self._metadata)
        except Exception as error:
            self._end_unsent(error)
            raise

    def _cancel_first(self, details: str) -> bool:
        first, self._first = self._first, None
        if first is None:
            return False
        sub, real = first
        sub.load.abandon()
        if self._method.told.of_all:
            self._method.tell(sub, Code.CANCELLED, time.monotonic())
        if not real.done():
            real.cancel(details)
        return True

    def _open(self, number: int, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        real = self._make_real(sub, timeout)
        start_attempt(self._attempt(number, real, metadata))
        return real

    async def _attempt(self, number: int, real: Any, metadata: Any) -> None:
        try:
            response = await real.unary_unary(self._request, tuple(metadata or ()), self._context)
        except asyncio.CancelledError:
            self._cancel_attempt(number)
            raise
        except Exception as error:
            self._cancel_attempt(number)
            self._broke(error)
            return
        self.attempt_ended(number, None if real.is_ok() else outcome_of(real), real)
        if self._status is real._status:
            self._response = response


def outcome_of(real: Any) -> Outcome:
    """Return how an attempt failed."""
    status = real._status
    trailers = tuple(status.trailing_metadata() or ())
    has_metadata = bool(real._initial_metadata or trailers)
    return Outcome(code_of(status.code()), status.details() or "", has_metadata, trailers, bool(real._initial_metadata))


def start_attempt(work: Coroutine[Any, Any, None]) -> None:
    """Run an attempt that no coroutine of the caller's waits for; C-core holds on to it until it ends."""
    start_call(asyncio.get_running_loop(), work)
