"""The calls under way that may be sent elsewhere where their backend is found hung.

The one rule: only calls that may be rescued are known here, so that others pay nothing. Where one blocks, its
attempt is cancelled from outside, and its own thread makes the next one; any other goes on by itself (`BalancedCall`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import grpc

from healthlb.calls.attempts import RESCUED
from healthlb.core.call.failover import Start
from healthlb.core.load import Subchannel
from healthlb.sync import grpcio
from healthlb.sync.intake import Taken

_UNAVAILABLE = grpcio.NUMBERS[grpc.StatusCode.UNAVAILABLE]
# A call that was picked before its backend was taken out may begin a moment later.
AGAIN_AFTER = 0.05

Tell = Callable[[int], None]


class Rescued(Protocol):
    """A call that goes on by itself."""

    def rescue(self, sub: Subchannel) -> bool:
        """Go elsewhere where an attempt is under way on this backend, if the call may."""


class HedgedCalls(Protocol):
    """The hedged calls of one hedging delay that have made one attempt so far, and wait for it."""

    def rescue(self, sub: Subchannel) -> None:
        """Have those that wait for this backend be among `RescuableCalls.calls`, if they may be rescued."""

    def stop(self) -> None:
        """Set no timer any more: the channel is closed."""


class RescuableCalls:
    """The calls of a channel that may be rescued.

    Attributes:
        calls: those that go on by themselves.
        hedged: those that are hedged and have made one attempt so far, by their hedging delay in nanoseconds.
    """

    def __init__(self) -> None:
        self.calls: dict[Rescued, None] = {}
        self.hedged: dict[int, HedgedCalls] = {}
        self._blocked: dict[Taken, tuple[Subchannel, Any, Start]] = {}
        # Guards the plans of calls that block, from outside and at their ends.
        self._lock = threading.Lock()

    def next_event(self, taken: Taken, real: grpcio.CoreCall, sub: Subchannel, start: Start) -> Any:
        """Wait for the event of an attempt that blocks; meanwhile it can be cancelled."""
        self._blocked[taken] = (sub, real, start)
        try:
            return real.next_event()
        finally:
            del self._blocked[taken]

    def was_rescued(self, taken: Taken) -> bool:
        """Whether the attempt of a call that blocks was given up; asked once, when it has ended otherwise than well."""
        with self._lock:
            was, taken.is_rescued = taken.is_rescued, False
        return was

    def rescue(self, sub: Subchannel, deliver: Callable[[Callable[[], None]], object], tell: Tell) -> None:
        """Send what is in flight on a hung backend elsewhere, and tell how many calls that were.

        Args:
            sub: the backend.
            deliver: runs what may call users' code.
            tell: takes the numbers, from any thread; more than one where they come to be known in turn.
        """
        blocked = list(self._blocked.items())
        tell(sum(self._rescue_blocked(taken, entry) for taken, entry in blocked if entry[0] is sub))
        for waiting in list(self.hedged.values()):
            waiting.rescue(sub)
        if self.calls:
            deliver(partial(self._rescue_calls, sub, tell))

    def _rescue_blocked(self, taken: Taken, entry: tuple[Subchannel, Any, Start]) -> bool:
        sub, real, start = entry
        with self._lock:
            if self._blocked.get(taken) is not entry or taken.is_rescued:
                return False
            taken.is_rescued = taken.attempts().rescue(start, sub, time.monotonic_ns())
        if taken.is_rescued:
            real.cancel(_UNAVAILABLE, RESCUED.details)
        return taken.is_rescued

    def _rescue_calls(self, sub: Subchannel, tell: Tell) -> None:
        tell(sum(call.rescue(sub) for call in list(self.calls)))
