"""Budgets for attempts after the first, so that failover does not turn a brown-out into an outage.

The one rule: a budget belongs to a channel, not to a backend or a method. It pays for every attempt after the first,
except where the attempt before certainly never left the client.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from healthlb.config import RetryBudget, RetryThrottle
from healthlb.core.call.hedges import HedgeGate

_SLICES = 10
_ATTEMPT = 1_000_000  # in whole parts, so that nothing drifts
_LEAST_RATIO = 0.02  # of late calls, where a budget has next to none
_MOST_RATIO = 0.05  # whatever it has, as late calls that have a deadline may be lost


class Budget(Protocol):
    """Decides whether one more attempt may be made. Any thread may call it.

    Attributes:
        counts_successes: whether `call_succeeded` does anything.
        hedges: decides whether hedges can help; None for "always".
    """

    counts_successes: bool
    hedges: HedgeGate | None

    def call_started(self, now: int) -> None:
        """A call began."""

    def call_succeeded(self) -> None:
        """A call ended with OK."""

    def attempt_failed(self) -> None:
        """Take in that an attempt ended with a status that another attempt might repair."""

    def withdraw(self, now: int) -> bool:
        """Pay for one more attempt. False if the budget does not allow it."""

    def give_back(self) -> None:
        """Take back what was paid for an attempt that was not made."""

    def left(self, now: int) -> float:
        """Return how much of the budget is left, from 0 to 1; for reports."""


class RatioBudget:
    """A share of the calls of the last seconds, and a few per second in any case (Finagle's RetryBudget).

    With the ratio 0.2, 10 a second and a ttl of 10 s: 100 calls in the last 10 s allow 20 + 100 more attempts
    in those 10 s, 10,000 calls allow 2,100.

    Args:
        policy: the numbers.
    """

    counts_successes = False

    def __init__(self, policy: RetryBudget) -> None:
        self._lock = threading.Lock()
        # With as many late calls as half of the budget pays for, hedges double what is late.
        most = min(max(policy.ratio / 2, _LEAST_RATIO), _MOST_RATIO)
        self.hedges: HedgeGate | None = HedgeGate(most, self._lock)
        self._share = round(policy.ratio * _ATTEMPT)
        self._slice = max(1, policy.ttl_ns // _SLICES)
        self._ttl = policy.ttl_ns
        self._slices: deque[tuple[int, int]] = deque()
        self._balance = self._reserve = round(policy.min_per_second * policy.ttl * _ATTEMPT)
        self._current = 0
        self._current_ends_at = 0

    def call_started(self, now: int) -> None:
        """Add the share of one call; it is forgotten after the ttl."""
        with self._lock:
            if now >= self._current_ends_at:
                self._turn(now)
            self._current += self._share

    def call_succeeded(self) -> None:
        """Do nothing: calls count when they begin."""

    def attempt_failed(self) -> None:
        """Do nothing: attempts count when they are paid for."""

    def withdraw(self, now: int) -> bool:
        """Take one attempt; False where less is left."""
        with self._lock:
            if now >= self._current_ends_at:
                self._turn(now)
            if self._balance + self._current < _ATTEMPT:
                return False
            self._current -= _ATTEMPT
            return True

    def give_back(self) -> None:
        """Put one attempt back."""
        with self._lock:
            self._current += _ATTEMPT

    def left(self, now: int) -> float:
        """Return what is left as a share of what is allowed in any case; above that it is 1. It changes nothing."""
        with self._lock:
            young = sum(amount for ends_at, amount in self._slices if ends_at + self._ttl > now)
            left = self._reserve + young + (self._current if self._current_ends_at + self._ttl > now else 0)
        return max(0.0, min(1.0, left / max(_ATTEMPT, self._reserve)))

    def _turn(self, now: int) -> None:
        self._slices.append((self._current_ends_at, self._current))
        self._balance += self._current
        self._current = 0
        self._current_ends_at = now + self._slice
        while self._slices and self._slices[0][0] + self._ttl <= now:
            self._balance -= self._slices.popleft()[1]


class Throttle:
    """gRPC's own form (gRFC A6): tokens that failures take and successes slowly give back.

    Args:
        policy: the numbers.
    """

    counts_successes = True
    hedges: HedgeGate | None = None

    def __init__(self, policy: RetryThrottle) -> None:
        self._lock = threading.Lock()
        self._maximum = policy.max_tokens * 1000
        self._gain = round(policy.token_ratio * 1000)
        self._tokens = self._maximum

    def call_started(self, now: int) -> None:
        """Do nothing: only results count."""

    def call_succeeded(self) -> None:
        """Give `token_ratio` back."""
        if self._tokens < self._maximum:
            with self._lock:
                self._tokens = min(self._maximum, self._tokens + self._gain)

    def attempt_failed(self) -> None:
        """Take one token."""
        with self._lock:
            self._tokens = max(0, self._tokens - 1000)

    def withdraw(self, now: int) -> bool:
        """Whether more than half of the tokens are there; they are counted in thousandths."""
        return self._tokens * 2 > self._maximum

    def give_back(self) -> None:
        """Do nothing: only results count."""

    def left(self, now: int) -> float:
        """Return the share of the tokens."""
        return self._tokens / self._maximum


class NoBudget:
    """Every attempt is allowed."""

    counts_successes = False
    hedges: HedgeGate | None = None

    def call_started(self, now: int) -> None:
        """Do nothing."""

    def call_succeeded(self) -> None:
        """Do nothing."""

    def attempt_failed(self) -> None:
        """Do nothing."""

    def withdraw(self, now: int) -> bool:
        """Always."""
        return True

    def give_back(self) -> None:
        """Do nothing."""

    def left(self, now: int) -> float:
        """Return 1: nothing is ever taken."""
        return 1.0


def make_budget(policy: RetryBudget | RetryThrottle | None) -> Budget:
    """Return a channel's budget; None is no limit but `max_attempts`."""
    match policy:
        case RetryBudget():
            return RatioBudget(policy)
        case RetryThrottle():
            return Throttle(policy)
        case _:
            return NoBudget()
