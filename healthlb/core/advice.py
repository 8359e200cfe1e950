"""Reports probable mistakes of configuration as facts: each remedy once in the life of a channel.

A connection that was there before is lost for other reasons than a mistake, so its remedies are told in errors alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.core.event_context import EventContext
from healthlb.core.messages import Advice, Report
from healthlb.core.subchannel.machine import SubchannelMachine


class Adviser:
    """Reports an `Advice` for each remedy that is new to the channel."""

    def __init__(self) -> None:
        self._reported: set[str] = set()

    def settle(self, machines: Mapping[int, SubchannelMachine], context: EventContext) -> None:
        """Report the remedies of subchannels that have changed."""
        for sub in context.changed:
            machine = machines.get(sub)
            if machine is None or not machine.has_first_mistake or machine.remedy in self._reported:
                continue
            self._reported.add(machine.remedy)
            fact = Advice(context.now, sub, machine.endpoint.address, machine.reason, machine.remedy)
            context.effects.append(Report(fact))
