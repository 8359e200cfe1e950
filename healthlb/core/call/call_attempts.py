"""The attempts of one call: how it picks, and what a failed attempt says. Pure; faces and simulator share it.

The one rule: whether there is another attempt is the CallPlan's to say; here is what the plan and the core are told.
The plan is made at the first failure, so that a call whose first attempt succeeds costs none.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from healthlb.config.outliers import Outliers
from healthlb.core.call.budget import Budget
from healthlb.core.call.failover import Action, AttemptEnded, CallPlan, CallPolicy, Finish, Skipped, Start, Woke
from healthlb.core.call.load_shedding import Refusal
from healthlb.core.call.waiting import CallSubchannels
from healthlb.core.load import Subchannel, Verdict
from healthlb.core.messages import SECOND, Code, ConnectivityState, Fail
from healthlb.core.pickers import ANY_CALL, ANY_REPEATABLE_CALL, CallEnd, CallInfo, PickerBuilder, flag, hook
from healthlb.core.pickers.checked import FailedPick
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
        call: the settings that `CallPlan` decides by.
        timeout: the longest that a call may take, in seconds (`methodConfig.timeout`); None for no limit.
        wait_for_ready: whether calls wait for a READY subchannel that do not say so themselves.
        is_strict: whether only proof counts that a call never left (`Failover.strict`), not the text of an error.
        buffer_limit: how many bytes of a request stream are kept for further attempts.
        idempotency: why calls of this method are not repeated, for the error text of a call that was not.
        unmatched: patterns of `Failover.idempotent` that no method has matched so far; shared by all methods.
        headers_commit: whether initial metadata commit a call even where the response then breaks off (gRFC A6).
    """

    call: CallPolicy
    timeout: float | None
    wait_for_ready: bool
    is_strict: bool
    buffer_limit: int
    idempotency: str = "the method is not idempotent: see Failover.idempotent"
    unmatched: dict[str, None] = field(default_factory=dict, compare=False)
    headers_commit: bool = False

    def not_again(self, code: Code) -> str:
        """Return why a call that ended with `code` is not tried again, though `Failover.codes` has that status.

        "" if the status is not among them, or the call may be tried again.
        """
        is_worth_it = code in self.call.codes and self.call.max_attempts > 1
        return self.idempotency if is_worth_it and not self.call.is_idempotent else ""


class FailureClassifier:
    """Decides what the end of an attempt says about its backend.

    Args:
        outliers: its `codes` count against the backend; None if none do.
    """

    __slots__ = ("_counted",)

    def __init__(self, outliers: Outliers | None) -> None:
        self._counted = frozenset() if outliers is None else frozenset(Code[code] for code in outliers.codes)

    def failed(
        self, sub: Subchannel, code: Code, *, is_refused: bool, lost_from: int | None = None, now: int = 0
    ) -> bool:
        """Count out an attempt that ended with another status than OK.

        Args:
            sub: its subchannel.
            code: its status.
            is_refused: whether the connection was down, so that nothing was sent.
            lost_from: when it began, if its connection was lost; None if not.
            now: nanoseconds, for that.

        Returns:
            Whether the balancer must hear of it: it counts against the backend, or the connection may be dead.
        """
        verdict = Verdict.ANSWER
        # A refusal is the connection's affair: nothing reached the backend, and it is out of rotation by that.
        if code in self._counted and not is_refused:
            verdict = Verdict.LATE if code is Code.DEADLINE_EXCEEDED else Verdict.FAILURE
        if verdict is Verdict.FAILURE and lost_from is not None:
            sub.load.lose(lost_from, now)
        else:
            sub.load.fail(verdict)
        return verdict is not Verdict.ANSWER or code in _TELLING

    def superseded(self, sub: Subchannel) -> None:
        """Count against the backend that a later attempt of a hedged call was answered first."""
        if Code.DEADLINE_EXCEEDED in self._counted:
            sub.load.supersede()


def count_out(sub: Subchannel, budget: Budget, now: int) -> None:
    """Count out an attempt that ended with OK at `now`, in nanoseconds."""
    sub.load.succeed(now)
    if budget.counts_successes:
        budget.call_succeeded()


@dataclass(frozen=True, slots=True)
class CallEndHook:
    """Which ends of attempts a picker factory wants to hear of.

    Attributes:
        hear: the factory's `call_ended`.
        of_failures: whether it hears of attempts that failed.
        of_all: whether it hears of attempts that succeeded, too.
        needs_reports: whether it wants the backend's load report with each.
    """

    hear: Callable[[Subchannel, CallEnd], object]
    of_failures: bool
    of_all: bool
    needs_reports: bool


def call_end_hook(factory: PickerBuilder) -> CallEndHook:
    """Return which ends of attempts this factory wants to hear of."""
    hear = hook(factory, "call_ended")
    if hear is None:
        return CallEndHook(lambda sub, end: None, False, False, False)
    needs_reports = flag(factory, "needs_reports")
    return CallEndHook(hear, True, needs_reports or flag(factory, "needs_latency"), needs_reports)


def any_call(policy: CallPolicy) -> CallInfo:
    """Return the blank `CallInfo` for pickers that set `needs_call = False`."""
    return ANY_REPEATABLE_CALL if policy.is_repeatable else ANY_CALL


def parse_pushback(values: Sequence[Any]) -> int | None:
    """Return a server's `grpc-retry-pushback-ms` in nanoseconds, or None if it sent none (gRFC A6).

    A value that is negative or no number, and more than one value, mean "do not retry": the result is negative then.
    """
    if not values:
        return None
    try:
        milliseconds = int(values[0])
    except ValueError:
        return _NEVER
    return _NEVER if milliseconds < 0 or len(values) > 1 else milliseconds * SECOND // 1000


def failure(snapshot: Snapshot, *, wait_for_ready: bool) -> Fail | None:
    """Return the status with which a call ends that found no subchannel, or None if it waits for one."""
    if snapshot.state is ConnectivityState.SHUTDOWN:
        return CHANNEL_CLOSED
    return None if wait_for_ready else snapshot.failure


def winner(actions: Sequence[Action]) -> int:
    """Return the number of the attempt that ends the call, or 0 if the call goes on.

    Earlier attempts of a hedged call that are cancelled with it count as superseded.
    """
    return next((action.attempt for action in actions if isinstance(action, Finish)), 0)


# --- one call --------------------------------------------------------------------------------------


class CalledMethod(Protocol):
    """The method that a call is of, and the channel that it is made on.

    Attributes:
        name: the full method name.
        policy: how its calls are made.
        budget: pays for attempts after the first.
        classifier: says what a failure means for the backend.
        needs_call: whether the picker wants to know of first attempts, too.
        is_hedged: whether a late call is sent to another subchannel as well.
    """

    name: str
    policy: MethodPolicy
    budget: Budget
    classifier: FailureClassifier
    needs_call: bool
    is_hedged: bool

    @property
    def subchannels(self) -> CallSubchannels:
        """The channel's subchannels."""


class CallAttempts:
    """One call's way through the subchannels. Subclasses set these attributes.

    Attributes:
        method: what is called.
        metadata: the caller's pairs, or None.
        wait_for_ready: whether the call waits even where all subchannels have failed.
        plan: what decides about further attempts, None where none was needed so far.
        is_committed: whether no other attempt can take over any more.
        is_cancelled: whether the caller cancelled the call.
        refused_in: the snapshot's generation in which an attempt was refused, -1 for none.
        cap: that the last pick has run into, "" for none.
        refusal: that it has drawn, which ends it; None for none.
    """

    __slots__ = (
        "_fault", "cap", "is_cancelled", "is_committed", "metadata", "method", "plan", "refusal", "refused_in",
        "wait_for_ready",
    )  # fmt: skip

    method: CalledMethod
    metadata: Iterable[tuple[str, str | bytes]] | None
    wait_for_ready: bool
    plan: CallPlan | None
    is_committed: bool
    is_cancelled: bool
    refused_in: int
    cap: str
    refusal: Refusal | None
    # What a user's picker did wrong at a pick that found nothing, "" for nothing.
    _fault: str

    def begin(self, now: int) -> Sequence[Action]:
        """Return what to do beside the first attempt of a hedged call."""
        return self.make_plan().begin(now)

    def make_plan(self) -> CallPlan:
        """Return the call's plan, made at the first need. A call whose first attempt succeeds needs none."""
        if self.plan is None:
            method = self.method
            self.plan = CallPlan(
                method.policy.call, method.budget, self.deadline_at, is_hedged=method.is_hedged, rng=self.jitter
            )
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
        """Pick a subchannel and count the call in on it.

        Returns:
            The subchannel; None if there is none, and `failure` says whether the call waits or ends.
        """
        method = self.method
        holder = method.subchannels.holder
        snapshot = holder.snapshot
        if self.refusal is not None:
            return None
        needs_call = start.exclude or method.needs_call or snapshot.shedding is not None
        call = self._call_info(start) if needs_call else any_call(method.policy.call)
        while True:
            sub = snapshot.picker.pick(call)
            if sub is None:
                self._found_nothing()
                return None
            if sub.load.start():
                break
            if isinstance(sub, FailedPick):
                self._found_nothing(sub)
                return None
            if not sub.load.is_retired:
                sub = self._pick_below_caps(start, snapshot)
                if sub is not None:
                    break
                if self.cap or self._fault:
                    return None
            if holder.snapshot is snapshot:
                self._found_nothing()
                return None
            snapshot = holder.snapshot
        if start.exclude and sub.id in start.exclude and holder.snapshot.generation == self.refused_in:
            # Only the refused one is left, and the core does not know yet that it is down.
            self._found_nothing()
            sub.load.abandon()
            return None
        if self.plan is not None:
            self.plan.picked(sub.id)
        return sub

    def _found_nothing(self, found: object = None) -> None:
        self.cap = found if isinstance(found, str) else ""
        self._fault = found.reason if isinstance(found, FailedPick) else ""
        if isinstance(found, Refusal):
            self.refusal = found
            self.method.subchannels.admission.limiter.refuse()

    def _pick_below_caps(self, start: Start, snapshot: Snapshot) -> Subchannel | None:
        found = self.method.subchannels.admission.pick(snapshot, self._call_info(start))
        self._found_nothing(found)
        return found if isinstance(found, Subchannel) and not self._fault else None

    def failure(self, snapshot: Snapshot) -> Fail | None:
        """Return the status with which the call ends after `try_pick` returned None, or None if it waits."""
        if self.cap:
            return self.method.subchannels.refuse(self.cap, snapshot)
        if self._fault:
            # Waiting mends nothing; so it ends calls with wait_for_ready, too, as A54's drops do.
            return Fail(Code.INTERNAL if self.refusal is None else self.refusal.code, self._fault)
        return failure(snapshot, wait_for_ready=self.wait_for_ready)

    def try_pick_beside(self, start: Start) -> Subchannel | None:
        """Pick a subchannel for a hedge: one that this call has not tried yet. None if there is none."""
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
        """Count out an attempt that ended with OK, and return what to do next."""
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
        is_lost: bool = False,
        began_at: int = 0,
    ) -> Sequence[Action]:
        """Count out an attempt that failed, and return what to do next.

        Args:
            start: the action that began it.
            sub: the subchannel that it used.
            code: its status.
            now: nanoseconds on the monotonic clock.
            is_refused: whether the connection was down, so that nothing was sent.
            is_cut_off: whether `Failover.attempt_timeout` ended it, not the call's deadline or the server.
            is_local: whether the client itself made it fail; that says nothing about the backend.
            pushback: when the server wants the next attempt, in nanoseconds; see `parse_pushback`.
            is_rescued: whether it was given up after `rescue` returned True, because its backend hangs.
            is_lost: whether its connection was lost, so that the backend does no more work on it.
            began_at: when it began, in nanoseconds.
        """
        method = self.method
        lost_from = began_at if is_lost else None
        if self.is_cancelled or is_local or is_rescued:
            sub.load.abandon()
        elif method.classifier.failed(sub, code, is_refused=is_refused, lost_from=lost_from, now=now):
            method.subchannels.call_failed(sub, code, is_refused=is_refused)
        if self.is_committed or self.is_cancelled or method.subchannels.is_closed:
            return (Finish(start.attempt),)
        if is_refused:
            snapshot = method.subchannels.holder.snapshot
            self.refused_in = snapshot.generation if sub in snapshot.ready else -1
        is_unsent = is_refused and not method.policy.is_strict
        may_repeat = is_lost or sub.load.only_fails or not method.subchannels.admission.limiter.is_strained
        ended = AttemptEnded(start.attempt, sub.id, code, is_unsent, is_cut_off, pushback, is_rescued, may_repeat)
        return self.make_plan().step(ended, now)

    def rescue(self, start: Start, sub: Subchannel, now: int) -> bool:
        """Return whether to give up an attempt because its backend hangs and the call may go elsewhere.

        If so, the caller cancels the attempt, and reports its end to `attempt_failed` with `is_rescued`.
        """
        method = self.method
        if self.is_committed or self.is_cancelled or not method.policy.call.is_rescued or method.subchannels.is_closed:
            return False
        others = any(other.id != sub.id for other in method.subchannels.holder.snapshot.ready)
        if method.subchannels.admission.limiter.is_strained or not others:
            return False
        return self.make_plan().rescue(start.attempt, now)

    def lost(self, start: Start, sub: Subchannel, now: int) -> Sequence[Action]:
        """Return what to do after an attempt sent nothing because its subchannel had closed."""
        return self.make_plan().step(AttemptEnded(start.attempt, sub.id, Code.UNAVAILABLE, is_unsent=True), now)

    def superseded(self, sub: Subchannel) -> None:
        """Count against a subchannel that a later attempt of the call was answered first."""
        self.method.classifier.superseded(sub)
        self.method.subchannels.call_failed(sub, Code.DEADLINE_EXCEEDED, is_refused=False)

    def skipped(self, start: Start, now: int) -> Sequence[Action]:
        """Return what to do after a hedge found no subchannel that the call has not tried."""
        return self.make_plan().step(Skipped(start.attempt), now)

    def woke(self, now: int) -> Sequence[Action]:
        """Return what to do now that the time of a `WakeAt` action has come."""
        subchannels = self.method.subchannels
        plan = self.make_plan()
        gate = self.method.budget.hedges
        late = plan.late_on(now)
        if late is None:
            return plan.step(Woke(), now)
        may_hedge = gate is None or gate.allows(late, subchannels.holder.snapshot.ready, now)
        return plan.step(Woke(may_hedge=may_hedge and not subchannels.admission.limiter.is_strained), now)
