"""Which part of the calls is refused since some subchannels hang, and the fact that tells of it.

The calls themselves are refused by a picker, see `healthlb.core.call.load_shedding`.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from healthlb.core.event_context import Turn
from healthlb.core.load import Crowd
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
        crowd: the channel's calls, which are told.
        dice: decides which calls these are.
    """

    def __init__(self, crowd: Crowd, dice: random.Random) -> None:
        self._crowd = crowd
        self._draw = dice.random

    @property
    def is_on(self) -> bool:
        """Whether calls are refused."""
        return self._crowd.shedding is not None

    def refuse(self, share: float, machines: Collection[SubchannelMachine], turn: Turn) -> None:
        """Refuse this part of the calls from now on, 0 for none, and tell where that is news."""
        crowd = self._crowd
        if not share and crowd.shedding is None:
            return
        hung = sum(is_hung(machine) for machine in machines)
        now = Shedding(hung, len(machines), share, self._draw) if share else None
        if now == crowd.shedding:
            return
        if crowd.shedding is None:
            crowd.shed = 0
        crowd.shedding = now
        turn.is_changed = True
        fact = LoadShedding(turn.now, now is None, hung, len(machines), share, crowd.shed)
        turn.effects.append(Report(fact))
