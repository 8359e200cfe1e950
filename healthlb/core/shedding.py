"""Which part of the calls is refused while some subchannels hang and the others have too much to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shedding:
    """What is published while calls are refused. Each call is drawn by itself: whatever is counted falls in step with
    programs that make calls of several kinds in turn, and would refuse all of one kind.

    Attributes:
        hung: how many of the channel's subchannels hang.
        total: how many subchannels the channel has.
        share: the part of the calls that is refused, more than 0 and at most 1.
        draw: returns the next number of a random stream, at least 0 and less than 1; called from any thread.
    """

    hung: int
    total: int
    share: float
    draw: Callable[[], float] = field(repr=False, compare=False)
