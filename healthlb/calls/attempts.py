"""The attempts of one call over grpcio, the same in both faces.

The one rule: what is decided is the core's (`core/call/call_attempts.py`); here is only what it needs to know of
grpcio.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc

from healthlb.calls.metadata import illegal_keys
from healthlb.calls.refusals import names_break, names_loss, names_refusal, names_the_client
from healthlb.calls.subchannels_base import SubchannelsBase
from healthlb.control.codes import to_code
from healthlb.control.user_code import is_interrupt, log_guarded
from healthlb.core.call.budget import Budget
from healthlb.core.call.call_attempts import (
    FIRST,
    CallAttempts,
    FailureClassifier,
    MethodPolicy,
    any_call,
    call_end_hook,
    parse_pushback,
)
from healthlb.core.call.failover import Action, Start
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code, Fail
from healthlb.core.pickers import CallEnd, flag
from healthlb.core.pickers.orca import report_of
from healthlb.core.remedies import explained, of_call
from healthlb.core.snapshot import Snapshot
from healthlb.core.user_code import name_of
from healthlb.errors import ChannelClosed

_PREVIOUS_ATTEMPTS = "healthlb-previous-rpc-attempts"
_PUSHBACK = "grpc-retry-pushback-ms"
_JITTER = random.SystemRandom()

InnerT = TypeVar("InnerT")
"""What a face has for one attempt: C-core's call in the asyncio face, what sees to it in the sync one."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt of a call.

    Attributes:
        address: where it went.
        code: how it ended.
        details: the text that came with it.
        seconds: how long it took.
        not_again: why it was not tried again though its status is among `Failover.codes`; "" where it is not, or it
            was.
    """

    address: str
    code: grpc.StatusCode
    details: str
    seconds: float
    not_again: str = ""


def attempts_of(error: BaseException) -> tuple[Attempt, ...]:
    """Return the attempts of a call that failed, in order; none where the error is not of a healthlb channel's call.

    Args:
        error: what the call raised, in either face.
    """
    attempts: tuple[Attempt, ...] = getattr(error, "attempts", ())
    return attempts


def add_notes(error: BaseException, attempts: tuple[Attempt, ...]) -> None:
    """Have the traceback of a call's error say why it was not tried again (PEP 678)."""
    if attempts and attempts[-1].not_again:
        error.add_note(f"healthlb: not tried again: {attempts[-1].not_again}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt failed.

    Attributes:
        code: its status.
        details: the status's text.
        has_metadata: whether metadata came, and so something answered.
        trailers: the trailing metadata.
        is_begun: whether the response had begun: headers of its own, or a message.
        is_taken: whether the caller was given some of it, or could not be.
    """

    code: grpc.StatusCode
    details: str
    has_metadata: bool
    trailers: Sequence[tuple[str, Any]]
    is_begun: bool = False
    is_taken: bool = False

    @property
    def pushback(self) -> int | None:
        """The server's `grpc-retry-pushback-ms` in nanoseconds; negative, unreadable or twice is "never" (gRFC A6)."""
        return parse_pushback([value for key, value in self.trailers if key == _PUSHBACK])


# How an attempt ends whose backend was found hung, where the call goes elsewhere.
RESCUED = Outcome(grpc.StatusCode.UNAVAILABLE, "rescued: the backend was found hung", False, ())


class Live(Generic[InnerT]):
    """An attempt that is under way.

    Args:
        start: what asked for it.
        sub: where it goes.
        started_at: when it began, in seconds on the monotonic clock.
        inner: the face's own object for it, None until it is open.
    """

    __slots__ = ("inner", "start", "started_at", "sub")

    def __init__(self, start: Start, sub: Subchannel, started_at: float, inner: InnerT | None = None) -> None:
        self.start = start
        self.sub = sub
        self.started_at = started_at
        self.inner = inner


class Method:
    """One method of one channel: how it is called on whichever subchannel was picked.

    Args:
        subchannels: the channel's subchannels.
        policy: how its calls are made.
        budget: pays for attempts after the first.
        arity: the name of grpcio's factory, `unary_unary` and so on.
        name: the full method name.
        arguments: what the factory takes after it.

    Attributes:
        any_call: what pickers that need no call are told of first attempts.
        is_rescued: whether its calls are sent elsewhere that are in flight on a hung backend.
        attempt_timeout: the most that one attempt may take, in seconds, None for no limit.
        end_hook: which ends of attempts the picker hears of.
        classifier: says what a failure means for the backend.
        has_latency: whether how long a call takes says something of the backend; that of a stream does not.
        is_first_plain: whether a first attempt is any pick and the caller's own timeout and metadata.
        is_plain: whether the same holds, and there is no other attempt while it is under way.
        opened: grpcio's multi-callables, by subchannel.
    """

    def __init__(
        self,
        subchannels: SubchannelsBase,
        policy: MethodPolicy,
        budget: Budget,
        *,
        arity: str,
        name: str,
        arguments: dict[str, Any],
    ) -> None:
        self.subchannels = subchannels
        self.policy = policy
        self.budget = budget
        self.name = name
        self.needs_call = flag(subchannels.settings.factory, "needs_call")
        self.has_request_stream = arity.startswith("stream")
        self.is_hedged = policy.call.is_hedged and arity == "unary_unary"
        limit = policy.call.attempt_timeout
        self.is_rescued = policy.call.is_rescued
        self.any_call = any_call(policy.call)
        self.attempt_timeout = None if limit is None else limit / SECOND
        self.end_hook = call_end_hook(subchannels.settings.factory)
        self.has_latency = arity == "unary_unary"
        self.is_first_plain = not (self.needs_call or limit or policy.timeout)
        self.is_plain = self.is_first_plain and not self.is_hedged
        self.opened: dict[Subchannel, Any] = {}
        self.classifier = FailureClassifier(subchannels.settings.config.outliers)
        self._arity = arity
        self._arguments = arguments

    def tell(self, sub: Subchannel, code: Code, started_at: float, trailers: Iterable[tuple[str, Any]] = ()) -> None:
        """Tell the picker how an attempt ended that began at `started_at` (monotonic seconds)."""
        report = report_of(trailers) if self.end_hook.needs_reports else None
        now = time.monotonic_ns()
        seconds = now / SECOND - started_at if self.has_latency else None
        try:
            self.end_hook.hear(sub, CallEnd(code, now, seconds, report))
        except BaseException as error:
            if is_interrupt(error):
                raise
            name = name_of(self.subchannels.settings.factory)
            log_guarded(logging.ERROR, f"call_ended of the picker factory {name} raised", error)

    def open(self, sub: Subchannel) -> Any:
        """Return grpcio's multi-callable on this subchannel, and keep it in `opened`.

        Raises:
            ChannelClosed: its channel is closed by now.
        """
        channel = self.subchannels.channels.channel(sub)
        if channel is None:
            raise ChannelClosed("Cannot invoke RPC on closed channel!")
        opened = self._entry(getattr(channel, self._arity)(self.name, **self._arguments))
        ready = set(self.subchannels.holder.snapshot.ready)
        self.opened = {**{old: kept for old, kept in self.opened.items() if old in ready}, sub: opened}
        return opened

    def forget(self, sub: int, generation: int) -> None:
        """Let go of what was opened on a connection that is closed."""
        gone = (sub, generation)
        self.opened = {sub: kept for sub, kept in self.opened.items() if (sub.id, sub.generation) != gone}

    def _entry(self, multi_callable: Any) -> Any:
        """Return what is kept in `opened` of grpcio's multi-callable."""
        return multi_callable


def with_remedy(code: grpc.StatusCode, details: str | None) -> str | None:
    """Return the details of a failed call, with what to do about them where that is known."""
    return explained(details, [of_call(to_code(code), details)]) if details else details


def log_unmatched(patterns: dict[str, None]) -> None:
    """Log, once, the patterns of `Failover.idempotent` that have matched no method until a call was not tried again."""
    unmatched = ", ".join(map(repr, patterns))
    patterns.clear()
    if unmatched:
        text = f"Failover.idempotent has patterns that match no method of the stubs that were made so far: {unmatched}"
        log_guarded(logging.WARNING, f"{text}; a method's full name is like '/package.Service/Method'")


def is_closed_error(error: BaseException) -> bool:
    """Whether grpcio refused to make a call since its channel is closed."""
    return isinstance(error, ValueError) or type(error).__name__ == "UsageError"


class Attempts(CallAttempts):
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
    """

    __slots__ = ("_timeout", "deadline", "history")

    method: Method

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
        self.metadata = metadata
        self.plan = None
        self.refused_in = -1
        self.refusal = None
        self.cap = ""

    @property
    def deadline_at(self) -> int | None:
        """The deadline in nanoseconds."""
        return None if self.deadline is None else round(self.deadline * SECOND)

    @property
    def jitter(self) -> random.Random:
        """The system's random numbers: any thread may draw, and a call that draws none pays nothing."""
        return _JITTER

    @property
    def time_remaining(self) -> float | None:
        """Seconds to the deadline, None for none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def terms(self, start: Start, *, has_waited: bool) -> tuple[float | None, Any]:
        """Return the timeout in seconds (None for none) and the metadata for an attempt.

        Later ones say how many were before, by a key of our own: grpcio drops gRPC's.
        """
        timeout, metadata = self._timeout, self.metadata
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
        if illegal_keys(self.metadata):
            return Fail(Code.INTERNAL, "Invalid metadata")
        fail = super().failure(snapshot)
        # A wait that was over before it began ends the call with DEADLINE_EXCEEDED, as in C-core.
        return None if fail is not None and fail.code is Code.UNAVAILABLE and self._was_over() else fail

    def _was_over(self) -> bool:
        """Whether the deadline was over when the call was made; C-core rounds it up to milliseconds."""
        return self._timeout is not None and self._timeout < -0.001

    def failed(self, start: Start, sub: Subchannel, outcome: Outcome, started_at: float) -> Sequence[Action]:
        """Take in how an attempt failed, count it out, and return what is to be done."""
        seconds = time.monotonic() - started_at
        code = to_code(outcome.code)
        is_refused = self._is_refused(sub, outcome)
        not_again = "" if is_refused else self.method.policy.not_again(code)
        if not_again:
            log_unmatched(self.method.policy.unmatched)
        self.history += (Attempt(sub.address, outcome.code, outcome.details, seconds, not_again),)
        is_cut_off = code is Code.DEADLINE_EXCEEDED and self._is_cut_off(seconds)
        self.is_committed |= self._commits(sub, outcome, is_cut_off=is_cut_off)
        return self.attempt_failed(
            start,
            sub,
            code,
            time.monotonic_ns(),
            is_refused=is_refused,
            is_cut_off=is_cut_off,
            is_local=not outcome.has_metadata and names_the_client(outcome.details),
            pushback=outcome.pushback,
            is_rescued=outcome is RESCUED,
            is_lost=is_refused or self._is_lost(sub, outcome),
            began_at=round(started_at * SECOND),
        )

    def report_failed(self, sub: Subchannel, outcome: Outcome, started_at: float) -> None:
        """Tell the picker how an attempt failed; it is user code, so under no lock."""
        if self.method.end_hook.of_failures:
            code = Code.CANCELLED if self.is_cancelled else to_code(outcome.code)
            self.method.tell(sub, code, started_at, outcome.trailers)

    def made_no_call(self, start: Start, sub: Subchannel) -> Sequence[Action]:
        """Count out an attempt that made no call; return what is to be done if its connection was closed before.

        If that was since the whole channel closed, what is done finds no other subchannel, and ends the call so.
        """
        sub.load.abandon()
        if self.method.subchannels.channels.channel(sub) is not None:
            return ()
        return self.lost(start, sub, time.monotonic_ns())

    def _commits(self, sub: Subchannel, outcome: Outcome, *, is_cut_off: bool) -> bool:
        """Whether what came of the attempt's response is the call's (gRFC A6).

        Of a repeatable call, that is what its caller was given, and what the server itself has ended. A response that
        broke off, or that we gave up, is neither.
        """
        if outcome.is_taken or not outcome.is_begun:
            return outcome.is_taken
        if self.method.policy.headers_commit or outcome.trailers:
            return True
        return not (is_cut_off or names_break(outcome.details) or self._is_lost(sub, outcome))

    def _is_cut_off(self, seconds: float) -> bool:
        """Whether the attempt's own timeout ended it, neither the call's deadline nor the server's word."""
        limit = self.method.attempt_timeout
        remaining = self.time_remaining
        return limit is not None and seconds >= limit and (remaining is None or remaining > 0)

    def _is_lost(self, sub: Subchannel, outcome: Outcome) -> bool:
        """Whether the connection was lost. A guess will do: only retries in a strained fleet depend on it."""
        if outcome.code is not grpc.StatusCode.UNAVAILABLE or outcome.trailers:
            return False
        return names_loss(outcome.details) or not self.method.subchannels.channels.is_ready(sub)

    def _is_refused(self, sub: Subchannel, outcome: Outcome) -> bool:
        if outcome.code is not grpc.StatusCode.UNAVAILABLE or outcome.has_metadata:
            return False
        subchannels = self.method.subchannels
        return names_refusal(
            outcome.details, subchannels.names.addresses(sub.address)
        ) and not subchannels.channels.is_ready(sub)
