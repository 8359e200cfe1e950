"""Rescue: calls in flight on a backend that was found hung are sent elsewhere, where they may be.

The one rule: which call may leave is its own plan's to say (`CallPlan.rescue`); here it is said from where.
"""

from __future__ import annotations

from healthlb.core.messages import CallsRescued, Report, Rescue, RescueCalls
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.turn import Turn


def rescue_calls(machine: SubchannelMachine, turn: Turn) -> None:
    """Have calls sent elsewhere that are in flight on any retired connection of a subchannel that was found hung."""
    handles = machine.draining.values()
    turn.effects += [RescueCalls(handle) for handle in handles if handle.load.in_flight]


def report(machine: SubchannelMachine, event: CallsRescued, turn: Turn) -> None:
    """Tell how many were."""
    turn.effects.append(Report(Rescue(turn.now, machine.id, machine.endpoint.address, event.calls)))
