"""The calls of one request and one response, beneath grpcio's.

The one rule: of a call whose first attempt succeeds nothing is known but that attempt; the rest is made when it fails.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from healthlb.aio.balanced import BalancedCall, start_attempt
from healthlb.aio.grpcio import CoreCall, check_message, check_metadata
from healthlb.aio.hedging import FirstAttempts
from healthlb.aio.subchannels import Subchannels
from healthlb.calls.attempts import RESCUED, Live, Method, Outcome, is_closed_error
from healthlb.control.tasks import resolve
from healthlb.core.call.call_attempts import FIRST, count_out
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code, Fail


class BalancedUnaryCall(BalancedCall):
    """One request, one response."""

    _request: bytes | None = None
    _response: bytes | None = None
    _decided: asyncio.Future[None] | None = None
    # The first attempt, as long as nothing but it is known of the call.
    _first: tuple[Subchannel, Any] | None = None
    # How that has ended where the call itself has given it up.
    _given_up: Outcome | None = None
    # Seconds on the monotonic clock.
    started_at = 0.0

    def begin(self, metadata: tuple[Any, ...], request: bytes, context: Any) -> Any:
        """Make the first attempt where nothing stands in its way; return C-core's call.

        Returns None where more is needed, or the call is over: go on with `go_on`.
        """
        method = self._method
        self._metadata = metadata
        if self._is_over or not method.is_first_plain:
            return None
        sub = method.subchannels.holder.snapshot.picker.pick(method.any_call)
        if sub is None or not sub.load.start():
            return None
        self.started_at = time.monotonic()
        try:
            real = (method.opened.get(sub) or method.open(sub))(self._deadline, self._credentials, None)
        except BaseException as error:
            sub.load.abandon()
            # A subchannel may be closed between the pick and the call.
            if not is_closed_error(error):
                if isinstance(error, Exception):
                    self.not_sent(error)
                raise
            return None
        self._first = (sub, real)
        if method.is_hedged:
            self._request, self._context = request, context
            first_attempts(method).enter(self)
        return real

    def first_ended(self, real: CoreCall, response: bytes | None) -> bool:
        """Take in how the attempt of `begin` ended; False where that does not end the call: see `go_on`."""
        first = self._first
        if first is None and self._decided is None:
            return True  # it was cancelled
        if first is None:
            self._ended(FIRST.attempt, real, response)
            return False
        method = self._method
        if method.is_hedged:
            first_attempts(method).waiting.pop(self, None)
        if not real.is_ok():
            return False
        self._first = self._request = None
        sub = first[0]
        self.address = sub.address
        count_out(sub, method.budget, time.monotonic_ns())
        if method.end_hook.of_all:
            method.tell(sub, Code.OK, self.started_at, self._trailers(real))
        self._set_status(real._status, real._initial_metadata or ())
        return True

    def not_sent(self, error: Exception) -> None:
        """Take in that grpcio refused what the attempt of `begin` should have sent."""
        start_attempt(self._end_unsent_later(error))

    async def go_on(self, request: bytes, context: Any) -> bytes | None:
        """Make the call with all that may become necessary: waiting, further attempts, hedges.

        Returns the response, None where it did not end with OK.

        Raises:
            TypeError, grpc.aio.InternalError: message or metadata cannot be sent.
        """
        if self._decided is not None:  # it was hedged meanwhile
            await self._decided
            return self._response
        if self._is_over:
            return None  # it was cancelled before it began
        first = self._first
        if first is None:
            await self._check(request)
            if self._is_over:
                return None  # cancelled meanwhile
        self._request, self._context = request, context
        self._decided = decided = asyncio.get_running_loop().create_future()
        if first is None:
            await self._run_here()
        else:
            self._first_failed(*first)
        await decided
        return self._response

    def _first_failed(self, sub: Subchannel, real: CoreCall) -> None:
        outcome = self._given_up
        inner = real if outcome is None else None
        if self._method.is_hedged:
            self._begin_plan(sub, real)
            self.attempt_ended(FIRST.attempt, outcome or self.failed_as(real), inner)
        else:
            self._first = None
            self.first_failed(sub, self.started_at, outcome or self.failed_as(real), inner)

    def hedge(self) -> None:
        """Go on by the plan, since the first attempt is late; nothing where it has ended meanwhile."""
        first = self._first
        if first is not None and self._given_up is None and not first[1].done():
            self._decided = asyncio.get_running_loop().create_future()
            self._begin_plan(*first)

    def _begin_plan(self, sub: Subchannel, real: CoreCall) -> None:
        """Have the plan of a hedged call say what follows; its first attempt is under way."""
        self._first = None
        self._live = {FIRST.attempt: Live(FIRST, sub, self.started_at, real)}
        beside = self._attempts.begin(round(self.started_at * SECOND))
        self._attempts.make_plan().picked(sub.id)
        self._perform(beside)

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, which was found hung, if the call may."""
        first = self._first
        if first is None:
            return super().rescue(sub)
        if first[0] is not sub or first[1].done() or self._given_up is not None or self.has_begun(first[1]):
            return False
        if not self._attempts.rescue(FIRST, sub, time.monotonic_ns()):
            return False
        self._give_up_first(first[1], RESCUED)
        return True

    def give_up_on(self, sub: Subchannel, details: str) -> None:
        """End attempts that are under way on this subchannel with UNAVAILABLE; others follow where they may."""
        first = self._first
        if first is None:
            super().give_up_on(sub, details)
        elif first[0] is sub and not first[1].done() and self._given_up is None:
            self._give_up_first(first[1], self.unavailable(first[1], details))

    def _give_up_first(self, real: CoreCall, outcome: Outcome) -> None:
        # It is awaited by the call itself, which goes on with its end.
        self._given_up = outcome
        real.cancel(outcome.details)

    def _over(self, inner: CoreCall | None, fail: Fail | None) -> None:
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
            start_attempt(self._end_unsent_later(error))
            raise

    def _cancel_first(self, details: str) -> bool:
        first, self._first = self._first, None
        if first is None:
            return False
        sub, real = first
        if self._method.is_hedged:
            first_attempts(self._method).waiting.pop(self, None)
            self._request = self._context = None
        sub.load.abandon()
        if self._method.end_hook.of_all:
            self._method.tell(sub, Code.CANCELLED, time.monotonic())
        if not real.done():
            real.cancel(details)
        return True

    def _open(self, number: int, sub: Subchannel, timeout: float | None, metadata: Any) -> Any:
        real = self._make_real(sub, timeout)
        self._carry_out(self._attempt(number, real, metadata))
        return real

    async def _attempt(self, number: int, real: CoreCall, metadata: Any) -> None:
        if real.done():
            return  # dropped before it began
        try:
            response = await real.unary_unary(self._request, tuple(metadata or ()), self._context)
        except asyncio.CancelledError:
            self._cancel_attempt(number)
            raise
        except Exception as error:
            self._cancel_attempt(number)
            self._broke(error)
            return
        self._ended(number, real, response)

    def _ended(self, number: int, real: CoreCall, response: bytes | None) -> None:
        self.attempt_ended(number, None if real.is_ok() else self.failed_as(real), real)
        if self._status is real._status:
            self._response = response


def first_attempts(method: Method) -> FirstAttempts:
    """Return what looks after the first attempts of a hedged method's calls."""
    subchannels = method.subchannels
    assert isinstance(subchannels, Subchannels)
    delay = method.policy.call.hedging_delay
    assert delay is not None
    found = subchannels.hedged.get(delay)
    if found is None:
        found = subchannels.hedged[delay] = FirstAttempts(delay)
    return found
