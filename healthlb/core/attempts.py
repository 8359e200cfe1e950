"""The attempts of one call: how it picks, and what a failed attempt says. Pure; faces and simulator share it.

The one rule: whether there is another attempt is the CallPlan's to say; here is what the plan and the core are told.
The plan is made at the first failure, so that a call whose first attempt succeeds costs none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from healthlb.config_outliers import Outliers
from healthlb.core.budget import Budget
from healthlb.core.failover import Action, AttemptEnded, CallPlan, CallPolicy, Finish, Skipped, Start, Woke
from healthlb.core.load import Subchannel, Verdict
from healthlb.core.messages import SECOND, Code, ConnectivityState, Fail
from healthlb.core.pickers import ANY_CALL, ANY_REPEATABLE_CALL, CallEnd, CallInfo, PickerFactory
from healthlb.core.pickers.checked import Fault
from healthlb.core.snapshot import Snapshot

FIRST = Start(1, frozenset(), 0)
FINISH_FIRST = (Finish(FIRST.attempt),)
# How a call ends that waited when its channel was closed.
CHANNEL_CLOSED = Fail(Code.CANCELLED, "Channel closed!")

# What the core wants to hear of, whether or not outliers count it: it may mean that a connection is dead.
_TELLING = (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
_NEVER = -1


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """How the calls of one method are made.

    Attributes:
        call: what the core decides by.
        timeout: seconds at most (`methodConfig`), None for no limit.
        wait_for_ready: the default of calls.
        is_strict: whether C-core's text is no evidence.
        buffer_limit: bytes of a stream of requests that are kept.
        idempotency: why its calls are not idempotent, where they are not.
        unmatched: patterns of `Failover.idempotent` that have matched no method so far; shared by all methods.
    """

    call: CallPolicy
    timeout: float | None
    wait_for_ready: bool
    is_strict: bool
    buffer_limit: int
    idempotency: str = "the method is not idempotent: see Failover.idempotent"
    unmatched: dict[str, None] = field(default_factory=dict, compare=False)

    def not_again(self, code: Code) -> str:
        """Return why an attempt that ended so is not followed by another though its status is worth it, or ""."""
        is_worth_it = code in self.call.codes and self.call.max_attempts > 1
        return self.idempotency if is_worth_it and not self.call.is_idempotent else ""


class Judge:
    """What the end of an attempt says of its backend.

    Args:
        outliers: which statuses count against it, None for none.
    """

    __slots__ = ("_counted",)

    def __init__(self, outliers: Outliers | None) -> None:
        self._counted = frozenset() if outliers is None else frozenset(Code[code] for code in outliers.codes)

    def failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> bool:
        """Count out an attempt that ended with another status than OK; True where the core is to be told."""
        verdict = Verdict.ANSWER
        # A refusal is the connection's affair: nothing reached the backend, and it is out of rotation by that.
        if code in self._counted and not is_refused:
            verdict = Verdict.LATE if code is Code.DEADLINE_EXCEEDED else Verdict.STRIKE
        sub.load.fail(verdict)
        return verdict is not Verdict.ANSWER or code in _TELLING

    def beaten(self, sub: Subchannel) -> None:
        """A later attempt of a hedged call has won: this one is cancelled, and had no answer in time."""
        if Code.DEADLINE_EXCEEDED in self._counted:
            sub.load.beat()


def count_out(sub: Subchannel, budget: Budget, now: int) -> None:
    """Count out an attempt that ended with OK at `now`, in nanoseconds."""
    sub.load.succeed(now)
    if budget.counts_successes:
        budget.call_succeeded()


@dataclass(frozen=True, slots=True)
class Told:
    """Which ends of attempts a picker hears of.

    Attributes:
        hear: where it hears of them.
        of_failures: whether of those that failed.
        of_all: whether of the others too.
        needs_reports: whether with the backend's load report.
    """

    hear: Callable[[Subchannel, CallEnd], object]
    of_failures: bool
    of_all: bool
    needs_reports: bool


def told_of(factory: PickerFactory) -> Told:
    """Return which ends this factory's pickers hear of."""
    hear = getattr(factory, "call_ended", None)
    if hear is None:
        return Told(lambda sub, end: None, False, False, False)
    needs_reports = bool(getattr(factory, "needs_reports", False))
    return Told(hear, True, needs_reports or bool(getattr(factory, "needs_latency", False)), needs_reports)


def any_call(policy: CallPolicy) -> CallInfo:
    """Return what a picker that needs to know nothing of a call is told of the first attempts of a method."""
    return ANY_REPEATABLE_CALL if policy.is_repeatable else ANY_CALL


def parse_pushback(values: Sequence[Any]) -> int | None:
    """Return a server's `grpc-retry-pushback-ms` in nanoseconds, None for none (gRFC A6).

    Negative, unreadable and twice are "never", which is negative.
    """
    if not values:
        return None
    try:
        milliseconds = int(values[0])
    except ValueError:
        return _NEVER
    return _NEVER if milliseconds < 0 or len(values) > 1 else milliseconds * SECOND // 1000


def failure(snapshot: Snapshot, *, wait_for_ready: bool) -> Fail | None:
    """Return how a call ends that found nothing to pick, or None if it waits."""
    if snapshot.state is ConnectivityState.SHUTDOWN:
        return CHANNEL_CLOSED
    return None if wait_for_ready else snapshot.failure


def winner(actions: Sequence[Action]) -> int:
    """Return the attempt that a call ends with, 0 where it goes on.

    An attempt before it that is cancelled was beaten: it had no answer in the time in which a later one had.
    """
    return next((action.attempt for action in actions if isinstance(action, Finish)), 0)


# --- one call --------------------------------------------------------------------------------------


class Board(Protocol):
    """Where snapshots are published.

    Attributes:
        snapshot: the present one.
    """

    snapshot: Snapshot


class CallAttempts:
    """One call's way through the subchannels; who has it sets what stands below.

    Attributes:
        method: what is called: its `policy` (a MethodPolicy), `budget`, `judge`, `name`, `needs_call` and `is_hedged`,
            and the channel's `pool` with `board`, `admission`, `is_closed`, `call_failed` and `refuse`.
        metadata: the caller's pairs, or None.
        wait_for_ready: whether the call waits even where all subchannels have failed.
        plan: what decides about further attempts, None where none was needed so far.
        is_committed: whether no other attempt can take over any more.
        is_cancelled: whether the caller cancelled the call.
        refused_in: the snapshot's generation in which an attempt was refused, -1 for none.
        cap: that the last pick has run into, "" for none.
    """

    __slots__ = (
        "_fault", "cap", "is_cancelled", "is_committed", "metadata", "method", "plan", "refused_in", "wait_for_ready",
    )  # fmt: skip

    method: Any
    metadata: Any
    wait_for_ready: bool
    plan: CallPlan | None
    is_committed: bool
    is_cancelled: bool
    refused_in: int
    cap: str
    # What a user's picker did wrong at a pick that found nothing, "" for nothing.
    _fault: str

    def begin(self, now: int) -> Sequence[Action]:
        """Return what is to be done beside the first attempt of a hedged call."""
        return self.make_plan().begin(now)

    def make_plan(self) -> CallPlan:
        """Return the plan; most calls need none."""
        if self.plan is None:
            method = self.method
            self.plan = CallPlan(method.policy.call, method.budget, self.deadline_at, method.is_hedged, self.jitter)
        return self.plan

    @property
    def deadline_at(self) -> int | None:
        """When the call's time is over, in nanoseconds, None for never."""
        raise NotImplementedError

    @property
    def jitter(self) -> random.Random:
        """The stream for the backoff of this call's attempts."""
        raise NotImplementedError

    # --- picking -------------------------------------------------------------------------------------

    def try_pick(self, start: Start) -> Subchannel | None:
        """Return a subchannel with the call counted in, or None if it must wait or fail."""
        method = self.method
        board = method.pool.board
        snapshot = board.snapshot
        call = self._call_info(start) if start.exclude or method.needs_call else any_call(method.policy.call)
        while True:
            sub: Subchannel | None = snapshot.picker.pick(call)
            if sub is None:
                self._found_nothing()
                return None
            if sub.load.start():
                break
            if isinstance(sub, Fault):
                self._found_nothing(sub.reason)
                return None
            if not sub.load.is_retired:
                sub = self._pick_below_caps(start, snapshot)
                if sub is not None:
                    break
                if self.cap or self._fault:
                    return None
            if board.snapshot is snapshot:
                self._found_nothing()
                return None
            snapshot = board.snapshot
        if start.exclude and sub.id in start.exclude and board.snapshot.generation == self.refused_in:
            # Only the refused one is left, and the core does not know yet that it is down.
            self._found_nothing()
            sub.load.abandon()
            return None
        if self.plan is not None:
            self.plan.picked(sub.id)
        return sub

    def _found_nothing(self, fault: str = "") -> None:
        self.cap = ""
        self._fault = fault

    def _pick_below_caps(self, start: Start, snapshot: Snapshot) -> Subchannel | None:
        found = self.method.pool.admission.pick(snapshot, self._call_info(start))
        self.cap = found if isinstance(found, str) else ""
        self._fault = found.reason if isinstance(found, Fault) else ""
        return found if isinstance(found, Subchannel) and not self._fault else None

    def failure(self, snapshot: Snapshot) -> Fail | None:
        """Return how the call ends that `try_pick` had nothing for, or None if it waits."""
        if self.cap:
            fail: Fail = self.method.pool.refuse(self.cap, snapshot)
            return fail
        if self._fault:
            # Waiting mends nothing; so it ends calls with wait_for_ready, too, as A54's drops do.
            return Fail(Code.INTERNAL, self._fault)
        return failure(snapshot, wait_for_ready=self.wait_for_ready)

    def try_pick_beside(self, start: Start) -> Subchannel | None:
        """Return a subchannel that was not tried, for an attempt beside others; None where there is none."""
        sub = self.try_pick(start)
        if sub is not None and sub.id in start.exclude:
            sub.load.abandon()
            return None
        return sub

    def _call_info(self, start: Start) -> CallInfo:
        is_repeatable = self.method.policy.call.is_repeatable
        return CallInfo(self.method.name, tuple(self.metadata or ()), start.previous + 1, start.exclude, is_repeatable)

    # --- ends ----------------------------------------------------------------------------------------

    def succeeded(self, start: Start, sub: Subchannel, now: int) -> Sequence[Action]:
        """Take in that an attempt ended with OK, and count it out."""
        count_out(sub, self.method.budget, now)
        return self.plan.step(AttemptEnded(start.attempt, sub.id, Code.OK), now) if self.plan else FINISH_FIRST

    def attempt_failed(
        self,
        start: Start,
        sub: Subchannel,
        code: Code,
        now: int,
        *,
        is_refused: bool = False,
        is_cut_off: bool = False,
        is_local: bool = False,
        pushback: int | None = None,
        is_rescued: bool = False,
    ) -> Sequence[Action]:
        """Take in how an attempt failed, count it out, and return what is to be done.

        Args:
            start: what asked for it.
            sub: where it went.
            code: its status.
            now: nanoseconds.
            is_refused: whether its connection was down, so that it never left.
            is_cut_off: whether its own timeout ended it, neither the call's deadline nor the server's word.
            is_local: whether the client itself made it fail, which says nothing of the backend.
            pushback: the server's wish in nanoseconds, as `parse_pushback` has it.
            is_rescued: whether it was given up, as `rescue` has allowed, since its backend was found hung.
        """
        method = self.method
        if self.is_cancelled or is_local or is_rescued:
            sub.load.abandon()
        elif method.judge.failed(sub, code, is_refused=is_refused):
            method.pool.call_failed(sub, code, is_refused=is_refused)
        if self.is_committed or self.is_cancelled or method.pool.is_closed:
            return (Finish(start.attempt),)
        if is_refused:
            snapshot = method.pool.board.snapshot
            self.refused_in = snapshot.generation if sub in snapshot.ready else -1
        is_unsent = is_refused and not method.policy.is_strict
        ended = AttemptEnded(start.attempt, sub.id, code, is_unsent, is_cut_off, pushback, is_rescued)
        return self.make_plan().step(ended, now)

    def rescue(self, start: Start, sub: Subchannel, now: int) -> bool:
        """Whether an attempt whose backend was found hung is to be given up, as others can take the call.

        Who has it cancels it, and says how it ended by `attempt_failed` with `is_rescued`.
        """
        method = self.method
        if self.is_committed or self.is_cancelled or not method.policy.call.is_rescued or method.pool.is_closed:
            return False
        if all(other.id == sub.id for other in method.pool.board.snapshot.ready):
            return False
        return self.make_plan().rescue(start.attempt, now)

    def lost(self, start: Start, sub: Subchannel, now: int) -> Sequence[Action]:
        """Take in that an attempt made no call, as its subchannel had closed."""
        ended = AttemptEnded(start.attempt, sub.id, Code.UNAVAILABLE, is_unsent=True)
        return self.make_plan().step(ended, now)

    def beaten(self, sub: Subchannel) -> None:
        """Take in that an attempt is cancelled since a later one has won."""
        self.method.judge.beaten(sub)
        self.method.pool.call_failed(sub, Code.DEADLINE_EXCEEDED, is_refused=False)

    def skipped(self, start: Start, now: int) -> Sequence[Action]:
        """A hedge found no subchannel that was not tried."""
        return self.make_plan().step(Skipped(start.attempt), now)

    def woke(self, now: int) -> Sequence[Action]:
        """The time of a WakeAt has come."""
        plan, gate = self.make_plan(), self.method.budget.hedges
        late = None if gate is None else plan.late_on(now)
        if late is None:
            return plan.step(Woke(), now)
        ready = self.method.pool.board.snapshot.ready
        return plan.step(Woke(may_hedge=gate.allows(late, ready, now)), now)
