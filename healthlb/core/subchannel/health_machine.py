"""The health of one subchannel's present connection: runs the table of `healthlb.core.subchannel.health`.

The one rule: the table says where to go; what there is to be done about it is here, and whether calls flow is not.
"""

from __future__ import annotations

from healthlb.config import HealthCheck
from healthlb.core.event_context import EventContext, HealthTimer
from healthlb.core.messages import SECOND, CheckEnded, Code, ServingStatus, StartWatch, StopWatch
from healthlb.core.random_streams import Draws
from healthlb.core.remedies import of_health, of_serving
from healthlb.core.states import serving_name
from healthlb.core.subchannel import health
from healthlb.core.subchannel.health import Action, Phase, Signal
from healthlb.core.subchannel.status_flood import StatusFlow
from healthlb.core.subchannel.watch_restart import WatchBackoff, WatchStarts


class Streak:
    """Counts equal statuses in a row on the present connection (`HealthCheck.rise`, `HealthCheck.fall`).

    Theory: a checker that polls counts answers. A Watch reports changes only, so a status that stands is not sent
    again. But while the stream lives, no message means no change. So a status counts once when it arrives, and once
    more for each `HealthCheck.confirm_interval` for which it stands.

    Only statuses of one connection count together, and the first one on a connection is believed at once. The end of a
    Watch starts the count anew.

    Args:
        rise: how many SERVING in a row make an unhealthy subchannel healthy; at least 1.
        fall: how many others in a row make a healthy one unhealthy; at least 1.
    """

    __slots__ = ("_count", "_fall", "_has_word", "_is_serving", "_rise")

    def __init__(self, rise: int, fall: int) -> None:
        self._rise = rise
        self._fall = fall
        self.forget()

    def forget(self) -> None:
        """Start anew: the connection is gone."""
        self._has_word = False
        self.interrupt()

    def interrupt(self) -> None:
        """Start the count anew: the Watch has ended."""
        self._is_serving = False
        self._count = 0

    def said(self, is_serving: bool, is_healthy: bool) -> Signal:
        """Take in a status, or that it still stands; return the signal for the table.

        Args:
            is_serving: whether it is SERVING.
            is_healthy: whether the subchannel has counted as healthy so far.
        """
        is_same = is_serving is self._is_serving
        self._is_serving = is_serving
        self._count = self._count + 1 if is_same else 1
        is_first, self._has_word = not self._has_word, True
        is_enough = is_first or is_serving is is_healthy or self._count >= self.needed
        if is_serving:
            return Signal.SERVING if is_enough else Signal.RISING
        return Signal.OTHER if is_enough else Signal.FALLING

    @property
    def needed(self) -> int:
        """How long the streak must be."""
        return self._rise if self._is_serving else self._fall

    @property
    def progress(self) -> str:
        """How long the streak is, of how many, in words."""
        return f"{self._count} of {self.needed}"


_RENEWAL = 2 * SECOND
_SPREAD = SECOND // 2
# By then it is known whether a GOAWAY came with a connection's first bytes. C-core (1.85.3) tries a call that begins
# before that again and again, for as long as the call lasts, and takes 200 MB a second. A client that gets no processor
# knows it later; so the time doubles with each connection in a row that served nothing.
_DOUBT = SECOND // 50
_LONGEST_DOUBT = SECOND // 2
# What a server says of the service by ending the Watch. All other codes are of the stream or what it went through.
_WORDS = (Code.NOT_FOUND, Code.UNIMPLEMENTED)


class HealthMachine:
    """Follows the Watches of one subchannel, or its Checks where there is no Watch.

    Args:
        sub: the subchannel's number.
        policy: how its health is followed.
        service: the service name asked for, None for no health checking.
        rng: the stream for jitter.
        starts: when Watches begin; shared with the other subchannels of the process.

    Attributes:
        phase: where the health of the present connection stands.
        is_healthy: whether calls may go there, as far as health is concerned; this follows from the phase.
        is_unhealthy: whether the server is known not to be healthy; while nothing is known, both are False.
        reason: why, in words.
        remedy: what to do about it, "" where nothing is known.
        serving: the last status on this connection, None where none was heard.
        is_polling: whether Checks are asked for the health, since there is no Watch.
        next_check: nanoseconds from the end of a Check to the next one, None for the heartbeat's interval.
        is_busy: whether the server is alive, and too busy to answer a Check.
        flow: the statuses that arrive, and which are followed.
        took: nanoseconds that the present Watch took for its first word, None before that and once it was read.
        revivals: how many times a Check or a ping was answered after one that was not, on all connections.
    """

    def __init__(self, sub: int, policy: HealthCheck, service: str | None, *, rng: Draws, starts: WatchStarts) -> None:
        self.phase = Phase.DISCONNECTED
        self.is_healthy = self.is_unhealthy = False
        self.reason = self.remedy = ""
        self.serving: int | None = None
        self.is_polling = False
        self.next_check: int | None = None
        self.is_busy = False
        self.took: int | None = None
        self.revivals = 0
        self._sub = sub
        self._policy = policy
        self._service = service
        self._backoff = WatchBackoff(policy, rng)
        self._starts = starts
        self.flow = StatusFlow(sub, policy.backoff.jitter, rng)
        self._streak = Streak(policy.rise, policy.fall)
        self._watch = 0
        self._started_at = self._stands_until = 0
        self._has_answered = False
        self._end = ""
        self._rng = rng

    @property
    def full_reason(self) -> str:
        """The reason, and that the server is busy where it is."""
        return f"{self.reason}, busy" if self.is_busy else self.reason

    def connected(self, context: EventContext, *, doubts: int = 0) -> None:
        """The connection is READY: begin, a moment later where so many in a row have served nothing."""
        if doubts:
            # No more doublings than reach the longest: thousands would make a huge number.
            context.timers.set((self._sub, "doubt", 0), context.now + min(_DOUBT << min(doubts - 1, 5), _LONGEST_DOUBT))
        else:
            self._connected(context)

    def _connected(self, context: EventContext) -> None:
        self.reason = "connected" if self._service is None else "waiting for the first health status"
        self.remedy = ""
        self._backoff.connected()
        if self._service is None:
            self._signal(Signal.CONNECTED_UNCHECKED, context)
        elif self._policy.watch:
            self._start_in_turn(context)
        else:
            self._poll(Signal.POLLED, context)

    def disconnected(self, context: EventContext) -> None:
        """The connection is gone, and what was said on it (gRFC A17)."""
        self._signal(Signal.LOST, context)
        self.is_polling = self.is_busy = False
        self._streak.forget()
        self.flow.forget(context)
        self.serving = None
        for kind in ("doubt", "response", "retry", "renewal", "start"):
            context.timers.cancel((self._sub, kind, 0))

    def is_present(self, watch: int) -> bool:
        """Whether this is the number of the Watch that is open."""
        return watch == self._watch and self.phase in health.STREAMING and not self.is_polling

    def reported(self, status: int, context: EventContext) -> None:
        """A status arrived."""
        context.timers.cancel((self._sub, "response", 0))
        context.timers.cancel((self._sub, "renewal", 0))
        if not self._has_answered:
            self._has_answered = True
            self.took = context.now - self._started_at
            self._backoff.answered()
        is_too_much = self.flow.is_too_much(context.now)
        if self.flow.is_followed(status, context):
            self._follow(status, context)
        if is_too_much:
            self._pause(context)

    def _follow(self, status: int, context: EventContext) -> None:
        self.serving = status
        self._said(status, context)

    def _catch_up(self, context: EventContext) -> None:
        """Follow the status that waits, if there is one."""
        status = self.flow.take(context)
        if status is not None:
            self._follow(status, context)

    def _pause(self, context: EventContext) -> None:
        """End the Watch for a while, since it says too much; its newest status stands meanwhile."""
        self._catch_up(context)
        self._end = "too many statuses"
        self._signal(Signal.FLOODED, context)
        self._streak.interrupt()
        if self.phase is Phase.RENEWING:
            self._stand_until(context.now + self._renewal, context)
        self.reason += f", and watched again: {self._end}"

    def _said(self, status: int, context: EventContext, reason: str = "") -> None:
        self._signal(self._streak.said(status == ServingStatus.SERVING, self.is_healthy), context)
        self.reason = reason or serving_name(status)
        self.remedy = of_serving(status, self._service or "")
        if self.phase in health.PENDING:
            self.reason += f", {self._streak.progress} in a row"
            if self.is_polling:
                self.next_check = self._policy.confirm_interval_ns
                return
            context.timers.set((self._sub, "confirm", 0), context.now + self._policy.confirm_interval_ns)

    def closed(self, code: Code, details: str, context: EventContext) -> None:
        """The Watch ended."""
        self._catch_up(context)
        context.timers.cancel((self._sub, "response", 0))
        self._streak.interrupt()
        if self.phase in health.RENEWABLE and code not in _WORDS:
            self._interrupted(_ended("watch", code, details), context)
            return
        context.timers.cancel((self._sub, "renewal", 0))
        if code is not Code.UNIMPLEMENTED:
            self._signal(Signal.ENDED, context)
            self.reason = _ended("watch", code, details)
            self.remedy = of_health(code, details, self._service or "", is_polling=False)
        elif self._policy.on_unimplemented == "check":
            self.serving = None
            self.reason, self.remedy = "waiting for the first health status", ""
            self._streak.forget()
            self._poll(Signal.WATCHLESS, context)
        else:
            self._give_up(details, context)

    def _interrupted(self, end: str, context: EventContext) -> None:
        """The Watch ended, which says nothing of the server: the last status stands while the next one begins."""
        if not context.timers.is_set((self._sub, "renewal", 0)):
            self._stand_until(context.now + self._renewal, context)
        self._signal(Signal.INTERRUPTED, context)
        self._end = end
        self.reason = f"SERVING, and watched again: {end}"

    def _stand_until(self, until: int, context: EventContext) -> None:
        """Have the last status stand so long at most while there is no Watch that says more."""
        self._stands_until = until
        context.timers.set((self._sub, "renewal", 0), until)

    @property
    def _renewal(self) -> int:
        """Nanoseconds from the end of a Watch that leave a subchannel in."""
        return min(max(_RENEWAL, 2 * self._policy.min_restart_interval_ns), self._policy.first_response_timeout_ns)

    def _soon(self, now: int) -> int:
        """Return when the next Watch begins that leaves time for its first status, in nanoseconds.

        Watches that began together end together, as by a proxy's limit; so those that follow are spread out.
        """
        lasted = now - self._started_at if self._has_answered else 0
        spread = min(_SPREAD, self._policy.backoff.jitter * lasted / 4) * self._rng.random()
        most = max(self._renewal // 2, self._policy.min_restart_interval_ns)
        return now + min(self._backoff.delay(lasted) + round(spread), most)

    def _give_up(self, details: str, context: EventContext) -> None:
        """The server has no health service; the next connection is asked again."""
        is_healthy = self._policy.on_unimplemented != "unhealthy"
        self._signal(Signal.UNIMPLEMENTED if is_healthy else Signal.UNSUPPORTED, context)
        self.is_polling = False
        self.serving = None
        self.reason = "no health service"
        self.remedy = of_health(Code.UNIMPLEMENTED, details, self._service or "", is_polling=False)

    def _poll(self, signal: Signal, context: EventContext) -> None:
        """Ask Check from now on: at once, and then at the heartbeat's pace."""
        self._signal(signal, context)
        self.is_polling = True
        self.next_check = None
        context.timers.set((self._sub, "heartbeat", 0), context.now)

    def checked(self, event: CheckEnded, context: EventContext) -> None:
        """A Check ended that was asked for the health; see `_check_failed` for errors."""
        self.next_check = None
        match event.code:
            case Code.UNIMPLEMENTED:
                self._give_up(event.details, context)
            case Code.OK | Code.NOT_FOUND:
                self._backoff.answered()
                # Check says NOT_FOUND where Watch says SERVICE_UNKNOWN.
                is_known = event.code is Code.OK
                self.serving = event.status or 0 if is_known else ServingStatus.SERVICE_UNKNOWN
                self._said(self.serving, context)
            case _:
                self._check_failed(event, context)

    def _check_failed(self, event: CheckEnded, context: EventContext) -> None:
        """An error is an answer that is not SERVING, and the next Check comes after the backoff.

        But a server that is full (RESOURCE_EXHAUSTED) is not ill for that: to take it out would only shift its load to
        the others. And a Check that the client could not send says nothing of the server.
        """
        retry_after = self._backoff.delay(None)
        is_full = event.code is Code.RESOURCE_EXHAUSTED and self.serving == ServingStatus.SERVING
        if not is_full and not (event.is_unsent and self.serving is not None):
            self.serving = None
            self._said(ServingStatus.UNKNOWN, context, _ended("check", event.code, event.details))
            self.remedy = of_health(event.code, event.details, self._service or "", is_polling=True)
        self.next_check = min(self.next_check or retry_after, retry_after)

    def due(self, kind: HealthTimer, context: EventContext) -> None:
        """A timer is due: "doubt", "response", "renewal", "retry", "start", "status" or "confirm"."""
        match kind:
            case "doubt":
                self._connected(context)
            case "response" | "renewal":  # the Watch has said nothing for too long
                is_open = self.phase is not Phase.RENEWING
                for other in ("response", "renewal"):
                    context.timers.cancel((self._sub, other, 0))
                self._signal(Signal.NO_RESPONSE, context)
                self.reason, self.remedy = "no health response" if is_open else self._end, ""
            case "retry":
                self._start_in_turn(context)
            case "start":
                self._begin(context)
            case "status":
                self._catch_up(context)
            case _:  # the status still stands, which is as good as said again
                assert self.serving is not None
                self._said(self.serving, context)

    def _signal(self, signal: Signal, context: EventContext) -> None:
        entry = health.TABLE.get((self.phase, signal))
        if entry is None:
            return
        self.phase, action = entry
        self.is_healthy, self.is_unhealthy = self.phase in health.HEALTHY, self.phase in health.UNHEALTHY
        if self.phase not in health.PENDING:
            context.timers.cancel((self._sub, "confirm", 0))
        if action in health.STOPPING and not self.is_polling:
            context.effects.append(StopWatch(self._sub, self._watch))
        if action in (Action.RETRY_LATER, Action.STOP_AND_RETRY_LATER):
            lasted = context.now - self._started_at if self._has_answered else None
            context.timers.set((self._sub, "retry", 0), context.now + self._backoff.delay(lasted))
        elif action is Action.RETRY_SOON:
            context.timers.set((self._sub, "retry", 0), self._soon(context.now))
        elif action is Action.STOP_AND_PAUSE:
            context.timers.set((self._sub, "retry", 0), self.flow.resumes_at(context.now))
        elif action is Action.START_WATCH:
            self._start(context)

    def _start_in_turn(self, context: EventContext) -> None:
        """Begin the Watch now, or as soon as those are begun that were there before."""
        at = self._starts.reserve(context.now)
        if at <= context.now:
            self._begin(context)
            return
        context.timers.set((self._sub, "start", 0), at)
        # The wait is the client's own: the last status stands for as much longer.
        if context.timers.is_set((self._sub, "renewal", 0)):
            self._stand_until(self._stands_until + at - context.now, context)

    def _begin(self, context: EventContext) -> None:
        self._signal(Signal.CONNECTED if self.phase is Phase.DISCONNECTED else Signal.DUE, context)

    def _start(self, context: EventContext) -> None:
        assert self._service is not None
        self._watch += 1
        self._started_at = context.now
        self._has_answered = False
        context.effects.append(StartWatch(self._sub, self._watch, self._service))
        context.timers.set((self._sub, "response", 0), context.now + self._policy.first_response_timeout_ns)


def _ended(what: str, code: Code, details: str) -> str:
    text = f"health {what} ended with {code.name}"
    return f"{text}: {details}" if details else text
