"""How attempts of the asyncio face end, be it by themselves or since the call gives them up."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import grpc

from healthlb.calls.attempts import Outcome
from healthlb.calls.call_runner import CallRunner
from healthlb.control.codes import code_of
from healthlb.core.load import Subchannel


class GivingUp(CallRunner):
    """A call that may give up its attempts on one subchannel."""

    # Of a stream of responses, headers that nobody asked for are no response yet.
    _is_unary_response = True
    # Those who wait for the initial metadata.
    _metadata_waiters: tuple[asyncio.Future[None], ...] = ()

    def give_up_on(self, sub: Subchannel, details: str) -> None:
        """End attempts that are under way on this subchannel with UNAVAILABLE; others follow where they may."""
        for live in [live for live in (self._live or {}).values() if live.sub is sub]:
            if self._take(live.start.attempt) is not None:
                outcome = self.unavailable(live.inner, details)
                if live.inner is not None:
                    self._drop(live.inner)
                self._safely(partial(self._failed, live, outcome, None))

    def failed_as(self, real: Any) -> Outcome:
        """Return how an attempt failed that the call has not given up."""
        status = real._status
        trailers = tuple(status.trailing_metadata() or ())
        has_metadata = bool(real._initial_metadata or trailers)
        is_begun = self._is_unary_response and bool(real._initial_metadata)
        details = status.details() or ""
        return Outcome(code_of(status.code()), details, has_metadata, trailers, is_begun, self.has_begun(real))

    def unavailable(self, inner: Any, details: str) -> Outcome:
        """Return how an attempt ended that was given up."""
        return Outcome(grpc.StatusCode.UNAVAILABLE, details, False, (), is_taken=self.has_begun(inner))

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, which was found hung, if the call may."""
        with self._lock:
            is_begun = any(live.sub is sub and self.has_begun(live.inner) for live in (self._live or {}).values())
        return not is_begun and super().rescue(sub)

    def has_begun(self, inner: Any) -> bool:
        """Whether something of an attempt's response came that commits the call (gRFC A6), or that it was asked for."""
        if not self._is_unary_response or inner is None or not inner._initial_metadata:
            return False
        return self._method.policy.headers_commit or bool(self._metadata_waiters)
