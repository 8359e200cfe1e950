"""Calls and their attempts on virtual time.

What is decided is the core's. Here is only what `healthlb.calls.call_runner` is to a real call: it does
what the plan says. A call whose first attempt succeeds is that attempt and nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from healthlb.config import Failover
from healthlb.core.call.call_attempts import CallAttempts, CalledMethod, MethodPolicy, winner
from healthlb.core.call.failover import Action, CallPolicy, Cancel, Finish, Start, WakeAt, call_policy
from healthlb.core.call.waiting import Wait, begin_wait
from healthlb.core.load import Subchannel
from healthlb.core.messages import Fail
from healthlb.core.snapshot import Snapshot
from healthlb.core.states import Code
from healthlb.simulation.engine.engine import Engine
from healthlb.simulation.scenario.scenario import ClientGroup
from healthlb.simulation.world.link import Attempt
from healthlb.simulation.world.protocols import Host
from healthlb.simulation.world.run_counts import RunCounts
from healthlb.simulation.world.work import Works


class CallMaker(CalledMethod, Protocol):
    """A client, as its calls know it.

    Attributes:
        engine: virtual time.
        tally: counts what happens.
        retry_jitter: the stream for the backoff between attempts.
        open_calls: that are more than one good attempt so far.
        waiting: those of them for which there is no subchannel at present.
    """

    engine: Engine
    tally: RunCounts
    retry_jitter: random.Random
    open_calls: dict[Call, None]
    waiting: dict[Call, None]

    @property
    def subchannels(self) -> Host:
        """The host of the core, which has the subchannels."""

    def send(self, call: Call, start: Start, sub: Subchannel) -> None:
        """Send an attempt of a call to what was picked and counted in."""

    def make_call(self, attempt: Attempt) -> Call:
        """Return the call of an attempt that is all there was of it so far."""

    def abandon(self, attempt: Attempt) -> None:
        """Give an attempt up: another one has won."""

    def attempt_lost(self, attempt: Attempt) -> None:
        """End an attempt with UNAVAILABLE."""

    def time_out(self, attempt: Attempt) -> None:
        """End an attempt that has had all of its time."""

    def call_over(self, call: Call, code: Code) -> None:
        """Remove a call that has ended."""

    def awake(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something now, or once the event loop goes on."""

    def wake_at(self, call: Call, at: int) -> None:
        """Set the timer of a call's plan."""


class Call(CallAttempts):
    """A call that is more than one good attempt.

    Args:
        client: whose it is.
        number: among the client's.
        arrived_at: when it began, in nanoseconds.
        deadline: in nanoseconds, 0 for none.
        works: the work of its first attempt by each of the scenario's laws.
        user: of a closed loop, or None.

    Attributes:
        live: attempts under way, by number.
        wait: for a subchannel, with its place and its end, or None.
        waiting: the attempt for which there is no subchannel at present, or None.
        is_over: whether it has ended.
        rescued: the attempt that was given up last since its backend was found hung, or None.
    """

    __slots__ = ("_wakes_at", "arrived_at", "client", "deadline", "is_over", "live", "number", "rescued", "user",
                 "wait", "waiting", "works")  # fmt: skip

    def __init__(
        self, client: CallMaker, number: int, arrived_at: int, deadline: int, works: Works, user: int | None
    ) -> None:
        self.method = self.client = client
        self.metadata = None
        self.plan = None
        self.is_committed = self.is_cancelled = self.is_over = False
        self.refused_in = -1
        self.refusal = None
        self.cap = ""
        self.wait_for_ready = client.policy.wait_for_ready
        self.wait: Wait | None = None
        self.number = number
        self.arrived_at = arrived_at
        self.deadline = deadline
        self.works = works
        self.user = user
        self.live: dict[int, Attempt] = {}
        self.rescued: Attempt | None = None
        self.waiting: Start | None = None
        self._wakes_at = -1
        client.open_calls[self] = None

    @property
    def deadline_at(self) -> int | None:
        """When its time is over, in nanoseconds, None for never."""
        return self.deadline or None

    @property
    def jitter(self) -> random.Random:
        """The client's stream for the backoff between attempts."""
        return self.client.retry_jitter

    # --- attempts ------------------------------------------------------------------------------------

    def launch(self, start: Start, *, has_picked: bool) -> None:
        """Make the first attempt, or begin to wait for it; where it `has_picked`, there was nothing to pick."""
        now = self.client.engine.now
        beside = self.begin(now) if self.method.is_hedged else ()
        sub = None if has_picked else self.try_pick(start)
        if sub is None:
            self.advance(start)
        else:
            self.client.send(self, start, sub)
        self.perform(beside, Code.OK)

    def was_alone(self, attempt: Attempt) -> int:
        """Go on with the first attempt of a hedged call, all there was of it so far; return when its plan wakes."""
        for action in self.begin(attempt.arrived_at):
            assert isinstance(action, WakeAt)
            self._wakes_at = action.at
        self.make_plan().picked(attempt.sub.id)
        return self._wakes_at

    def advance(self, start: Start) -> None:
        """Make an attempt, wait, or fail."""
        if self.is_over:
            return
        sub = self.try_pick(start)
        if sub is not None:
            self._end_wait()
            self.client.send(self, start, sub)
            return
        snapshot = self.client.subchannels.holder.snapshot
        fail = self.failure(snapshot) or self._begin_wait(snapshot)
        if fail is None:
            self.waiting = start
            self.client.waiting[self] = None
        else:
            self._finish(fail.code)

    def _begin_wait(self, snapshot: Snapshot) -> Fail | None:
        if self.wait is None:
            client = self.client
            wait = begin_wait(client.subchannels, client.engine.now, self.deadline_at, snapshot)
            if isinstance(wait, Fail):
                return wait
            self.wait = wait
            if wait.ends_at is not None and wait.ends_at != self.deadline:
                client.engine.at(wait.ends_at, client.awake, self.wait_ended, wait)
        return None

    def wait_ended(self, wait: Wait) -> None:
        """A wait has taken as long as it may."""
        if wait is self.wait and not self.is_over:
            self._finish(wait.ran_out(self.client.subchannels.holder.snapshot).code)

    def _end_wait(self) -> None:
        self.waiting = None
        wait, self.wait = self.wait, None
        if wait is not None:
            wait.end()

    def perform(self, actions: Sequence[Action], code: Code) -> None:
        """Do what the plan says, after an attempt that ended with `code`."""
        client = self.client
        for action in actions:
            if isinstance(action, Start):
                self._start(action)
            elif isinstance(action, WakeAt):
                self._wakes_at = action.at
                client.wake_at(self, action.at)
            elif isinstance(action, Cancel):
                attempt = self.live.pop(action.attempt, None)
                if attempt is not None:
                    if action.attempt < winner(actions):
                        self.superseded(attempt.sub)
                    client.abandon(attempt)
            else:
                self._finish(code)

    def _start(self, start: Start) -> None:
        is_beside = self.method.is_hedged and (self.live or self.waiting is not None)
        if not is_beside:
            self.advance(start)
            return
        sub = self.try_pick_beside(start)
        if sub is None:
            self.perform(self.skipped(start, self.client.engine.now), Code.OK)
        else:
            self.client.tally.hedges += 1
            self.client.send(self, start, sub)

    def wake(self, at: int) -> None:
        """A timer has come that may have been replaced."""
        if not self.is_over and at == self._wakes_at:
            self.perform(self.woke(self.client.engine.now), Code.OK)

    def attempt_ended(self, attempt: Attempt, now: int) -> None:
        """An attempt has ended well."""
        self._take(attempt, self.succeeded(attempt.start, attempt.sub, now), Code.OK)

    def failed(self, attempt: Attempt, code: Code, now: int, *, is_refused: bool, is_lost: bool) -> None:
        """An attempt has ended otherwise."""
        limit = self.client.policy.call.attempt_timeout
        is_cut_off = (
            code is Code.DEADLINE_EXCEEDED
            and limit is not None
            and now - attempt.started_at >= limit
            and (not self.deadline or now < self.deadline)
        )
        if is_refused and not self.method.policy.is_strict:
            self.client.tally.unsent += 1
        actions = self.attempt_failed(
            *(attempt.start, attempt.sub, code, now),
            is_refused=is_refused,
            is_cut_off=is_cut_off,
            is_rescued=attempt is self.rescued,
            is_lost=is_lost,
            began_at=attempt.started_at,
        )
        self._take(attempt, actions, code)

    def _take(self, attempt: Attempt, actions: Sequence[Action], code: Code) -> None:
        if not (actions and isinstance(actions[-1], Finish)):
            self.live.pop(attempt.start.attempt, None)
        self.perform(actions, code)

    def leave(self, attempt: Attempt) -> bool:
        """Give up an attempt whose backend was found hung, and go elsewhere, if that may be."""
        if attempt.is_over or not self.rescue(attempt.start, attempt.sub, self.client.engine.now):
            return False
        self.rescued = attempt
        self.client.attempt_lost(attempt)
        return True

    def expire(self) -> None:
        """Its time is over."""
        if self.is_over:
            return
        if self.waiting is not None:
            self._finish(Code.DEADLINE_EXCEEDED)
        for attempt in tuple(self.live.values()):
            self.client.time_out(attempt)

    def _finish(self, code: Code) -> None:
        if not self.is_over:
            self.is_over = True
            # They know the call as well: no cycle is left for the garbage collector.
            self.live.clear()
            self._end_wait()
            self.client.call_over(self, code)


def rescue(attempts: Iterable[Attempt]) -> int:
    """Send those of these attempts elsewhere whose calls may go there, since the backend was found hung.

    Returns:
        How many calls that were.
    """
    return sum(_rescue(attempt, cast(CallMaker, attempt.client)) for attempt in tuple(attempts))


def end_all(attempts: Iterable[Attempt]) -> None:
    """End these attempts with UNAVAILABLE, since their backend's address has left the list for long enough."""
    for attempt in tuple(attempts):
        cast(CallMaker, attempt.client).attempt_lost(attempt)


def _rescue(attempt: Attempt, client: CallMaker) -> bool:
    if attempt.is_over or not client.policy.call.is_rescued:
        return False
    return (attempt.call or client.make_call(attempt)).leave(attempt)


def method_policy(failover: Failover | None, group: ClientGroup) -> MethodPolicy:
    """Return how the calls of a group of clients are made."""
    if failover is None:
        return MethodPolicy(CallPolicy(), None, group.wait_for_ready, False, 0)
    # What the failover itself says of all methods goes before the group's word.
    is_idempotent = failover.idempotent if isinstance(failover.idempotent, bool) else group.idempotent
    return MethodPolicy(call_policy(failover, is_idempotent), None, group.wait_for_ready, failover.strict, 0)
