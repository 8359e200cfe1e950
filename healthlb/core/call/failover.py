"""CallPlan: what becomes of a call whose attempt failed. Pure.

The one rule: a call is never executed twice behind its caller's back. An attempt that certainly never left is
made again elsewhere, unlimited but by the deadline (gRFC A6, transparent retries); any other only where the
method is idempotent, the status is worth it, and budget, deadline and server allow it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from healthlb.config import Backoff, Failover
from healthlb.core.backoff import BackoffDelays
from healthlb.core.call.budget import Budget
from healthlb.core.messages import SECOND, Code

# Where a hedge cannot help, whether it can by now is asked no more often.
_ASK_AGAIN = SECOND // 10


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """How the calls of one method are tried.

    Attributes:
        max_attempts: attempts that may have reached a server.
        codes: statuses that another attempt might mend.
        is_idempotent: whether it may be executed twice.
        backoff: between attempts, None for at once.
        attempt_timeout: nanoseconds for each attempt, None for the deadline only.
        hedging_delay: nanoseconds until the next hedge, None for no hedging.
        may_rescue: whether its calls are sent elsewhere that are in flight on a hung backend, where they may be.
    """

    max_attempts: int = 1
    codes: frozenset[Code] = frozenset()
    is_idempotent: bool = False
    backoff: Backoff | None = None
    attempt_timeout: int | None = None
    hedging_delay: int | None = None
    may_rescue: bool = False

    @property
    def is_rescued(self) -> bool:
        """Whether calls that are in flight on a hung backend are sent elsewhere."""
        return self.may_rescue and self.is_repeatable

    @property
    def is_repeatable(self) -> bool:
        """Whether calls that fail may be made again."""
        return self.is_idempotent and self.max_attempts > 1

    @property
    def is_hedged(self) -> bool:
        """Whether calls are sent to more than one subchannel."""
        return self.hedging_delay is not None and self.is_repeatable


def call_policy(failover: Failover, is_idempotent: bool) -> CallPolicy:
    """Return how the calls of a method are tried that is, or is not, idempotent."""
    return CallPolicy(
        max_attempts=failover.max_attempts,
        codes=frozenset(Code[code] for code in failover.codes),
        is_idempotent=is_idempotent,
        backoff=failover.backoff,
        attempt_timeout=_ns(failover.attempt_timeout),
        hedging_delay=_ns(failover.hedging_delay),
        may_rescue=failover.rescue,
    )


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * SECOND)


# --- Events ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt is over.

    Attributes:
        attempt: its number.
        sub: where it went.
        code: its status.
        is_unsent: whether it certainly never left.
        is_cut_off: whether its own timeout ended it, before the call's deadline.
        pushback: the server's wish in nanoseconds, negative for "never", None for none (gRFC A6).
        is_rescued: whether it was given up, as `rescue` has allowed, since its backend was found hung.
        may_repeat: whether others have room for another attempt; one that never left is made again in any case.
    """

    attempt: int
    sub: int
    code: Code
    is_unsent: bool = False
    is_cut_off: bool = False
    pushback: int | None = None
    is_rescued: bool = False
    may_repeat: bool = True


@dataclass(frozen=True, slots=True)
class Woke:
    """The time of a WakeAt has come.

    Attributes:
        may_hedge: whether a hedge can help; where it cannot, the call asks again later.
    """

    may_hedge: bool = True


@dataclass(frozen=True, slots=True)
class Skipped:
    """A hedge found no subchannel, and was not started."""

    attempt: int


PlanEvent = AttemptEnded | Woke | Skipped


# --- Actions -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Make an attempt, on none of these subchannels while there are others.

    Attributes:
        attempt: its number.
        exclude: subchannels that were tried.
        previous: attempts before it that may have reached a server.
    """

    attempt: int
    exclude: frozenset[int]
    previous: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel an attempt: another one won."""

    attempt: int


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `Woke` at this time, in nanoseconds; a later WakeAt replaces it."""

    at: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The call ends as this attempt did."""

    attempt: int


Action = Start | Cancel | WakeAt | Finish


class CallPlan:
    """One call's attempts, from the first failure on; a hedged call's from the beginning.

    Args:
        policy: the method's.
        budget: the channel's.
        deadline: nanoseconds, None for none.
        is_hedged: whether attempts may run side by side.
        rng: the stream for jitter.
    """

    def __init__(
        self, policy: CallPolicy, budget: Budget, deadline: int | None, *, is_hedged: bool, rng: random.Random
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._deadline = deadline
        self._is_hedged = is_hedged
        self._delays = BackoffDelays(policy.backoff, rng) if policy.backoff is not None else None
        self._live = {1}
        self._last = 1
        self._counted = 1
        self._unstarted = 0
        self._tried: frozenset[int] = frozenset()
        self._latest: int | None = None
        self._is_over = False
        self._is_waiting = False
        self._wakes_at = 0
        self._is_told_to_stop = False
        self._rescues: frozenset[int] = frozenset()

    def begin(self, now: int) -> list[Action]:
        """Return what is to be done beside the first attempt, number 1."""
        return self._next_hedge(now)

    def picked(self, sub: int) -> None:
        """An attempt goes to this subchannel."""
        self._tried |= {sub}
        self._latest = sub

    def step(self, event: PlanEvent, now: int) -> list[Action]:
        """Take in what happened at `now` and return what is to be done."""
        if self._is_over:
            return []
        match event:
            case Skipped(attempt):
                return self._skipped(attempt)
            case Woke(may_hedge):
                return self._woke(now, may_hedge=may_hedge)
            case _:
                return self._ended(event, now)

    def rescue(self, attempt: int, now: int) -> bool:
        """Whether an attempt on a backend that was found hung is to be given up; the one in its place is paid for.

        Where others are under way, none takes its place.
        """
        if self._is_over or attempt not in self._live:
            return False
        if len(self._live) > 1 or self._is_waiting:
            return True
        is_late = self._deadline is not None and now >= self._deadline
        if is_late or self._is_told_to_stop or self._counted >= self._policy.max_attempts:
            return False
        if not (self._policy.is_rescued and self._budget.withdraw(now)):
            return False
        self._counted += 1
        self._rescues |= {attempt}
        return True

    def _skipped(self, attempt: int) -> list[Action]:
        self._live.discard(attempt)
        if not (self._live or self._is_waiting):
            # Those beside it have ended meanwhile; then this one is what the call waits for.
            return [self._start()]
        # What was not started takes no attempt from those that follow a failure, and is not paid for.
        self._counted -= 1
        self._budget.give_back()
        self._unstarted += 1
        return []

    def _ended(self, event: AttemptEnded, now: int) -> list[Action]:
        self._live.discard(event.attempt)
        self._tried |= {event.sub}
        if event.code is Code.OK:
            return self._finish(event.attempt)
        if event.is_unsent:
            return [self._start()]
        if event.attempt in self._rescues:
            self._budget.attempt_failed()
            return [self._start()]
        is_retryable = event.is_cut_off or event.is_rescued or event.code in self._policy.codes
        if is_retryable or (event.pushback is not None and event.pushback < 0):
            self._budget.attempt_failed()
        if not (is_retryable and event.may_repeat and self._policy.is_idempotent):
            return self._finish(event.attempt)
        return self._again(event, now) or self._wait_or_finish(event.attempt)

    def _again(self, event: AttemptEnded, now: int) -> list[Action]:
        """Return how the next attempt comes about, nothing where there is none."""
        if event.pushback is not None and event.pushback < 0:
            self._is_told_to_stop = True
        if self._is_told_to_stop or self._is_waiting or self._counted >= self._policy.max_attempts:
            return []
        delay = self._delay(event)
        if self._deadline is not None and now + delay >= self._deadline:
            return []
        if not self._budget.withdraw(now):
            return []
        self._counted += 1
        if delay:
            self._is_waiting = True
            return [self._wake_at(now + delay)]
        return [self._start()]

    def _delay(self, event: AttemptEnded) -> int:
        if event.pushback is not None:
            # A6: the server's wish counts once, and the backoff begins anew.
            if self._delays is not None:
                self._delays.reset()
            return event.pushback
        if self._delays is None or self._is_hedged:
            return 0
        return self._delays.next()

    def _wait_or_finish(self, attempt: int) -> list[Action]:
        return [] if self._live or self._is_waiting else self._finish(attempt)

    def _wake_at(self, time: int) -> WakeAt:
        self._wakes_at = time
        return WakeAt(time)

    def late_on(self, now: int) -> int | None:
        """Return the subchannel on which the call is late if a hedge is due now, else None."""
        is_due = self._is_hedged and not self._is_over and not self._is_waiting and now >= self._wakes_at
        return self._latest if is_due else None

    def _woke(self, now: int, *, may_hedge: bool) -> list[Action]:
        if now < self._wakes_at:
            return [WakeAt(self._wakes_at)]
        if self._is_waiting:
            self._is_waiting = False
            return [self._start(), *self._next_hedge(now)]
        if not may_hedge:
            return [self._wake_at(now + max(self._policy.hedging_delay or 0, _ASK_AGAIN))]
        is_enough = self._is_told_to_stop or self._has_hedged_enough
        if not self._is_hedged or is_enough or not self._budget.withdraw(now):
            return []
        self._counted += 1
        return [self._start(), *self._next_hedge(now)]

    @property
    def _has_hedged_enough(self) -> bool:
        return self._counted + self._unstarted >= self._policy.max_attempts

    def _next_hedge(self, now: int) -> list[Action]:
        if not self._is_hedged or self._has_hedged_enough:
            return []
        assert self._policy.hedging_delay is not None
        return [self._wake_at(now + self._policy.hedging_delay)]

    def _start(self) -> Start:
        self._last += 1
        self._live.add(self._last)
        return Start(self._last, self._tried, self._counted - 1)

    def _finish(self, attempt: int) -> list[Action]:
        self._is_over = True
        return [*(Cancel(other) for other in sorted(self._live)), Finish(attempt)]
