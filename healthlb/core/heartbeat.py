"""When a subchannel's heartbeat is sent, and when its silence counts.

The one rule: any answer is a sign of life, a call's success as well as a Check's error status.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from healthlb.config import Heartbeat
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code, ConnectivityState, SendCheck
from healthlb.core.streams import Streams
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.turn import Turn

_GRID = SECOND // 4
_JITTER = 0.1
_PER_SECOND = 19  # of full intervals: jitter shortens them, to 20 a second
_SUSPICION_GAP = SECOND // 2
# What a timer of a busy event loop may be late by.
_PUNCTUAL = SECOND // 100


class Pace:
    """How many subchannels share the process's 20 heartbeats a second.

    Attributes:
        members: subchannels, over all channels that share this object.
    """

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members = 0

    def interval(self, interval: int) -> int:
        """Return `interval` (ns), stretched where there are too many members for it."""
        return max(interval, self.members * SECOND // _PER_SECOND)


class HeartbeatMachine:
    """Asks one subchannel for a sign of life.

    Args:
        sub: the subchannel's number.
        policy: interval and timeout.
        pace: shared with the other subchannels of the process.
        rng: the stream for jitter.
    """

    __slots__ = (
        "_check", "_due_at", "_is_open", "_is_waited_for", "_pace", "_policy", "_rng", "_since", "_sub",
        "_suspected_at",
    )  # fmt: skip

    def __init__(self, sub: int, policy: Heartbeat, pace: Pace, rng: random.Random) -> None:
        self._sub = sub
        self._policy = policy
        self._pace = pace
        self._rng = rng
        self._check = 0
        self._due_at = 0
        self._is_waited_for = False
        self._since = 0
        self._suspected_at = -_SUSPICION_GAP
        self._is_open = False

    def start(self, turn: Turn) -> None:
        """The connection is READY; the first Check comes at any time within the interval."""
        self._since = turn.now
        self._arm(turn, self._next_at(turn.now, jitter=1.0))

    def stop(self, turn: Turn) -> None:
        """The connection is gone; what its Check still says is ignored."""
        self._is_open = False
        self._check += 1
        for key in (("heartbeat", 0), ("heartbeat", 1), ("check", 0)):
            turn.timers.cancel((self._sub, *key))

    def due(self, handle: Subchannel | None, turn: Turn) -> None:
        """Send a Check, unless a call has succeeded of late."""
        seen_at = handle.load.last_success_at if handle else 0
        if seen_at > self._since and (next_at := self._next_at(seen_at)) > turn.now:
            self._since = seen_at
            self._arm(turn, next_at)
        else:
            self._send(turn)

    def suspect(self, turn: Turn) -> None:
        """A call got no answer in time: ask now, or soon where the last Check is fresh."""
        if self._is_open:
            return
        at = self._suspected_at + _SUSPICION_GAP
        if at <= turn.now:
            self.suspicion_due(turn)
        else:
            turn.timers.set((self._sub, "heartbeat", 1), at)

    def suspicion_due(self, turn: Turn) -> None:
        """The wait since the last suspicion is over; no Check is open then."""
        self._suspected_at = turn.now
        self._send(turn)

    def ended(self, check: int, code: Code, turn: Turn) -> bool:
        """Take in how a Check ended; True where nothing answered."""
        if not self._is_open or check != self._check:
            return False
        self._is_open = False
        self._since = turn.now
        turn.timers.cancel((self._sub, "check", 0))
        self._arm(turn, self._next_at(turn.now))
        return code is Code.DEADLINE_EXCEEDED

    def timed_out(self, turn: Turn) -> bool:
        """The core's own timer for the Check; True where nothing answered."""
        late = turn.now - self._due_at
        if late > _PUNCTUAL and not self._is_waited_for:
            # Not the backend but this client stood still, and the answer may lie behind the timer.
            self._is_waited_for = True
            turn.timers.set((self._sub, "check", 0), turn.now + min(late, self._policy.timeout_ns))
            return False
        return self.ended(self._check, Code.DEADLINE_EXCEEDED, turn)

    def _send(self, turn: Turn) -> None:
        self._check += 1
        self._is_open = True
        self._is_waited_for = False
        self._due_at = turn.now + self._policy.timeout_ns
        turn.timers.cancel((self._sub, "heartbeat", 0))
        turn.timers.cancel((self._sub, "heartbeat", 1))
        turn.timers.set((self._sub, "check", 0), self._due_at)
        turn.effects.append(SendCheck(self._sub, self._check, self._policy.timeout_ns))

    def _arm(self, turn: Turn, at: int) -> None:
        turn.timers.set((self._sub, "heartbeat", 0), at)

    def _next_at(self, since: int, jitter: float = _JITTER) -> int:
        # Jitter only shortens, so that interval + timeout stays a promise; times on a grid
        # share a wake-up, since 1,000 single ones cost 15 % of a core.
        interval = self._pace.interval(self._policy.interval_ns)
        at = since + round(interval * (1 - jitter * self._rng.random()))
        grid = _GRID * min(4, max(1, interval // (40 * _GRID)))
        return at - at % min(grid, interval // 8)


class Heartbeats:
    """The heartbeats of a channel's subchannels.

    Args:
        policy: None for no heartbeats.
        pace: shared with other channels.
        streams: where the jitter comes from.
    """

    def __init__(self, policy: Heartbeat | None, pace: Pace, streams: Streams) -> None:
        self._policy = policy
        self._pace = pace
        self._streams = streams
        self._machines: dict[int, HeartbeatMachine] = {}

    def __len__(self) -> int:
        return len(self._machines)

    def add(self, sub: int) -> None:
        """A subchannel was added."""
        if self._policy is not None:
            rng = self._streams.stream("heartbeat", sub)
            self._machines[sub] = HeartbeatMachine(sub, self._policy, self._pace, rng)
            self._pace.members += 1

    def remove(self, sub: int, turn: Turn) -> None:
        """A subchannel was removed."""
        self.stop(sub, turn)
        if self._machines.pop(sub, None) is not None:
            self._pace.members -= 1

    def start(self, sub: int, turn: Turn) -> None:
        """A subchannel's connection is READY."""
        if sub in self._machines:
            self._machines[sub].start(turn)

    def stop(self, sub: int, turn: Turn) -> None:
        """A subchannel's connection is gone."""
        if sub in self._machines:
            self._machines[sub].stop(turn)

    def suspect(self, sub: int, turn: Turn) -> None:
        """A call on a subchannel got no answer in time."""
        if sub in self._machines:
            self._machines[sub].suspect(turn)

    def ended(self, sub: int, check: int, code: Code, turn: Turn) -> bool:
        """Take in how a Check ended; True where nothing answered."""
        return sub in self._machines and self._machines[sub].ended(check, code, turn)

    def due(self, sub: int, kind: str, number: int, handle: Subchannel | None, turn: Turn) -> bool:
        """A timer of a subchannel's heartbeat is due; True where nothing answered."""
        machine = self._machines[sub]
        if kind == "check":
            return machine.timed_out(turn)
        if number:
            machine.suspicion_due(turn)
        else:
            machine.due(handle, turn)
        return False


def may_exclude(machine: SubchannelMachine, machines: Collection[SubchannelMachine]) -> bool:
    """Whether silence may take a subchannel out of `machines`.

    A fleet whose worker pools are full must not go out one by one: half stays, and so does the last READY one.
    """
    ready = ConnectivityState.READY
    if machine.concluded_state is not ready:
        return True
    others = [other for other in machines if other is not machine]
    silent = sum(other.is_silent for other in others)
    return any(other.concluded_state is ready for other in others) and 2 * (silent + 1) <= len(machines) + 1
