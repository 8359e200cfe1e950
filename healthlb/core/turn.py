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
    """

    now: int
    timers: Timers[TimerKey]
    tally: Counter[ConnectivityState] = field(default_factory=Counter)
    effects: list[Effect] = field(default_factory=list)
    is_changed: bool = False
