"""One `handle` of the balancer in progress."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from healthlb.core.messages import ConnectivityState, Effect
from healthlb.core.timers import Timers

TimerKey = tuple[int, str, int]


@dataclass(slots=True)
class Turn:
    """When it is, what it asks for so far, and what it has changed.

    Attributes:
        tally: how many subchannels are in which concluded state.
        is_changed: whether there is something new to publish.
        is_reweighted: whether pickers must be built anew though their subchannels are the same.
        changed: subchannels of which something is new, maybe more than once.
        flaps: subchannels whose good health has ended, once for each time.
        late: those that became READY in a channel that serves already.
    """

    now: int
    timers: Timers[TimerKey]
    tally: Counter[ConnectivityState] = field(default_factory=Counter)
    effects: list[Effect] = field(default_factory=list)
    is_changed: bool = False
    is_reweighted: bool = False
    changed: list[int] = field(default_factory=list)
    flaps: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
