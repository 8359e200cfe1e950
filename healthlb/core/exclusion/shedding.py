"""Which part of the calls is refused since some subchannels hang, and the fact that tells of it.

The calls themselves are refused by a picker, see `healthlb.core.call.load_shedding`.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from healthlb.core.event_context import EventContext
from healthlb.core.load import CallLimiter
from healthlb.core.messages import LoadShedding, Report
from healthlb.core.shedding import Shedding
from healthlb.core.subchannel.eligibility import is_hung
from healthlb.core.subchannel.machine import SubchannelMachine


def silent_share(machines: Collection[SubchannelMachine]) -> float:
    """Return the part of the calls that those had which are out since they hang."""
    return sum(machine.call_share for machine in machines if machine.is_silent)


class Shedder:
    """Says which part of the calls is refused from now on.

    Args:
        limiter: shared with the calls, which are told.
        dice: decides which calls these are.
    """

    def __init__(self, limiter: CallLimiter, dice: random.Random) -> None:
        self._limiter = limiter
        self._draw = dice.random
        self._before = 0

    @property
    def is_on(self) -> bool:
        """Whether calls are refused."""
        return self._limiter.shedding is not None

    def refuse(self, share: float, machines: Collection[SubchannelMachine], context: EventContext) -> None:
        """Refuse this part of the calls from now on, 0 for none.

        It is told when this begins or ends, and when other subchannels hang; the part itself changes each second.
        """
        limiter, old = self._limiter, self._limiter.shedding
        if not share and old is None:
            return
        hung = sum(is_hung(machine) for machine in machines)
        now = Shedding(hung, len(machines), share, self._draw) if share else None
        if now == old:
            return
        if old is None:
            self._before = limiter.shed
        limiter.shedding = now
        context.is_changed = True
        if old is None or now is None or (now.hung, now.total) != (old.hung, old.total):
            calls = limiter.shed - self._before
            context.effects.append(Report(LoadShedding(context.now, now is None, hung, len(machines), share, calls)))
