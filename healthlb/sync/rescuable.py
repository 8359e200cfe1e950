"""Calls that leave a backend which is found hung, and go on by themselves."""

from __future__ import annotations

from healthlb.calls.attempts import Live
from healthlb.core.call.call_attempts import FIRST
from healthlb.core.load import Subchannel
from healthlb.sync.balanced import BalancedCall
from healthlb.sync.subchannels import rescuable_calls


class RescuableCall(BalancedCall):
    """A call that is known to its channel while it is under way, if it may be rescued; see `BalancedCall`."""

    def begin(self) -> None:
        """Make the first attempt, or begin to wait for it; raise what grpcio raises of the caller's arguments."""
        if not self._method.is_rescued:
            super().begin()
            return
        calls = rescuable_calls(self._method).calls
        calls[self] = None
        try:
            super().begin()
        except BaseException:
            calls.pop(self, None)
            raise

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, which was found hung, if the call may."""
        with self._lock:
            attempt = self._current
            if attempt is None or attempt.sub is not sub or attempt.real is None or attempt.status is not None:
                return False
            if not self._is_run:
                # The first attempt, of which no plan knows.
                self._is_run = True
                self._live = {FIRST.attempt: Live(FIRST, sub, attempt.started_at, attempt)}
            attempts = self._attempts
            is_whole = self.requests is None or self.requests.are_whole
            attempts.is_committed |= self._is_committed or not is_whole
            attempts.is_cancelled |= self._cancelled_with is not None
        return super().rescue(sub)

    def _let_go(self) -> None:
        super()._let_go()
        if self._method.is_rescued:
            rescuable_calls(self._method).calls.pop(self, None)
