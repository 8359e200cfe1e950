"""When a subchannel's heartbeat is sent, and when its silence counts.

The one rule: any answer is a sign of life, a call's success as well as a Check's error status.

A server whose threads are all at work answers no Check, though it lives. So there is a second opinion
(`Heartbeat.ping`), by a method that nobody has registered: a server says UNIMPLEMENTED without a thread of its pool. It
is asked for soon where calls raise suspicion, and else where half of a Check's time is over. It takes no longer than
the Check, for that is when the backend must be out, unless another ping was answered while the Check was open:

    neither is answered     hung: out at once
    the ping alone          busy: it stays, as where a call has succeeded meanwhile
    the Check               alive, and healthy or not as it says

Where there is no Watch, the same Checks tell the health, too (`HealthCheck.watch`, `on_unimplemented="check"`). Then a
call's success postpones none of them, and they are sent though the heartbeat is off.
"""

from __future__ import annotations

from healthlb.config import Heartbeat
from healthlb.core.event_context import EventContext
from healthlb.core.messages import (
    SECOND,
    Code,
    SendCheck,
    SendPing,
)
from healthlb.core.random_streams import Draws
from healthlb.core.subchannel.dialling import Pace
from healthlb.core.subchannel.round_trip import RoundTrip
from healthlb.core.subchannel.silence import Silence, Trust

_GRID = SECOND // 4
_JITTER = 0.1
_SUSPICION_GAP = SECOND // 2


class HeartbeatMachine:
    """Sends one subchannel's Checks and pings, and says when they go unanswered.

    Args:
        sub: the subchannel's number.
        policy: interval and timeout.
        pace: shared with the other subchannels of the process.
        rng: the stream for jitter.

    Attributes:
        has_pong: whether the last ping since the last Check was answered.
        trust: whether the word of a Watch is enough to bring it back.
    """

    __slots__ = (
        "_check", "_interval", "_is_counted", "_is_open", "_pace", "_ping", "_ping_due", "_ping_silence", "_pinged_at",
        "_policy", "_rng", "_round_trip", "_sent_at", "_silence", "_since", "_sub", "_suspected_at", "_timeout",
        "_verdict_at", "has_pong", "trust",
    )  # fmt: skip

    def __init__(self, sub: int, policy: Heartbeat, pace: Pace, *, rng: Draws) -> None:
        self._sub, self._policy = sub, policy
        self._interval, self._timeout = policy.interval_ns, policy.timeout_ns
        self._pace, self._rng = pace, rng
        self._check = self._since = 0
        self._suspected_at = -_SUSPICION_GAP
        self._is_open = self._is_counted = self.has_pong = False
        self._ping = self._pinged_at = self._sent_at = self._verdict_at = 0
        self._ping_due: int | None = None
        self._round_trip = RoundTrip(policy.timeout_ns)
        self._silence, self._ping_silence = Silence(), Silence()
        self.trust = Trust()

    def count(self) -> None:
        """Take a share of the process's Checks."""
        self._pace.members += not self._is_counted
        self._is_counted = True

    def forget(self) -> None:
        """Give the share back."""
        self._pace.members -= self._is_counted
        self._is_counted = False

    def start(self, context: EventContext) -> None:
        """The connection is READY; the first Check comes at any time within the interval."""
        self._since = context.now
        self._arm(context, self._next_at(context.now, jitter=1.0))

    def stop(self, context: EventContext) -> None:
        """The connection is gone; what its Check still says is ignored."""
        self._is_open = False
        self._check += 1
        self._forget_ping(context)
        for key in (("heartbeat", 0), ("heartbeat", 1), ("check", 0)):
            context.timers.cancel((self._sub, *key))

    def due(self, seen_at: int, context: EventContext, *, is_polling: bool = False) -> bool:
        """Send a Check, unless a call has succeeded of late (True); where Checks tell the health, in any case."""
        if self._is_open:  # the answer of the one that is under way will do
            return False
        if not is_polling and seen_at > self._since and (next_at := self._next_at(seen_at)) > context.now:
            self._since = seen_at
            self._arm(context, next_at)
            return True
        self._send(context)
        return False

    def learn(self, took: int) -> None:
        """Take in that an answer of the health service took so long (ns)."""
        self._round_trip.answered(took)

    def suspect(self, context: EventContext) -> None:
        """A call got no answer in time: ask now, or soon where the last Check is fresh."""
        if self._is_open and (self._ping_due is not None or not self._policy.ping):
            return
        at = self._suspected_at + _SUSPICION_GAP
        if at <= context.now:
            self.suspicion_due(context)
        else:
            context.timers.set((self._sub, "heartbeat", 1), at)

    def suspicion_due(self, context: EventContext) -> None:
        """The wait since the last suspicion is over."""
        self._suspected_at = context.now
        timeout = self._round_trip.timeout
        if self._is_open:  # and late by now
            self._send_ping(timeout if self.has_pong else min(timeout, self._rest(context)), context)
            return
        self._send(context)
        if self._policy.ping:
            # A backend that is well answers the Check before it is sent a ping.
            self._verdict_at = context.now + timeout
            context.timers.set((self._sub, "ping", 0), context.now + timeout // 4)

    def ended(self, check: int, code: Code, context: EventContext) -> bool:
        """Take in how a Check ended; True where nothing answered."""
        if not self.is_present(check):
            return False
        is_silent = code is Code.DEADLINE_EXCEEDED
        if is_silent and self._ping_due is not None and self._ping_due > context.now:
            context.timers.set((self._sub, "check", 0), self._ping_due)  # The ping may still be answered.
            return False
        if is_silent:
            self._silence.begin()
        else:
            self._round_trip.answered(context.now - self._sent_at)
        self._is_open, self._since = False, context.now
        self._forget_ping(context)
        context.timers.cancel((self._sub, "check", 0))
        self._arm(context, self._next_at(context.now))
        return is_silent

    # --- the second opinion ----------------------------------------------------------------------

    def ping_due(self, context: EventContext) -> None:
        """The Check is late: ask for a second opinion, which has the rest of its time."""
        self._send_ping(self._rest(context), context)

    def _rest(self, context: EventContext) -> int:
        # Most of what is usual at least, where the client itself is late.
        return max(self._verdict_at - context.now, self._round_trip.least_timeout)

    def _send_ping(self, timeout: int, context: EventContext) -> None:
        if self._ping_due is not None:
            return
        self._ping += 1
        self._pinged_at = context.now
        self._ping_due = context.now + timeout
        self.has_pong = False
        context.timers.cancel((self._sub, "ping", 0))
        context.timers.set((self._sub, "ping", 1), self._ping_due)
        context.effects.append(SendPing(self._sub, self._ping, timeout))

    def ping_ended(self, code: Code, context: EventContext) -> bool:
        """Take in how the ping ended that is under way; True where nothing answered, be it this or the Check."""
        if code is Code.DEADLINE_EXCEEDED:
            return self.ping_timed_out(context)
        self._round_trip.answered(context.now - self._pinged_at)
        self._forget_ping(context)
        self.has_pong = True
        self._ask_late(context)
        return False

    def ping_timed_out(self, context: EventContext) -> bool:
        """The core's own timer for the ping; True, since the Check is not answered either."""
        self._ping_due = None
        self._ping_silence.begin()
        return self.ended(self._check, Code.DEADLINE_EXCEEDED, context)

    def is_alive(self, seen_at: int, context: EventContext) -> bool:
        """Whether a ping was answered since the Check was sent that is not, or a call has succeeded (`seen_at`)."""
        if seen_at > self._sent_at:  # The promise is one of time since the last sign of life.
            self._arm(context, self._next_at(seen_at))
        return self.has_pong or seen_at > self._sent_at

    def _ask_late(self, context: EventContext) -> None:
        # It has half of a Check's time, which costs none, or else most of what is usual.
        self._verdict_at = self._sent_at + self._timeout
        at = self._verdict_at - max(self._timeout - self._timeout // 2, self._round_trip.least_timeout)
        if self._policy.ping and at > context.now:
            context.timers.set((self._sub, "ping", 0), at)

    def _forget_ping(self, context: EventContext) -> None:
        self._ping_due = None
        context.timers.cancel((self._sub, "ping", 0), (self._sub, "ping", 1))

    def is_present(self, check: int) -> bool:
        """Whether this is the number of the Check that is under way."""
        return self._is_open and check == self._check

    def is_ping_present(self, ping: int) -> bool:
        """Whether this is the number of the ping that is under way."""
        return self._ping_due is not None and ping == self._ping

    def check_answered(self, context: EventContext) -> bool:
        """The Check that is under way has been answered; True where that ends a silence."""
        return self._silence.answered(context.now - self._sent_at)

    def ping_answered(self, context: EventContext) -> bool:
        """The ping that is under way has been answered; True where that ends a silence."""
        return self._ping_silence.answered(context.now - self._pinged_at)

    def ask_again(self, delay: int, context: EventContext) -> None:
        """Send the next Check after `delay` (ns), if that is before the interval is over."""
        if delay < self._pace.interval(self._interval):
            self._arm(context, context.now + delay)

    def timed_out(self, context: EventContext) -> bool:
        """The core's own timer for the Check; True where nothing answered."""
        return self.ended(self._check, Code.DEADLINE_EXCEEDED, context)

    def _send(self, context: EventContext) -> None:
        self.count()
        self._check += 1
        self._is_open = True
        self._sent_at = context.now
        self.has_pong = False
        self._ask_late(context)
        context.timers.cancel((self._sub, "heartbeat", 0), (self._sub, "heartbeat", 1))
        context.timers.set((self._sub, "check", 0), context.now + self._timeout)
        context.effects.append(SendCheck(self._sub, self._check, self._timeout))

    def _arm(self, context: EventContext, at: int) -> None:
        # The grid rounds down, to before now too; and a timer seen late is taken for a stall.
        context.timers.set((self._sub, "heartbeat", 0), max(context.now, at))

    def _next_at(self, since: int, jitter: float = _JITTER) -> int:
        # Jitter only shortens, so that interval + timeout stays a promise; times on a grid
        # share a wake-up, since 1,000 single ones cost 15 % of a core.
        interval = self._pace.interval(self._interval)
        at = since + round(interval * (1 - jitter * self._rng.random()))
        grid = _GRID * min(4, max(1, interval // (40 * _GRID)))
        return at - at % min(grid, interval // 8)
