"""When the resolver is asked again.

The one rule: a resolver that failed is asked after its own backoff, whatever connections do meanwhile.
"""

from __future__ import annotations

from healthlb.config import Backoff
from healthlb.core.backoff import BackoffDelays
from healthlb.core.messages import Report, ResolutionFailure, ResolveNow
from healthlb.core.streams import Streams
from healthlb.core.turn import TimerKey, Turn

_RETRY: TimerKey = (0, "resolve", 0)  # No subchannel has the number 0.


class Resolution:
    """The balancer's dealings with its resolver.

    Attributes:
        error: what the resolver last said went wrong, or "".
    """

    def __init__(self, streams: Streams) -> None:
        self.error = ""
        self._backoff = BackoffDelays(Backoff(), streams.stream("resolver"))

    def succeeded(self, turn: Turn) -> None:
        """Take in that there is a list."""
        self.error = ""
        self._backoff.reset()
        self.stop(turn)

    def failed(self, error: str, turn: Turn) -> None:
        """Take in that there is none, and ask again later."""
        self.error = error
        turn.is_changed = True
        turn.effects.append(Report(ResolutionFailure(turn.now, error)))
        turn.timers.set(_RETRY, turn.now + self._backoff.next())

    def ask_soon(self, turn: Turn) -> None:
        """Have the resolver look again, as a connection was lost; one that failed is asked in its own time."""
        if not turn.timers.is_set(_RETRY):
            turn.effects.append(ResolveNow())

    def stop(self, turn: Turn) -> None:
        """Ask no more."""
        turn.timers.cancel(_RETRY)
