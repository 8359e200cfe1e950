"""When a subchannel's heartbeat is sent, and when its silence counts.

The one rule: any answer is a sign of life, a call's success as well as a Check's error status.

A server whose threads are all at work answers no Check, though it lives. So there is a second opinion
(`Heartbeat.ping`), by a method that nobody has registered: a server says UNIMPLEMENTED without a thread of its pool. It
is asked for soon where calls raise suspicion, and else where half of a Check's time is over:

    neither is answered     hung: out at once
    the ping alone          busy: it stays
    the Check               alive, and healthy or not as it says

Where there is no Watch, the same Checks tell the health, too (`HealthCheck.watch`, `on_unimplemented="check"`). Then a
call's success postpones none of them, and they are sent though the heartbeat is off.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping

from healthlb.config import Heartbeat
from healthlb.core.load import Subchannel
from healthlb.core.messages import (
    SECOND,
    BusyBackend,
    CheckEnded,
    Code,
    ConnectivityState,
    HealthReported,
    HeartbeatLoss,
    PingEnded,
    Report,
    SendCheck,
    SendPing,
)
from healthlb.core.round_trip import RoundTrip
from healthlb.core.streams import Streams
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.suspicion import Suspicion
from healthlb.core.turn import Turn

_GRID = SECOND // 4
_JITTER = 0.1
_PER_SECOND = 19  # of full intervals: jitter shortens them, to 20 a second
_SUSPICION_GAP = SECOND // 2


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

    Attributes:
        has_pong: whether the last ping since the last Check was answered.
    """

    __slots__ = (
        "_check", "_is_counted", "_is_open", "_pace", "_ping", "_ping_due", "_pinged_at", "_policy", "_rng",
        "_round_trip", "_sent_at", "_since", "_sub", "_suspected_at", "_verdict_at", "has_pong",
    )  # fmt: skip

    def __init__(self, sub: int, policy: Heartbeat, pace: Pace, rng: random.Random) -> None:
        self._sub = sub
        self._policy = policy
        self._pace = pace
        self._rng = rng
        self._check = 0
        self._since = 0
        self._suspected_at = -_SUSPICION_GAP
        self._is_open = False
        self._is_counted = False
        self._ping = self._pinged_at = self._sent_at = self._verdict_at = 0
        self._ping_due: int | None = None
        self.has_pong = False
        self._round_trip = RoundTrip(policy.timeout_ns)

    def count(self) -> None:
        """Take a share of the process's Checks."""
        self._pace.members += not self._is_counted
        self._is_counted = True

    def forget(self) -> None:
        """Give the share back."""
        self._pace.members -= self._is_counted
        self._is_counted = False

    def start(self, turn: Turn) -> None:
        """The connection is READY; the first Check comes at any time within the interval."""
        self._since = turn.now
        self._arm(turn, self._next_at(turn.now, jitter=1.0))

    def stop(self, turn: Turn) -> None:
        """The connection is gone; what its Check still says is ignored."""
        self._is_open = False
        self._check += 1
        self._forget_ping(turn)
        for key in (("heartbeat", 0), ("heartbeat", 1), ("check", 0)):
            turn.timers.cancel((self._sub, *key))

    def due(self, handle: Subchannel | None, turn: Turn, *, is_polling: bool = False) -> bool:
        """Send a Check, unless a call has succeeded of late (True); where Checks tell the health, in any case."""
        if self._is_open:  # the answer of the one that is under way will do
            return False
        seen_at = handle.load.last_success_at if handle and not is_polling else 0
        if seen_at > self._since and (next_at := self._next_at(seen_at)) > turn.now:
            self._since = seen_at
            self._arm(turn, next_at)
            return True
        self._send(turn)
        return False

    def learn(self, took: int) -> None:
        """Take in that an answer of the health service took so long (ns)."""
        self._round_trip.answered(took)

    def suspect(self, turn: Turn) -> None:
        """A call got no answer in time: ask now, or soon where the last Check is fresh."""
        if self._is_open and (self._ping_due is not None or not self._policy.ping):
            return
        at = self._suspected_at + _SUSPICION_GAP
        if at <= turn.now:
            self.suspicion_due(turn)
        else:
            turn.timers.set((self._sub, "heartbeat", 1), at)

    def suspicion_due(self, turn: Turn) -> None:
        """The wait since the last suspicion is over."""
        self._suspected_at = turn.now
        timeout = self._round_trip.timeout
        if self._is_open:  # and late by now
            self._send_ping(timeout, turn)
            return
        self._send(turn)
        if self._policy.ping:
            # A backend that is well answers the Check before it is sent a ping.
            self._verdict_at = turn.now + timeout
            turn.timers.set((self._sub, "ping", 0), turn.now + timeout // 4)

    def ended(self, check: int, code: Code, turn: Turn) -> bool:
        """Take in how a Check ended; True where nothing answered."""
        if not self._is_open or check != self._check:
            return False
        is_silent = code is Code.DEADLINE_EXCEEDED
        if is_silent and self._ping_due is not None and self._ping_due > turn.now:
            turn.timers.set((self._sub, "check", 0), self._ping_due)  # The ping may still be answered.
            return False
        if not is_silent:
            self._round_trip.answered(turn.now - self._sent_at)
        self._is_open = False
        self._since = turn.now
        self._forget_ping(turn)
        turn.timers.cancel((self._sub, "check", 0))
        self._arm(turn, self._next_at(turn.now))
        return is_silent

    # --- the second opinion ----------------------------------------------------------------------

    def ping_due(self, turn: Turn) -> None:
        """The Check is late: ask for a second opinion, which has the rest of its time, or most of what is usual."""
        timeout = self._round_trip.timeout
        self._send_ping(max(self._verdict_at - turn.now, timeout - timeout // 4), turn)

    def _send_ping(self, timeout: int, turn: Turn) -> None:
        if self._ping_due is not None:
            return
        self._ping += 1
        self._pinged_at = turn.now
        self._ping_due = turn.now + timeout
        self.has_pong = False
        turn.timers.cancel((self._sub, "ping", 0))
        turn.timers.set((self._sub, "ping", 1), self._ping_due)
        turn.effects.append(SendPing(self._sub, self._ping, timeout))

    def ping_ended(self, ping: int, code: Code, turn: Turn) -> bool:
        """Take in how a ping ended; True where nothing answered, be it this or the Check."""
        if self._ping_due is None or ping != self._ping:
            return False
        if code is Code.DEADLINE_EXCEEDED:
            return self.ping_timed_out(turn)
        self._round_trip.answered(turn.now - self._pinged_at)
        self._forget_ping(turn)
        self.has_pong = True
        self._ask_late(turn)
        return False

    def ping_timed_out(self, turn: Turn) -> bool:
        """The core's own timer for the ping; True, since the Check is not answered either."""
        self._ping_due = None
        return self.ended(self._check, Code.DEADLINE_EXCEEDED, turn)

    def _ask_late(self, turn: Turn) -> None:
        # It has no less time than half a Check's, which costs none: the Check is waited for in any case.
        at = self._sent_at + self._policy.timeout_ns // 2
        self._verdict_at = self._sent_at + self._policy.timeout_ns
        if self._policy.ping and at > turn.now:
            turn.timers.set((self._sub, "ping", 0), at)

    def _forget_ping(self, turn: Turn) -> None:
        self._ping_due = None
        for number in (0, 1):
            turn.timers.cancel((self._sub, "ping", number))

    def is_present(self, check: int) -> bool:
        """Whether this is the number of the Check that is under way."""
        return self._is_open and check == self._check

    def ask_again(self, delay: int, turn: Turn) -> None:
        """Send the next Check after `delay` (ns), if that is before the interval is over."""
        if delay < self._pace.interval(self._policy.interval_ns):
            self._arm(turn, turn.now + delay)

    def timed_out(self, turn: Turn) -> bool:
        """The core's own timer for the Check; True where nothing answered."""
        return self.ended(self._check, Code.DEADLINE_EXCEEDED, turn)

    def _send(self, turn: Turn) -> None:
        self.count()
        self._check += 1
        self._is_open = True
        self._sent_at = turn.now
        self.has_pong = False
        self._ask_late(turn)
        turn.timers.cancel((self._sub, "heartbeat", 0))
        turn.timers.cancel((self._sub, "heartbeat", 1))
        turn.timers.set((self._sub, "check", 0), turn.now + self._policy.timeout_ns)
        turn.effects.append(SendCheck(self._sub, self._check, self._policy.timeout_ns))

    def _arm(self, turn: Turn, at: int) -> None:
        # The grid rounds down, to before now too; and a timer seen late is taken for a stall.
        turn.timers.set((self._sub, "heartbeat", 0), max(turn.now, at))

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
        policy: None for no heartbeats; then Checks that tell the health are sent at the default's pace.
        pace: shared with other channels.
        streams: where the jitter comes from.
    """

    def __init__(self, policy: Heartbeat | None, pace: Pace, streams: Streams) -> None:
        self._is_on = policy is not None
        self._policy = policy or Heartbeat(ping=False)
        self._pace = pace
        self._streams = streams
        self._suspicion = Suspicion(is_on=self._policy.ping)
        self._machines: dict[int, HeartbeatMachine] = {}

    def add(self, sub: int, turn: Turn) -> None:
        """A subchannel was added."""
        self._suspicion.start(turn)
        rng = self._streams.stream("heartbeat", sub)
        self._machines[sub] = HeartbeatMachine(sub, self._policy, self._pace, rng)
        if self._is_on:
            self._machines[sub].count()

    def remove(self, sub: int, turn: Turn) -> None:
        """A subchannel was removed."""
        self.stop(sub, turn)
        self._machines.pop(sub).forget()
        self._suspicion.forget(sub)
        if not self._machines:
            self._suspicion.stop(turn)

    def look(self, machines: Mapping[int, SubchannelMachine], turn: Turn) -> None:
        """It is time to see whose calls are silent: ask those."""
        for sub in self._suspicion.due(machines, turn):
            self.suspect(sub, turn)

    def start(self, sub: int, turn: Turn) -> None:
        """A subchannel's connection is READY."""
        # Where Checks tell the health, its timer is set already: the first one is due at once.
        if self._is_on and not turn.timers.is_set((sub, "heartbeat", 0)):
            self._machines[sub].start(turn)

    def stop(self, sub: int, turn: Turn) -> None:
        """A subchannel's connection is gone."""
        self._machines[sub].stop(turn)

    def health_reported(self, machine: SubchannelMachine, event: HealthReported, turn: Turn) -> None:
        """A Watch has said something; its first word tells how long an answer takes."""
        machine.health_reported(event.watch, event.status, turn)
        took, machine.health.took = machine.health.took, None
        if took is not None:
            self._machines[machine.id].learn(took)

    def suspect(self, sub: int, turn: Turn) -> None:
        """A call on a subchannel got no answer in time."""
        if self._is_on:
            self._machines[sub].suspect(turn)

    def check_ended(self, machine: SubchannelMachine, event: CheckEnded | PingEnded, turn: Turn) -> bool:
        """Take in how a Check or a ping ended; True where nothing answered."""
        heartbeat = self._machines[machine.id]
        if isinstance(event, PingEnded):
            return heartbeat.ping_ended(event.ping, event.code, turn)
        if not heartbeat.is_present(event.check):
            return False
        if heartbeat.ended(event.check, event.code, turn) and self._is_on:
            return not self._is_busy(machine, turn)
        if not heartbeat.is_present(event.check):
            self._answered(machine, event, turn)
        return False

    def _is_busy(self, machine: SubchannelMachine, turn: Turn) -> bool:
        # A server whose health nobody knows, since it has no Watch and answers no Check, is not to be waited for.
        is_known = machine.health.is_healthy or not machine.health.is_polling
        if not (self._machines[machine.id].has_pong and is_known):
            return False
        self._set_busy(machine, True, turn)
        return True

    def _set_busy(self, machine: SubchannelMachine, is_busy: bool, turn: Turn) -> None:
        if is_busy or machine.health.is_busy:
            machine.set_busy(is_busy, turn)
            fact = BusyBackend(turn.now, machine.id, machine.endpoint.address, is_over=not is_busy)
            turn.effects.append(Report(fact))

    def _answered(self, machine: SubchannelMachine, event: CheckEnded, turn: Turn) -> None:
        self._set_busy(machine, False, turn)
        if machine.health.is_polling:
            machine.checked(event, turn)
            if machine.health.next_check is not None:
                self._machines[machine.id].ask_again(machine.health.next_check, turn)
        if not (self._is_on or machine.health.is_polling):
            self.stop(machine.id, turn)

    def due(self, machine: SubchannelMachine, kind: str, number: int, turn: Turn) -> bool:
        """A timer of a subchannel's heartbeat is due; True where nothing answered."""
        heartbeat = self._machines[machine.id]
        if kind == "check":
            return self._check_due(machine, heartbeat, turn)
        if kind == "ping":
            return self._ping_due(heartbeat, number, turn)
        if number:
            heartbeat.suspicion_due(turn)
        elif heartbeat.due(machine.handle, turn, is_polling=machine.health.is_polling):
            self._set_busy(machine, False, turn)
        return False

    def _check_due(self, machine: SubchannelMachine, heartbeat: HeartbeatMachine, turn: Turn) -> bool:
        if heartbeat.timed_out(turn) and self._is_on:
            return not self._is_busy(machine, turn)
        if not self._is_on:
            self._answered(machine, CheckEnded(machine.id, 0, Code.DEADLINE_EXCEEDED), turn)
        return False

    def _ping_due(self, heartbeat: HeartbeatMachine, number: int, turn: Turn) -> bool:
        if number:
            return heartbeat.ping_timed_out(turn)
        heartbeat.ping_due(turn)
        return False

    def silence(self, machine: SubchannelMachine, machines: Collection[SubchannelMachine], turn: Turn) -> bool:
        """Take a subchannel out that answers nothing, and say so; False where the cap keeps it in."""
        is_excluded = may_exclude(machine, machines)
        turn.effects.append(Report(HeartbeatLoss(turn.now, machine.id, machine.endpoint.address, is_excluded)))
        if is_excluded:
            self.stop(machine.id, turn)
            machine.fall_silent(turn)
        return is_excluded


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
