"""What the resolver's lists mean, and when it is asked again.

The one rule: a resolver that failed is asked after its own backoff, whatever connections do meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from healthlb.config import Backoff, Subset
from healthlb.core.backoff import BackoffDelays
from healthlb.core.messages import Endpoint, Report, ResolutionFailure, ResolveNow
from healthlb.core.streams import Streams
from healthlb.core.subset import choose
from healthlb.core.turn import TimerKey, Turn

_RETRY: TimerKey = (0, "resolve", 0)  # No subchannel has the number 0.


class Resolution:
    """The balancer's dealings with its resolver.

    Args:
        streams: where jitter, and the seed of a subset that has none, come from.
        subset: how many endpoints are used, None for all.

    Attributes:
        error: what the resolver last said went wrong, or "".
    """

    def __init__(self, streams: Streams, subset: Subset | None) -> None:
        self.error = ""
        self._subset = subset
        self._seed = 0
        if subset is not None:
            self._seed = streams.stream("subset").getrandbits(63) if subset.seed is None else subset.seed
        self._backoff = BackoffDelays(Backoff(), streams.stream("resolver"))

    def resolved(self, endpoints: Sequence[Endpoint], turn: Turn) -> Mapping[str, Endpoint]:
        """Return the endpoints to use by address, the first of equal ones; none where the list was empty."""
        if not endpoints:
            self.failed("the resolver returned no addresses", turn)
            return {}
        self.error = ""
        self._backoff.reset()
        self.stop(turn)
        wanted: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            wanted.setdefault(endpoint.address, endpoint)
        if self._subset is None:
            return wanted
        chosen = choose(tuple(wanted.values()), self._subset.size, self._seed)
        return {endpoint.address: endpoint for endpoint in chosen}

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
