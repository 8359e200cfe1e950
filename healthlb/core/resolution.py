"""What the resolver's lists mean, and when it is asked again.

The one rule: a resolver that failed is asked after its own backoff, whatever connections do meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from healthlb.config import Backoff, Subset
from healthlb.core.backoff import BackoffDelays
from healthlb.core.messages import Endpoint, Report, ResolutionFailure, ResolveNow
from healthlb.core.streams import Streams
from healthlb.core.subset import choose
from healthlb.core.turn import TimerKey, Turn

# Seconds, for resolvers that do not say how often they look.
LONGEST_WAIT = 30.0

_RETRY: TimerKey = (0, "resolve", 0)  # No subchannel has the number 0.


class Resolution:
    """The balancer's dealings with its resolver.

    Args:
        streams: where jitter, and the seed of a subset that has none, come from.
        subset: how many endpoints are used, None for all.
        longest_wait: seconds in which a resolver that failed is asked again at the latest.

    Attributes:
        error: what the resolver last said went wrong, or "".
        list_age: how old the list was then that stays, in nanoseconds, None where there was none.
    """

    def __init__(self, streams: Streams, subset: Subset | None, longest_wait: float = LONGEST_WAIT) -> None:
        self.error = ""
        self.list_age: int | None = None
        self._heard_at: int | None = None
        self._wanted: tuple[Endpoint, ...] = ()
        self._subset = subset
        self._seed = 0
        if subset is not None:
            self._seed = streams.stream("subset").getrandbits(63) if subset.seed is None else subset.seed
        policy = Backoff()
        # With its jitter no delay is longer: a service that was scaled to zero and back is found within the interval.
        longest = longest_wait / (1 + policy.jitter)
        policy = replace(policy, initial=min(policy.initial, longest), maximum=longest)
        self._backoff = BackoffDelays(policy, streams.stream("resolver"))

    def resolved(self, endpoints: Sequence[Endpoint], turn: Turn) -> Mapping[str, Endpoint]:
        """Return the endpoints to use by address, the first of equal ones; none where there is nothing to do."""
        if not endpoints:
            self.failed("the resolver returned no addresses", turn)
            return {}
        had_error, self.error = bool(self.error), ""
        self._heard_at = turn.now
        self._backoff.reset()
        self.stop(turn)
        wanted: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            wanted.setdefault(endpoint.address, endpoint)
        if self._subset is not None:
            chosen = choose(tuple(wanted.values()), self._subset.size, self._seed)
            wanted = {endpoint.address: endpoint for endpoint in chosen}
        before, self._wanted = self._wanted, tuple(wanted.values())
        return {} if before == self._wanted and not had_error else wanted

    def failed(self, error: str, turn: Turn) -> None:
        """Take in that there is none, and ask again later."""
        age = None if self._heard_at is None else turn.now - self._heard_at
        self.error = error
        self.list_age = age
        turn.is_changed = True
        turn.effects.append(Report(ResolutionFailure(turn.now, error, age)))
        turn.timers.set(_RETRY, turn.now + self._backoff.next())

    def ask_soon(self, turn: Turn) -> None:
        """Have the resolver look again, as a connection was lost; one that failed is asked in its own time."""
        if not turn.timers.is_set(_RETRY):
            turn.effects.append(ResolveNow())

    def stop(self, turn: Turn) -> None:
        """Ask no more."""
        turn.timers.cancel(_RETRY)
