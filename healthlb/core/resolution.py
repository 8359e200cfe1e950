"""What the resolver's lists mean, and when it is asked again.

A list costs connections. So lists that differ from the one before are followed at once up to a burst, and then at a
bounded rate, the newest in the place of the others; and of a list beyond all measure a part is used.

The one rule: a resolver that failed is asked after its own backoff, whatever connections do meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from healthlb.config import Backoff, Subset
from healthlb.core.backoff import BackoffDelays
from healthlb.core.event_context import EventContext, TimerKey
from healthlb.core.exclusion.subset import choose
from healthlb.core.messages import SECOND, Endpoint, Report, ResolutionFailure, ResolveNow, TooManyAddresses
from healthlb.core.random_streams import Streams
from healthlb.core.rate_limit import Rate
from healthlb.core.subchannel.machine import SubchannelMachine

# Seconds, for resolvers that do not say how often they look.
LONGEST_WAIT = 30.0

MOST_ADDRESSES = 10_000
LISTS_AT_ONCE, LIST_INTERVAL = 10, SECOND // 2
FAILURES_AT_ONCE, FAILURE_INTERVAL = 10, SECOND

_RETRY: TimerKey = (0, "resolve", 0)  # No subchannel has the number 0.
_FOLLOW: TimerKey = (0, "list", 0)


class Resolution:
    """Follows the resolver's lists, and says when it is asked again.

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
        self._waiting: Sequence[Endpoint] = ()
        self._followed = Rate(LISTS_AT_ONCE, LIST_INTERVAL)
        self._given = 0
        self._failures = 0
        self._reported = Rate(FAILURES_AT_ONCE, FAILURE_INTERVAL)
        self._size = MOST_ADDRESSES if subset is None else min(subset.size, MOST_ADDRESSES)
        self._is_subset = subset is not None
        seed = None if subset is None else subset.seed
        self._seed = streams.stream("subset").getrandbits(63) if seed is None else seed
        policy = Backoff()
        # With its jitter no delay is longer: a service that was scaled to zero and back is found within the interval.
        longest = longest_wait / (1 + policy.jitter)
        policy = replace(policy, initial=min(policy.initial, longest), maximum=longest)
        self._backoff = BackoffDelays(policy, streams.late("resolver"))

    def resolved(self, endpoints: Sequence[Endpoint], context: EventContext) -> Mapping[str, Endpoint]:
        """Return the endpoints to use by address, the first of equal ones; none where there is nothing to do."""
        if not endpoints:
            self.failed("the resolver returned no addresses", context)
            return {}
        had_error, self.error = bool(self.error), ""
        self._heard_at = context.now
        self._backoff.reset()
        self.stop(context)
        return self._follow(endpoints, context, had_error=had_error)

    def _follow(
        self, endpoints: Sequence[Endpoint], context: EventContext, *, had_error: bool
    ) -> Mapping[str, Endpoint]:
        self._waiting = ()
        wanted: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            wanted.setdefault(endpoint.address, endpoint)
        given = len(wanted)
        if given > self._size:
            chosen = choose(tuple(wanted.values()), self._size, self._seed)
            wanted = {endpoint.address: endpoint for endpoint in chosen}
        if self._wanted == (listed := tuple(wanted.values())) and not had_error:
            return {}
        if not self._followed.take(context.now):
            self._waiting = endpoints
            context.is_changed |= had_error
            context.timers.set(_FOLLOW, self._followed.next_at)
            return {}
        self._wanted = listed
        if given > self._size:
            self._report_length(given, context)
        return wanted

    def due(self, context: EventContext) -> Mapping[str, Endpoint]:
        """Return the endpoints of a list whose time has come; the resolver may have failed since."""
        return self._follow(self._waiting, context, had_error=False)

    def _report_length(self, given: int, context: EventContext) -> None:
        """Report a list, as it is followed, that is longer than a channel can use, once for each length.

        A subset is not reported.
        """
        if not self._is_subset and given != self._given:
            self._given = given
            context.effects.append(Report(TooManyAddresses(context.now, given, self._size)))

    def failed(self, error: str, context: EventContext) -> None:
        """Take in that the resolver gave no list, and ask again later.

        A report that comes too soon after others is left out; the next one counts it.
        """
        age = None if self._heard_at is None else context.now - self._heard_at
        self.error = error
        self.list_age = age
        context.is_changed = True
        self._failures += 1
        if self._reported.take(context.now):
            context.effects.append(Report(ResolutionFailure(context.now, error, age, self._failures)))
            self._failures = 0
        context.timers.set(_RETRY, context.now + self._backoff.next())

    def ask_soon(self, context: EventContext) -> None:
        """Have the resolver look again, as a connection was lost; one that failed is asked in its own time."""
        if not context.timers.is_set(_RETRY):
            context.effects.append(ResolveNow())

    def stop(self, context: EventContext) -> None:
        """Ask no more, and follow no list that waits."""
        context.timers.cancel(_RETRY)
        context.timers.cancel(_FOLLOW)


class KeptAddresses:
    """Keeps healthy addresses in use for a while after the resolver has dropped them.

    Theory: a DNS server with many addresses answers with a few of them, different ones each time. To drop the missing
    ones would cost a connection each, and all that is known about them. While the health service says SERVING on a
    connection that is up, it is better evidence than the list (Envoy keeps such hosts, too). So they stay in rotation
    for `keep` seconds; an address that is listed again in that time was never dropped. Only healthy subchannels are
    kept, and only while they are healthy.

    Args:
        keep: for how many seconds after the first list without it an address is kept; 0 for none.

    Attributes:
        kept: the numbers of the subchannels that are kept.
    """

    def __init__(self, keep: float) -> None:
        self._keep = round(keep * SECOND)
        self.kept: dict[int, None] = {}

    def merge(
        self, wanted: Mapping[str, Endpoint], machines: Mapping[int, SubchannelMachine], context: EventContext
    ) -> Mapping[str, Endpoint]:
        """Return the endpoints of a new list, followed by those that are kept."""
        merged = dict(wanted)
        for sub, machine in machines.items():
            address = machine.endpoint.address
            if address in wanted:
                self.forget(sub, context)
            elif self._keep and machine.is_healthy:
                merged[address] = machine.endpoint
                if sub not in self.kept:
                    self.kept[sub] = None
                    context.timers.set((sub, "keep", 0), context.now + self._keep)
        return merged

    def ended(self, machines: Mapping[int, SubchannelMachine]) -> list[str]:
        """Return the addresses that were kept and are no longer healthy."""
        return [machines[sub].endpoint.address for sub in self.kept if not machines[sub].is_healthy]

    def forget(self, sub: int, context: EventContext) -> None:
        """Forget a subchannel that is listed again, or removed."""
        self.kept.pop(sub, None)
        context.timers.cancel((sub, "keep", 0))
