"""The attempts of one call: picking, and what a failed one means. The same in both faces.

The one rule: what is decided is the core's CallPlan; here is only what it needs to know. The plan is made at
the first failure, so that a call whose first attempt succeeds costs none.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.config import is_metadata
from healthlb.control.evidence import names_refusal
from healthlb.control.grpc_transport import to_code
from healthlb.control.policy import MethodPolicy, Policies
from healthlb.control.pool import PoolBase, failure
from healthlb.core.budget import Budget
from healthlb.core.failover import Action, AttemptEnded, CallPlan, Finish, Skipped, Start, Woke
from healthlb.core.load import Subchannel, Verdict
from healthlb.core.messages import SECOND, Code, Fail
from healthlb.core.orca import report_of
from healthlb.core.pickers import ANY_CALL, CallEnd, CallInfo, PickerFactory
from healthlb.core.snapshot import Snapshot
from healthlb.errors import ChannelClosed

_log = logging.getLogger("healthlb")

_TELLING = (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)
_PREVIOUS_ATTEMPTS = "healthlb-previous-rpc-attempts"
_PUSHBACK = "grpc-retry-pushback-ms"
_NEVER = -1

FIRST = Start(1, frozenset(), 0)
_FINISH_FIRST = (Finish(FIRST.attempt),)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt of a call.

    Attributes:
        address: where it went.
        code: how it ended.
        details: the text that came with it.
        seconds: how long it took.
    """

    address: str
    code: grpc.StatusCode
    details: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt failed.

    Attributes:
        code: its status.
        details: the status's text.
        has_metadata: whether metadata came, and so something answered.
        trailers: the trailing metadata.
    """

    code: grpc.StatusCode
    details: str
    has_metadata: bool
    trailers: Sequence[tuple[str, Any]]

    @property
    def pushback(self) -> int | None:
        """The server's `grpc-retry-pushback-ms` in nanoseconds; negative, unreadable or twice is "never" (gRFC A6)."""
        values = [value for key, value in self.trailers if key == _PUSHBACK]
        if not values:
            return None
        try:
            milliseconds = int(values[0])
        except ValueError:
            return _NEVER
        return _NEVER if milliseconds < 0 or len(values) > 1 else milliseconds * SECOND // 1000


def count_out(sub: Subchannel, budget: Budget) -> None:
    """Count out a call that ended with OK."""
    sub.load.succeed(time.monotonic_ns())
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


class Method:
    """One method of one channel: how it is called on whichever subchannel was picked.

    Args:
        pool: the channel's subchannels.
        policy: how its calls are made.
        budget: pays for attempts after the first.
        arity: the name of grpcio's factory, `unary_unary` and so on.
        name: the full method name.
        arguments: what the factory takes after it.

    Attributes:
        attempt_timeout: the most that one attempt may take, in seconds, None for no limit.
        told: which ends of attempts the picker hears of.
        has_latency: whether how long a call takes says something of the backend; that of a stream does not.
        is_plain: whether a first attempt is any pick and the caller's own timeout and metadata.
        opened: grpcio's multi-callables, by subchannel.
    """

    def __init__(
        self, pool: PoolBase, policy: MethodPolicy, budget: Budget, arity: str, name: str, arguments: dict[str, Any]
    ) -> None:
        self.pool = pool
        self.policy = policy
        self.budget = budget
        self.name = name
        self.needs_call = getattr(pool.settings.factory, "needs_call", True)
        self.has_request_stream = arity.startswith("stream")
        self.is_hedged = policy.call.is_hedged and arity == "unary_unary"
        limit = policy.call.attempt_timeout
        self.attempt_timeout = None if limit is None else limit / SECOND
        self.told = told_of(pool.settings.factory)
        self.has_latency = arity == "unary_unary"
        self.is_plain = not (self.needs_call or self.is_hedged or limit or policy.timeout)
        self.opened: dict[Subchannel, Any] = {}
        outliers = pool.settings.outliers
        self._counted = frozenset() if outliers is None else frozenset(Code[code] for code in outliers.codes)
        self._arity = arity
        self._arguments = arguments

    def failed(self, sub: Subchannel, code: Code, *, is_refused: bool = False) -> None:
        """Count out a call that ended with another status, and tell the core where that may matter."""
        verdict = Verdict.ANSWER
        # A refusal is the connection's affair: nothing reached the backend, and it is out of rotation by that.
        if code in self._counted and not is_refused:
            verdict = Verdict.LATE if code is Code.DEADLINE_EXCEEDED else Verdict.STRIKE
        sub.load.fail(verdict)
        if verdict is not Verdict.ANSWER or code in _TELLING:
            self.pool.call_failed(sub, code, is_refused=is_refused)

    def beaten(self, sub: Subchannel) -> None:
        """A later attempt of a hedged call has won: this one is cancelled, and had no answer in time."""
        if Code.DEADLINE_EXCEEDED in self._counted:
            sub.load.beat()
        self.pool.call_failed(sub, Code.DEADLINE_EXCEEDED, is_refused=False)

    def tell(self, sub: Subchannel, code: Code, started_at: float, trailers: Iterable[tuple[str, Any]] = ()) -> None:
        """Tell the picker how an attempt ended that began at `started_at` (monotonic seconds)."""
        report = report_of(trailers) if self.told.needs_reports else None
        now = time.monotonic_ns()
        seconds = now / SECOND - started_at if self.has_latency else None
        try:
            self.told.hear(sub, CallEnd(code, now, seconds, report))
        except Exception:
            _log.exception("call_ended of the picker factory %r failed", self.pool.settings.factory)

    def open(self, sub: Subchannel) -> Any:
        """Return grpcio's multi-callable on this subchannel, and keep it in `opened`.

        Raises:
            ChannelClosed: its channel is closed by now.
        """
        channel = self.pool.channels.channel(sub)
        if channel is None:
            raise ChannelClosed("Cannot invoke RPC on closed channel!")
        opened = getattr(channel, self._arity)(self.name, **self._arguments)
        ready = set(self.pool.board.snapshot.ready)
        self.opened = {**{old: kept for old, kept in self.opened.items() if old in ready}, sub: opened}
        return opened


def make_method(pool: PoolBase, policies: Policies, arity: str, name: str, arguments: dict[str, Any]) -> Method:
    """Return a method whose calls are made by these policies."""
    return Method(pool, policies.method(name), pool.budget(policies.budget), arity, name, arguments)


class Attempts:
    """One call's way through the subchannels.

    Args:
        method: what is called.
        timeout: seconds for all attempts together, None for no deadline.
        metadata: the caller's.
        wait_for_ready: whether it waits even where all subchannels have failed.
        started_at: when it began, in nanoseconds.

    Attributes:
        deadline: in seconds on the monotonic clock, None for none.
        history: the attempts that failed.
        is_committed: whether no other attempt can take over any more.
        is_cancelled: whether the caller cancelled the call.
        plan: what decides about further attempts, None where none was needed so far.
    """

    __slots__ = (
        "_cap",
        "_generation",
        "_metadata",
        "_timeout",
        "deadline",
        "history",
        "is_cancelled",
        "is_committed",
        "method",
        "plan",
        "wait_for_ready",
    )

    def __init__(
        self, method: Method, timeout: float | None, metadata: Any, wait_for_ready: bool | None, started_at: int
    ) -> None:
        policy = method.policy
        if policy.timeout is not None:
            timeout = policy.timeout if timeout is None else min(timeout, policy.timeout)
        self.method = method
        self.wait_for_ready = policy.wait_for_ready if wait_for_ready is None else wait_for_ready
        self.deadline = None if timeout is None else started_at / SECOND + timeout
        self.history: tuple[Attempt, ...] = ()
        self.is_committed = False
        self.is_cancelled = False
        self._timeout = timeout
        self._metadata = metadata
        self.plan: CallPlan | None = None
        self._generation = -1
        self._cap = ""

    def begin(self) -> Sequence[Action]:
        """Return what is to be done beside the first attempt of a hedged call."""
        return self._make_plan().begin(time.monotonic_ns())

    def _make_plan(self) -> CallPlan:
        if self.plan is None:
            deadline = None if self.deadline is None else round(self.deadline * SECOND)
            policy = self.method.policy.call
            self.plan = CallPlan(policy, self.method.budget, deadline, self.method.is_hedged, random.Random())
        return self.plan

    # --- picking -----------------------------------------------------------------------------------

    def try_pick(self, start: Start) -> Subchannel | None:
        """Return a subchannel with the call counted in, or None if it must wait or fail."""
        method = self.method
        board = method.pool.board
        snapshot = board.snapshot
        call = self._call_info(start) if start.exclude or method.needs_call else ANY_CALL
        while True:
            sub = snapshot.picker.pick(call)
            if sub is None:
                self._cap = ""
                return None
            if sub.load.start():
                break
            if not sub.load.is_retired:
                sub = self._pick_below_caps(start, snapshot)
                if sub is not None:
                    break
                if self._cap:
                    return None
            if board.snapshot is snapshot:
                self._cap = ""
                return None
            snapshot = board.snapshot
        if start.exclude and sub.id in start.exclude and board.snapshot.generation == self._generation:
            # Only the refused one is left, and the core does not know yet that it is down.
            self._cap = ""
            sub.load.abandon()
            return None
        if self.plan is not None:
            self.plan.picked(sub.id)
        return sub

    def _pick_below_caps(self, start: Start, snapshot: Snapshot) -> Subchannel | None:
        found = self.method.pool.admission.pick(snapshot, self._call_info(start))
        self._cap = found if isinstance(found, str) else ""
        return found if isinstance(found, Subchannel) else None

    def _call_info(self, start: Start) -> CallInfo:
        return CallInfo(self.method.name, tuple(self._metadata or ()), start.previous + 1, start.exclude)

    @property
    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None for none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def terms(self, start: Start, *, has_waited: bool) -> tuple[float | None, Any]:
        """Return the timeout in seconds (None for none) and the metadata for an attempt.

        Later ones say how many were before, by a key of our own: grpcio drops gRPC's.
        """
        timeout, metadata = self._timeout, self._metadata
        if has_waited or start is not FIRST:
            timeout = self.time_remaining
        limit = self.method.attempt_timeout
        if limit is not None:
            timeout = limit if timeout is None else min(timeout, limit)
        if start.previous:
            metadata = (*(metadata or ()), (_PREVIOUS_ATTEMPTS, str(start.previous)))
        return timeout, metadata

    def failure(self, snapshot: Snapshot) -> Fail | None:
        """Return how the call ends that `try_pick` had nothing for, or None if it waits."""
        # Of metadata that no server will see; on a subchannel grpcio sees to that itself.
        if not all(is_metadata(key, value) for key, value in self._metadata or ()):
            return Fail(Code.INTERNAL, f"metadata was invalid: {self._metadata}")
        if self._cap:
            return self.method.pool.refuse(self._cap, snapshot)
        return failure(snapshot, wait_for_ready=self.wait_for_ready)

    # --- ends --------------------------------------------------------------------------------------

    def succeeded(self, start: Start, sub: Subchannel) -> Sequence[Action]:
        """Take in that an attempt ended with OK, and count it out."""
        count_out(sub, self.method.budget)
        return self._step(AttemptEnded(start.attempt, sub.id, Code.OK)) if self.plan else _FINISH_FIRST

    def failed(self, start: Start, sub: Subchannel, outcome: Outcome, started_at: float) -> Sequence[Action]:
        """Take in how an attempt failed, count it out, and return what is to be done."""
        seconds = time.monotonic() - started_at
        self.history += (Attempt(sub.address, outcome.code, outcome.details, seconds),)
        code = to_code(outcome.code)
        if self.method.told.of_failures:
            self.method.tell(sub, Code.CANCELLED if self.is_cancelled else code, started_at, outcome.trailers)
        is_refused = self._is_refused(sub, outcome)
        if self.is_cancelled:
            sub.load.abandon()
        else:
            self.method.failed(sub, code, is_refused=is_refused)
        if self.is_committed or self.is_cancelled or self.method.pool.is_closed:
            return (Finish(start.attempt),)
        if is_refused:
            snapshot = self.method.pool.board.snapshot
            self._generation = snapshot.generation if sub in snapshot.ready else -1
        is_unsent = is_refused and not self.method.policy.is_strict
        is_cut_off = code is Code.DEADLINE_EXCEEDED and self._is_cut_off(seconds)
        return self._step(AttemptEnded(start.attempt, sub.id, code, is_unsent, is_cut_off, outcome.pushback))

    def lost(self, start: Start, sub: Subchannel) -> Sequence[Action]:
        """Count out an attempt that made no call; return what is to be done if its subchannel had closed."""
        sub.load.abandon()
        pool = self.method.pool
        if pool.is_closed or pool.channels.channel(sub) is not None:
            return ()
        return self._step(AttemptEnded(start.attempt, sub.id, Code.UNAVAILABLE, is_unsent=True))

    def skipped(self, start: Start) -> Sequence[Action]:
        """A hedge found no subchannel that was not tried."""
        return self._step(Skipped(start.attempt))

    def woke(self) -> Sequence[Action]:
        """The time of a WakeAt has come."""
        return self._step(Woke())

    def _step(self, event: AttemptEnded | Woke | Skipped) -> Sequence[Action]:
        return self._make_plan().step(event, time.monotonic_ns())

    def _is_cut_off(self, seconds: float) -> bool:
        """Whether the attempt's own timeout ended it, neither the call's deadline nor the server's word."""
        limit = self.method.attempt_timeout
        remaining = self.time_remaining
        return limit is not None and seconds >= limit and (remaining is None or remaining > 0)

    def _is_refused(self, sub: Subchannel, outcome: Outcome) -> bool:
        if outcome.code is not grpc.StatusCode.UNAVAILABLE or outcome.has_metadata:
            return False
        pool = self.method.pool
        return names_refusal(outcome.details, pool.names.addresses(sub.address)) and not pool.channels.is_ready(sub)
