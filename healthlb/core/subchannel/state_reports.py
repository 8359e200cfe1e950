"""Reports of state changes, limited so that a flapping backend does not fill logs and queues.

Changes are reported one by one up to a burst, then at a bounded rate: one report stands for all since the last one.
"""

from __future__ import annotations

from healthlb.core.event_context import EventContext
from healthlb.core.messages import SECOND, ConnectivityState, Report, StateChange
from healthlb.core.rate_limit import Rate

REPORTED_AT_ONCE, REPORT_INTERVAL = 100, SECOND


class StateReports:
    """The reports of one subchannel.

    Args:
        sub: its id.
        state: the state that it begins in.
    """

    def __init__(self, sub: int, state: ConnectivityState) -> None:
        self._sub = sub
        self._reported = state
        self._changes = 0
        self._rate = Rate(REPORTED_AT_ONCE, REPORT_INTERVAL)

    def changed(self, address: str, new: ConnectivityState, reason: str, context: EventContext) -> None:
        """Report a change; if too many were reported of late, leave it to the timer "changes"."""
        self._changes += 1
        if self._changes == 1 and self._rate.take(context.now):
            self._report(address, new, reason, context)
        else:
            context.timers.set((self._sub, "changes", 0), self._rate.next_at)

    def due(self, address: str, state: ConnectivityState, reason: str, context: EventContext) -> None:
        """Report the changes that wait, as one."""
        self._rate.take(context.now)
        self._report(address, state, reason, context)

    def _report(self, address: str, new: ConnectivityState, reason: str, context: EventContext) -> None:
        old, changes = self._reported, self._changes
        self._reported, self._changes = new, 0
        context.effects.append(Report(StateChange(context.now, self._sub, address, old, new, reason, changes)))
