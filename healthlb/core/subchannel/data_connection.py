"""Whether a subchannel's connection for calls is up, and when the next one is made."""

from __future__ import annotations

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays
from healthlb.core.event_context import EventContext
from healthlb.core.load import Subchannel
from healthlb.core.messages import PrepareData, RefreshData
from healthlb.core.random_streams import Draws
from healthlb.core.subchannel.reconnecting import NOTHING_SERVED

# Calls without any answer for this long get a fresh connection, then less and less often.
_REFRESH = Backoff(initial=5.0, jitter=0.0)


class Refreshes:
    """Says when a subchannel gets a fresh connection for calls because calls on the present one go unanswered.

    The heartbeat does not see this: it uses the control connection, which may work while the one for calls is cut off.

    Args:
        rng: the random stream for jitter.
    """

    __slots__ = ("_delays", "_due_at", "_since")

    def __init__(self, rng: Draws) -> None:
        self._delays = BackoffDelays(_REFRESH, rng)
        self._since = 0
        self._due_at = 0

    def is_due(self, last_success_at: int, now: int) -> bool:
        """Take in that a call got no answer in time. True if a fresh connection is to be made."""
        is_first = last_success_at >= self._since
        if is_first:
            self._since = now
            self._delays.reset()
        elif now < self._due_at:
            return False
        self._due_at = now + self._delays.next()
        return not is_first


class DataConnection:
    """The connection for calls of one subchannel, while its control connection is up.

    A connection that served nothing counts as a failed attempt: the next one is made after the backoff, counted from
    the start of the attempt.

    Args:
        sub: the subchannel's id.
        policy: the backoff.
        rng: the random stream for jitter.

    Attributes:
        is_ready: whether calls may use it.
        is_failed: whether the last attempt has failed.
        reason: why calls may not use it; for error texts.
    """

    __slots__ = ("_asked_at", "_backoff", "_refreshes", "_sub", "is_failed", "is_ready", "reason")

    def __init__(self, sub: int, policy: Backoff, rng: Draws) -> None:
        self.is_ready = self.is_failed = False
        self.reason = ""
        self._sub = sub
        self._backoff = BackoffDelays(policy, rng)
        self._refreshes = Refreshes(rng)
        self._asked_at = 0

    def begin(self, context: EventContext) -> None:
        """Ask for a connection for calls: the control connection is up."""
        self.reason = "waiting for a connection for calls"
        self._backoff.reset()
        self.ask(context)

    def ask(self, context: EventContext) -> None:
        """Ask for a connection; the present one will do if it is still up."""
        self._asked_at = context.now
        context.effects.append(PrepareData(self._sub))

    def end(self, context: EventContext) -> None:
        """Stop: the control connection is gone."""
        self.is_ready = self.is_failed = False
        context.timers.cancel((self._sub, "data", 0))

    def ready(self, context: EventContext) -> None:
        """Take in that the connection is up."""
        self.is_ready, self.is_failed = True, False
        context.timers.cancel((self._sub, "data", 0))

    def failed(self, reason: str, context: EventContext) -> None:
        """Take in that no connection could be made."""
        self._retry(f"no connection for calls: {reason}", context.now + self._backoff.next(), context)

    def refused(self, handle: Subchannel, context: EventContext) -> None:
        """Ask for another connection because calls found this one down; at once if it had served or lasted."""
        self.is_ready = False
        self.reason = "connection for calls lost"
        if not handle.load.last_success_at:
            due_at = self._asked_at + self._backoff.next()
            if due_at > context.now:
                self._retry(NOTHING_SERVED, due_at, context)
                return
        self._backoff.reset()
        self.ask(context)

    def _retry(self, reason: str, at: int, context: EventContext) -> None:
        self.is_failed = True
        self.reason = reason
        context.timers.set((self._sub, "data", 0), at)

    def suspected(self, handle: Subchannel, context: EventContext) -> None:
        """Take in that calls got no answer in time. If none gets one for a while, a fresh connection is made."""
        if self._refreshes.is_due(handle.load.last_success_at, context.now):
            context.effects.append(RefreshData(self._sub))
