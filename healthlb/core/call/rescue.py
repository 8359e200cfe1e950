"""Rescue: calls in flight on a backend that was found hung are sent elsewhere.

The one rule: here it is said from which subchannel. Whether a call may leave is decided by its own plan
(`CallPlan.rescue`).
"""

from __future__ import annotations

from healthlb.core.event_context import EventContext
from healthlb.core.messages import CallsRescued, Report, Rescue, RescueCalls
from healthlb.core.subchannel.machine import SubchannelMachine


def rescue_calls(machine: SubchannelMachine, context: EventContext) -> None:
    """Ask for calls to be sent elsewhere that are in flight on any connection of a subchannel that was found hung."""
    handles = machine.draining.values()
    context.effects += [RescueCalls(handle) for handle in handles if handle.load.in_flight]


def report(machine: SubchannelMachine, event: CallsRescued, context: EventContext) -> None:
    """Report the fact that calls were sent elsewhere."""
    context.effects.append(Report(Rescue(context.now, machine.id, machine.endpoint.address, event.calls)))
