"""When a subchannel's control connection is dialled, once it was lost.

A server may accept each connection and end it at once, as hundreds of times a second. So a connection that served
nothing counts as a failed attempt: the next one comes after the backoff, counted from the attempt on (gRPC's connection
backoff, which itself ends with the handshake). One has served when a status, an answer to a Check or a call's success
came since it was dialled. Who has served is dialled again at once, at a bounded rate; where a call has succeeded on it,
at any rate, for then the calls bound it: some servers end a connection after each call.

The one rule: while the backoff lasts, there is no connection; a Watch or a call upon one that is lost would dial again.
"""

from __future__ import annotations

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays, jittered
from healthlb.core.event_context import EventContext
from healthlb.core.messages import SECOND, Code, Connect, Disconnect, RaceConnection, Replace
from healthlb.core.random_streams import Draws
from healthlb.core.rate_limit import Rate
from healthlb.core.states import ConnectivityState
from healthlb.core.subchannel.dialling import DialBudget

NOTHING_SERVED = "connection closed before anything was served"
AT_ONCE, AT_ONCE_INTERVAL = 10, SECOND // 10
_CONNECTING, _READY = ConnectivityState.CONNECTING, ConnectivityState.READY
_FAILURE = ConnectivityState.TRANSIENT_FAILURE
# What a call may end with that never reached the server, or was never answered.
_NO_ANSWER = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.INTERNAL)


class Reconnecting:
    """The dials of one subchannel's control connection, from the first.

    Args:
        sub: the subchannel's number.
        policy: the backoff.
        rng: the stream for jitter.
        now: nanoseconds.
        budget: counts the dead addresses of the process.

    Attributes:
        is_waiting: whether there is no connection, until the timer "reconnect" is due.
        doubts: how many connections in a row have served nothing, from the first that counted as a failed attempt.
    """

    __slots__ = (
        "_backoff", "_begun_at", "_budget", "_dead_as", "_dialled_at", "_has_served", "_policy", "_rate", "_retried_at",
        "_rng", "_sub", "_unjudged_since", "doubts", "is_waiting",
    )  # fmt: skip

    def __init__(self, sub: int, policy: Backoff, rng: Draws, *, now: int, budget: DialBudget) -> None:
        self.is_waiting = False
        self.doubts = 0
        self._sub = sub
        self._policy = policy
        self._rng = rng
        self._backoff = BackoffDelays(policy, rng)
        self._rate = Rate(AT_ONCE, AT_ONCE_INTERVAL)
        # The backoff counts from the last dial. A success counts for the connection that is judged next from its own
        # dial on, or from that of the one before, where calls were under way on it as it was lost.
        self._dialled_at = self._begun_at = self._retried_at = now
        self._has_served = False
        self._unjudged_since = 0
        self._budget = budget
        self._dead_as: int | None = None

    def dialled(self, now: int) -> None:
        """An attempt begins."""
        self._dialled_at = self._begun_at = now
        self._has_served = False

    def follow(self, before: ConnectivityState, after: ConnectivityState, now: int) -> None:
        """See when the transport dials by itself: after a connection that was up, or an attempt that failed."""
        if before is _READY and after is _CONNECTING:
            self._dialled_at = now  # The transport may leave it at that: what was lost is judged yet.
        elif before is _CONNECTING and after is _FAILURE:
            self._begun_at, self._has_served = self._dialled_at, False
        elif before is _FAILURE and after in (_CONNECTING, _READY):
            self._retried_at = now  # It counts once it has come to something.

    def answered(self, code: Code = Code.OK) -> None:
        """The server has said something, or a call of the health service has ended so."""
        if code not in _NO_ANSWER:
            self._has_served, self.doubts = True, 0

    def alive(self, context: EventContext) -> None:
        """It is up, and has yet to serve."""
        self._has_served = False
        self._dialled_at = self._begun_at = max(self._dialled_at, self._retried_at)
        self.settled(context)
        self._count(None)

    def went_on(self, context: EventContext, *, is_failed: bool, is_known: bool) -> None:
        """It connects, or the attempt has failed; the transport makes the next one, unless too many are dead for that.

        Args:
            context: of the present event.
            is_failed: whether the attempt has failed.
            is_known: whether the address was connected before.
        """
        if self.is_waiting:
            return
        if not is_failed:
            self._pending(context)
            return
        self.settled(context)
        if (interval := self._stretched(is_known=is_known)) > self._policy.maximum_ns:
            self._give_up(context, context.now + jittered(interval, self._policy.jitter, self._rng))

    def _stretched(self, *, is_known: bool) -> int:
        """Count the address as dead; return the least time between two attempts at it."""
        self._count(0 if is_known else 1)
        return self._budget.interval(is_known=is_known)

    def _count(self, kind: int | None) -> None:
        if self._dead_as is not None:
            self._budget.dead[self._dead_as] -= 1
        if kind is not None:
            self._budget.dead[kind] += 1
        self._dead_as = kind

    def _give_up(self, context: EventContext, until: int) -> None:
        self.settled(context)
        self.is_waiting = True
        context.effects.append(Disconnect(self._sub))
        context.timers.set((self._sub, "reconnect", 0), until)

    def lost(self, context: EventContext, *, succeeded_at: int, in_flight: int, is_shared: bool) -> bool:
        """Dial again, now or later; True where the connection counts as a failed attempt.

        Args:
            context: of the present event.
            succeeded_at: when a call has last succeeded, in nanoseconds; 0 for never.
            in_flight: calls whose end is yet to be heard of.
            is_shared: whether the calls use this very connection.
        """
        has_succeeded = succeeded_at >= max(1, self._unjudged_since or self._begun_at)
        has_served = self._has_served or has_succeeded
        # A call's thread may tell of its success after the loss was heard of: the next loss shows it.
        is_unjudged = is_shared and in_flight > 0 and (has_succeeded or not self._unjudged_since)
        self._unjudged_since = self._begun_at if is_unjudged else 0
        due_at = context.now
        if not (has_served or is_unjudged):
            due_at = self._dialled_at + self._backoff.next()
        is_failed = due_at > context.now
        self.doubts = self.doubts + 1 if not has_served and (is_failed or self.doubts) else 0
        if is_failed:
            due_at = max(due_at, self._dialled_at + self._stretched(is_known=True))
        elif has_served or not is_unjudged:
            self._backoff.reset()
        if not (has_succeeded and is_shared):
            due_at = max(due_at, self._rate.next_at)
        self._dial(context, due_at)
        return is_failed

    def _dial(self, context: EventContext, at: int) -> None:
        if at <= context.now:
            self._rate.take(context.now)
            context.effects.append(Connect(self._sub))
            self.dialled(context.now)
        else:
            self._give_up(context, at)

    def due(self, context: EventContext) -> None:
        """The wait is over."""
        self.is_waiting = False
        self._rate.take(context.now)
        self.replace(context)

    def replace(self, context: EventContext) -> None:
        """Dial anew, on a fresh connection."""
        context.effects.append(Replace(self._sub))
        self.dialled(context.now)
        self._arm(context)

    # --- a race ------------------------------------------------------------------------------

    def _pending(self, context: EventContext) -> None:
        """It is connecting: have a fresh connection race it where that takes long."""
        if not context.timers.is_set((self._sub, "race", 0)):
            self._arm(context)

    def race_due(self, context: EventContext, *, is_known: bool) -> None:
        """Race a fresh connection against one whose handshake may be lost (TCP's own retries back off)."""
        interval = self._stretched(is_known=is_known)
        if interval <= self._policy.maximum_ns:
            context.effects.append(RaceConnection(self._sub))
            self.dialled(context.now)
        self._arm(context, interval)

    def _arm(self, context: EventContext, least: int = 0) -> None:
        delay = jittered(max(least, self._policy.maximum_ns), self._policy.jitter, self._rng)
        context.timers.set((self._sub, "race", 0), context.now + delay)

    def settled(self, context: EventContext) -> None:
        """It is up, or has failed: no race."""
        context.timers.cancel((self._sub, "race", 0))

    def stop(self, context: EventContext) -> None:
        """Dial no more."""
        self.alive(context)
        context.timers.cancel((self._sub, "reconnect", 0))
