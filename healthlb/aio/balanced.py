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
from functools import partial
from typing import Any

import grpc

from healthlb.aio.grpcio import CoreCall, Status, yield_to_core
from healthlb.calls.attempts import Attempts, Method, Outcome
from healthlb.calls.call_runner import CallRunner
from healthlb.control.codes import code_of
from healthlb.control.delivery import run_callback
from healthlb.control.tasks import resolve, start_call
from healthlb.core.load import Subchannel
from healthlb.core.messages import Code, Fail

_NO_LOCK = nullcontext()
_OK = Code.OK.value
_CANCELLED = Code.CANCELLED.value


class BalancedCall(CallRunner[CoreCall]):
    """One call, over as many attempts as it takes: the status, and what can be asked of any arity.

    Args:
        method: what is called.
        deadline: in seconds of `time.time()`, None for none.
        credentials: of this call, None for none.
        wait_for_ready: the caller's wish, None for the method's default.
    """

    _lock = _NO_LOCK
    # Of a stream of responses, headers that nobody asked for are no response yet.
    _is_unary_response = True
    # Those who wait for the initial metadata.
    _metadata_waiters: tuple[asyncio.Future[None], ...] = ()
    # Class-level defaults: they save as many stores per call.
    _status: Any = None
    _initial_metadata: tuple[Any, ...] | None = None
    _is_locally_cancelled = False
    _status_waiters: tuple[asyncio.Future[None], ...] = ()
    _callbacks: tuple[Callable[[], object], ...] = ()
    _metadata: tuple[tuple[str, str | bytes], ...] = ()
    _context: Any = None
    # Takes the first attempt where the call's own task makes it.
    _here: list[Coroutine[Any, Any, None]] | None = None
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

    def keep_in(self, calls: set[Any], call: Any) -> bool:
        """Have `calls` hold on to `call`, grpcio's call that stands on this one, until it is over.

        False where it is over already, or another one is kept.
        """
        if self._status is not None or self._kept is not None:
            return False
        self._kept = (calls, call)
        calls.add(call)
        return True

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
            self._notify_end()

    def _notify_end(self) -> None:
        waiters = (*self._metadata_waiters, *self._status_waiters)
        callbacks, self._callbacks = self._callbacks, ()
        self._metadata_waiters = self._status_waiters = ()
        for waiter in waiters:
            resolve(waiter)
        for callback in callbacks:
            # Of grpcio's own calls one that raises takes the response along (1.85.3).
            run_callback(callback)

    def _over(self, inner: CoreCall | None, fail: Fail | None) -> None:
        if fail is None:
            assert inner is not None
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

    async def _end_unsent_later(self, error: Exception) -> None:
        # Who waits is to hear of the error itself, as from grpcio, and not that the call is over.
        await yield_to_core()
        self._end_unsent(error)

    def _refuse(self, fail: Fail) -> None:
        if self._stop():
            start_attempt(self._over_later(fail))

    async def _over_later(self, fail: Fail) -> None:
        # C-core's calls do not end before they are made, either; with eager tasks this one is still being made.
        await yield_to_core()
        self._over(None, fail)

    # --- attempts ----------------------------------------------------------------------------------------

    async def _run_here(self) -> None:
        """As `run`; the first attempt is made by this task, which has nothing else to do, others have their own."""
        here: list[Coroutine[Any, Any, None]] = []
        self._here = here
        self.run()
        self._here = None
        for work in here:
            await work

    def _carry_out(self, work: Coroutine[Any, Any, None]) -> None:
        """Have an attempt made."""
        if self._here is None or self._here:
            start_attempt(work)
        else:
            self._here.append(work)

    def _make_attempts(self) -> Attempts:
        timeout = None if self._deadline is None else self._deadline - time.time()
        return Attempts(self._method, timeout, self._metadata, self._wait_for_ready, time.monotonic_ns())

    def _make_real(self, sub: Subchannel, timeout: float | None) -> CoreCall:
        method = self._method
        make = method.opened.get(sub) or method.open(sub)
        real: CoreCall = make(None if timeout is None else time.time() + timeout, self._credentials, None)
        return real

    def _drop(self, inner: CoreCall) -> None:
        if not inner.done():
            inner.cancel("another attempt took over, or the call has ended")

    def _trailers(self, inner: CoreCall) -> Sequence[tuple[str, Any]]:
        return inner._status.trailing_metadata() or ()

    # --- attempts that end, by themselves or since the call gives them up ---------------------------------

    def give_up_on(self, sub: Subchannel, details: str) -> None:
        """End attempts that are under way on this subchannel with UNAVAILABLE; others follow where they may."""
        for live in [live for live in (self._live or {}).values() if live.sub is sub]:
            if self._take(live.start.attempt) is not None:
                outcome = self.unavailable(live.inner, details)
                if live.inner is not None:
                    self._drop(live.inner)
                self._safely(partial(self._failed, live, outcome, None))

    def failed_as(self, real: CoreCall) -> Outcome:
        """Return how an attempt failed that the call has not given up."""
        status = real._status
        trailers = tuple(status.trailing_metadata() or ())
        has_metadata = bool(real._initial_metadata or trailers)
        is_begun = self._is_unary_response and bool(real._initial_metadata)
        details = status.details() or ""
        return Outcome(code_of(status.code()), details, has_metadata, trailers, is_begun, self.has_begun(real))

    def unavailable(self, inner: CoreCall | None, details: str) -> Outcome:
        """Return how an attempt ended that was given up."""
        return Outcome(grpc.StatusCode.UNAVAILABLE, details, False, (), is_taken=self.has_begun(inner))

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, which was found hung, if the call may."""
        with self._lock:
            is_begun = any(live.sub is sub and self.has_begun(live.inner) for live in (self._live or {}).values())
        return not is_begun and super().rescue(sub)

    def has_begun(self, inner: CoreCall | None) -> bool:
        """Whether something of an attempt's response came that commits the call (gRFC A6), or that it was asked for."""
        if not self._is_unary_response or inner is None or not inner._initial_metadata:
            return False
        return self._method.policy.headers_commit or bool(self._metadata_waiters)


def start_attempt(work: Coroutine[Any, Any, None]) -> None:
    """Run an attempt that no coroutine of the caller's waits for; C-core holds on to it until it ends."""
    start_call(asyncio.get_running_loop(), work)
