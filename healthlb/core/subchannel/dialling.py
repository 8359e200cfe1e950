"""How many addresses a process dials, so that a list of dead ones costs little and hides none that is well.

Two rules share the process's means among its channels. New addresses enter a channel as fast as their first attempts
end, so many at a time; an attempt without an answer gives way after a moment, and goes on. The moment is a tenth as
long while a channel has nobody who is READY: the one that is well may be behind hundreds that say nothing. Addresses
that have failed are dialled again less often the more of them there are; those that were connected before come first,
since their interval grows with their own number alone.

An address that has yet to enter has no subchannel; while there are such addresses, a channel is CONNECTING at worst.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from healthlb.core.event_context import EventContext, TimerKey
from healthlb.core.messages import SECOND, ConnectivityState, Endpoint
from healthlb.core.subchannel.watch_restart import WatchStarts

AT_A_TIME = 100
_LEAST = 5  # for each channel, however many there are
_MOMENT = SECOND
_SHORT_MOMENT = SECOND // 10  # So a thousand are dialled a second at most.
_PER_SECOND = 9  # of full intervals: jitter shortens them, to 10 a second
_LOOK = SECOND // 20
_REDIALS_PER_SECOND = 50
_TIMER: TimerKey = (0, "entry", 0)  # No subchannel has the number 0.


class DialBudget:
    """Counts the first attempts under way, and the addresses that wait, over the channels of a process.

    Attributes:
        waiting: channels with addresses that have yet to enter.
        queued: these addresses.
        dead: addresses whose last attempt has failed: those that were connected before, and the others.
        watches: when the Watches begin on what is connected.
    """

    __slots__ = ("_channels", "_counts", "_slots", "dead", "queued", "waiting", "watches")

    def __init__(self) -> None:
        self._channels = 0
        self.waiting = 0
        self.queued = 0
        self.dead = [0, 0]
        self.watches = WatchStarts()
        # By channel and subchannel, since when (ns), in the order of these times.
        self._slots: dict[tuple[int, int], int] = {}
        self._counts: Counter[int] = Counter()

    def join(self) -> int:
        """Return a number for a channel."""
        self._channels += 1
        return self._channels

    def room(self, channel: int, now: int, *, has_ready: bool) -> int:
        """Return how many more addresses a channel may dial now, which has somebody who is READY or not."""
        for slot, since in list(self._slots.items()):
            if since + _SHORT_MOMENT > now:
                break
            if since + _MOMENT <= now or (slot[0] == channel and not has_ready):
                self.give_back(*slot)
        mine = self._counts[channel]
        share = max(_LEAST, AT_A_TIME // max(1, self.waiting))
        return max(0, _LEAST - mine, min(share - mine, AT_A_TIME - len(self._slots)))

    def take(self, channel: int, sub: int, now: int) -> None:
        """Count a first attempt in."""
        self._slots[channel, sub] = now
        self._counts[channel] += 1

    def give_back(self, channel: int, sub: int) -> None:
        """Count a first attempt out: it has ended, or lasted for so long that others may begin."""
        if self._slots.pop((channel, sub), None) is not None:
            self._counts[channel] -= 1
            if not self._counts[channel]:
                del self._counts[channel]

    def interval(self, *, is_known: bool) -> int:
        """Return the least time between two attempts at a dead address, in nanoseconds.

        Args:
            is_known: whether it was connected before.
        """
        known, others = self.dead
        return (known if is_known else known + others) * SECOND // _REDIALS_PER_SECOND


class _Waiting(NamedTuple):
    """An address that has yet to enter, and whether it came later than the channel's first list."""

    endpoint: Endpoint
    is_late: bool


class Entrance:
    """The addresses of one channel that have yet to enter it.

    Args:
        budget: shared with the other channels of the process.

    Attributes:
        queue: those that wait.
    """

    def __init__(self, budget: DialBudget) -> None:
        self.budget = budget
        self._channel = budget.join()
        self.queue: deque[_Waiting] = deque()

    def wanted(self, endpoints: Iterable[Endpoint], *, is_late: bool) -> None:
        """Have these addresses enter, and none of those that have waited so far."""
        # Who waits since the list before is no later than it was.
        known = {waiting.endpoint.address: waiting.is_late for waiting in self.queue}
        queue = deque(_Waiting(one, known.get(one.address, is_late)) for one in endpoints)
        self._count(len(queue))
        self.queue = queue

    def take(self, context: EventContext) -> list[_Waiting]:
        """Return those that may enter now."""
        room = self.budget.room(self._channel, context.now, has_ready=context.tally[ConnectivityState.READY] > 0)
        self._count(max(0, len(self.queue) - room))
        if room < len(self.queue):
            # From both ends in turn: lists are often sorted by age, and then the dead ones are together.
            entering = [self.queue.pop() if number % 2 else self.queue.popleft() for number in range(room)]
        else:
            entering = [*self.queue]
            self.queue.clear()
        if self.queue:
            context.timers.set(_TIMER, context.now + _LOOK)
        else:
            context.timers.cancel(_TIMER)
        return entering

    def _count(self, count: int) -> None:
        """Note how many addresses wait from now on."""
        self.budget.queued += count - len(self.queue)
        self.budget.waiting += bool(count) - bool(self.queue)

    def entered(self, sub: int, now: int) -> None:
        """Note that a subchannel is dialled for the first time."""
        self.budget.take(self._channel, sub, now)

    def connection_is(self, sub: int, state: ConnectivityState) -> None:
        """Note the state of a subchannel's connection: others may enter once its first attempt has ended."""
        if state is not ConnectivityState.CONNECTING:
            self.budget.give_back(self._channel, sub)

    def forget(self, sub: int, context: EventContext) -> None:
        """Note that a subchannel was removed."""
        self.budget.give_back(self._channel, sub)

    def stop(self, context: EventContext) -> None:
        """Drop the addresses that wait."""
        self.wanted((), is_late=False)
        context.timers.cancel(_TIMER)


class Pace:
    """How many subchannels share the process's 10 heartbeats a second, and its dials.

    Attributes:
        members: subchannels, over all channels that share this object.
        dials: shared by these channels, too.
    """

    __slots__ = ("dials", "members")

    def __init__(self) -> None:
        self.members = 0
        self.dials = DialBudget()

    def interval(self, interval: int) -> int:
        """Return `interval` (ns), stretched where there are too many members for it."""
        # Those that have yet to enter will be members soon.
        return max(interval, (self.members + self.dials.queued) * SECOND // _PER_SECOND)
