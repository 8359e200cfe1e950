"""Overload protection: which calls a cap refuses, with which status, and how refusals are reported.

The one rule: a cap costs calls nothing while it is not reached. A full subchannel is noticed where the call is
counted in, and only then is another one looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from healthlb.config.overload import NO_CAPS, Overload
from healthlb.core.event_context import EventContext, TimerKey
from healthlb.core.load import CallLimiter, Subchannel
from healthlb.core.messages import SECOND, CallsRefused, Code, Fail, Overflow, Report
from healthlb.core.pickers import CallInfo
from healthlb.core.pickers.checked import FailedPick
from healthlb.core.snapshot import Snapshot

MAX_WAITING = "max_waiting"
MAX_WAIT = "max_wait"
MAX_IN_FLIGHT = "max_in_flight"
MAX_IN_FLIGHT_EACH = "max_in_flight_per_subchannel"

_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        MAX_WAITING: "too many calls wait",
        MAX_WAIT: "no subchannel for too long",
        MAX_IN_FLIGHT: "too many calls in flight",
        MAX_IN_FLIGHT_EACH: "too many calls in flight on each subchannel",
    }
)
_UNITS: Mapping[str, str] = MappingProxyType({MAX_WAIT: " s"})
# Other threads may take the room that one has just seen.
_TRIES = 3
_REPORT_INTERVAL = SECOND
_TIMER: TimerKey = (0, "overflow", 0)


class Admission:
    """What a channel's calls and its balancer share: the caps, and the counts.

    Args:
        policy: the caps, None for none.

    Attributes:
        policy: the caps.
        limiter: the counts.
    """

    def __init__(self, policy: Overload | None) -> None:
        self.policy = policy or NO_CAPS
        self.limiter = CallLimiter(
            self.policy.max_waiting, self.policy.max_in_flight, self.policy.max_in_flight_per_subchannel
        )

    def refusal(self, cap: str, snapshot: Snapshot) -> Fail:
        """Return the status of a call that this cap refuses."""
        limit = f"{cap}={getattr(self.policy, cap):g}{_UNITS.get(cap, '')}"
        has_waited = cap in (MAX_WAIT, MAX_WAITING)
        return Fail(Code.RESOURCE_EXHAUSTED, f"{_TEXTS[cap]} ({limit}): {snapshot.describe(has_waited=has_waited)}")

    def pick(self, snapshot: Snapshot, call: CallInfo) -> Subchannel | str:
        """Pick for a call whose first choice was full.

        Returns:
            A subchannel that the call is counted in on, or a `FailedPick`; else the cap that keeps it out, "" where the
            choice was not full but gone, and the next snapshot has to say more.
        """
        for _ in range(_TRIES):
            if self.limiter.is_full:
                return MAX_IN_FLIGHT
            full = frozenset(sub.id for sub in snapshot.ready if sub.load.is_full)
            sub = snapshot.picker.pick(call._replace(exclude=full | call.exclude))
            if sub is not None and sub.id in full and call.exclude:
                # All that are left were tried by this call; better those than none.
                sub = snapshot.picker.pick(call._replace(exclude=full))
            if sub is None or sub.id in full:
                return MAX_IN_FLIGHT_EACH
            if sub.load.start() or isinstance(sub, FailedPick):
                return sub
            if sub.load.is_retired:
                return ""
        return MAX_IN_FLIGHT_EACH


class Overflows:
    """Reports refused calls, once a second at most.

    Args:
        policy: the caps.
    """

    def __init__(self, policy: Overload) -> None:
        self._policy = policy
        self._unreported: dict[str, int] = {}

    def refused(self, event: CallsRefused, context: EventContext) -> None:
        """Take in that a cap has refused calls."""
        self._unreported[event.cap] = self._unreported.get(event.cap, 0) + event.calls
        if not context.timers.is_set(_TIMER):
            self.due(context)

    def due(self, context: EventContext) -> None:
        """Report those that have not been reported."""
        unreported, self._unreported = self._unreported, {}
        for cap, calls in unreported.items():
            context.effects.append(Report(Overflow(context.now, cap, getattr(self._policy, cap), calls)))
        if unreported:
            context.timers.set(_TIMER, context.now + _REPORT_INTERVAL)

    def stop(self, context: EventContext) -> None:
        """Report the last ones: the channel is being closed."""
        self.due(context)
        context.timers.cancel(_TIMER)
