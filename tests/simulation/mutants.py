"""Cores that are wrong in one thing each, to see whether anybody notices.

The one rule: a mutant is a mistake that someone might make, put in place of one function or two while it is tried, and
it says which rule is to notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from healthlb.core import ejection
from healthlb.core.backoff import BackoffDelays
from healthlb.core.balancer import Balancer
from healthlb.core.budget import RatioBudget, Throttle
from healthlb.core.damping import Damping
from healthlb.core.ejection import Ejections
from healthlb.core.failover import CallPlan, Finish, Start
from healthlb.core.health import STREAMING, Signal
from healthlb.core.heartbeat import HeartbeatMachine
from healthlb.core.load import CappedLoad, Load, Verdict
from healthlb.core.messages import ConnectivityState
from healthlb.core.panic import PanicMode
from healthlb.core.pickers.round_robin import RoundRobin, RoundRobinPicker
from healthlb.core.restarts import Restarts
from healthlb.core.subchannel import SubchannelMachine
from healthlb.core.timers import Timers
from healthlb.core.watching import Watching

READY = ConnectivityState.READY


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        rules: which may notice; the first is the one that is meant.
        worlds: where it is noticed, of seed 1; the first in which it was seen.
        patches: what is put in place of what: an object, the name of its attribute, and another.
    """

    rules: tuple[str, ...]
    worlds: tuple[int, ...]
    patches: tuple[tuple[Any, str, Any], ...]

    @property
    def rule(self) -> str:
        return self.rules[0]


def _nothing(*arguments: Any, **options: Any) -> None:
    """Do nothing."""


def _disconnect_ignored(self: Any, state: Any, reason: str, turn: Any) -> None:
    if not (self.raw_state is READY and state is not READY):
        _connectivity_changed(self, state, reason, turn)


_connectivity_changed = SubchannelMachine.connectivity_changed


def _late_leaks(self: Any, verdict: Verdict = Verdict.ANSWER) -> None:
    _fail(self, verdict)
    if verdict is Verdict.LATE:
        self.in_flight += 1


_fail = Load.fail


def _abandoned_succeeds(self: Any) -> None:
    self.successes += 1
    _abandon(self)


_abandon = Load.abandon


def _excess_of_all(tally: Any, percent: int) -> int:
    count = sum(tally.values())
    return count - tally.get(READY, 0) - min(-(-count * percent // 100), count)


def _superfluous_by_cap_alone(self: Any, machines: Any, turn: Any) -> int | None:
    if _excess_of_all(turn.tally, self._policy.max_ejection_percent) <= 0:
        return None
    waiting = [(out.until, sub) for sub, out in self._out.items() if machines[sub].is_healthy]
    return min(waiting)[1] if waiting else None


def _idempotent_anyway(self: Any, policy: Any, *arguments: Any) -> None:
    _make_plan(self, replace(policy, is_idempotent=True), *arguments)


_make_plan = CallPlan.__init__


def _start_anywhere(self: Any) -> Start:
    start = _start(self)
    return replace(start, exclude=frozenset())


_start = CallPlan._start


def _finish_alone(self: Any, attempt: int) -> Sequence[Any]:
    self._is_over = True
    return [Finish(attempt)]


def _slowly_for_ever(self: Any) -> int:
    return int(self._policy.initial_ns)


def _conclude_afresh(self: Any, turn: Any) -> None:
    self._become(self._conclusion(), self._present_reason(), turn)


def _rotate_anew(self: Any, ready: Any) -> RoundRobinPicker:
    return RoundRobinPicker(tuple(ready), iter(range(1 << 62)))


def _half_a_threshold(self: Any, threshold: float) -> None:
    _make_panic(self, threshold / 2)


_make_panic = PanicMode.__init__


def _silence_is_fine(self: Any, check: int, code: Any, turn: Any) -> bool:
    _check_ended(self, check, code, turn)
    return False


_check_ended = HeartbeatMachine.ended


def _connected_quietly(self: Any, turn: Any) -> None:
    _connected(self, turn)
    if self._service is not None:
        self._signal(Signal.SERVING, turn)


_connected = Watching.connected

MUTANTS = {
    "a disconnect that is ignored": Mutant(
        ("U5", "U6"), (1,), ((SubchannelMachine, "connectivity_changed", _disconnect_ignored),)
    ),
    "words of an old Watch that count": Mutant(
        ("U11", "U6", "U5"), (1,), ((Watching, "is_present", lambda self, watch: self.phase in STREAMING),)
    ),
    "health that is believed before a word": Mutant(("U6",), (1,), ((Watching, "connected", _connected_quietly),)),
    "an attempt that is never counted out": Mutant(("U3",), (2,), ((Load, "fail", _late_leaks),)),
    "an abandoned attempt that counts as a success": Mutant(("U4",), (37,), ((Load, "abandon", _abandoned_succeeds),)),
    "an ejection cap that is ignored": Mutant(
        ("U8",), (41,), ((Ejections, "has_room", lambda self, turn: True), (Ejections, "_superfluous", _nothing))
    ),
    "the last healthy one that is ejected": Mutant(
        ("U8",),
        (41,),
        ((ejection, "excess", _excess_of_all), (Ejections, "_superfluous", _superfluous_by_cap_alone)),
    ),
    "a budget that is not charged": Mutant(
        ("U7",), (28,), ((RatioBudget, "withdraw", lambda *_: True), (Throttle, "withdraw", lambda *_: True))
    ),
    "a call that is executed twice though it must not": Mutant(
        ("U7",), (41,), ((CallPlan, "__init__", _idempotent_anyway),)
    ),
    "tried subchannels are not left out": Mutant(("U15",), (37,), ((CallPlan, "_start", _start_anywhere),)),
    "hedges that outlive their call": Mutant(("U2",), (37,), ((CallPlan, "_finish", _finish_alone),)),
    "a backoff that never begins anew": Mutant(
        ("U11",), (5,), ((Restarts, "connected", _nothing), (Restarts, "answered", _nothing))
    ),
    "a backoff that never grows": Mutant(("U11",), (3,), ((BackoffDelays, "next", _slowly_for_ever),)),
    "TRANSIENT_FAILURE that does not stick": Mutant(
        ("U10",), (1,), ((SubchannelMachine, "_conclude", _conclude_afresh),)
    ),
    "a probe that never ends": Mutant(("U12",), (2,), ((Ejections, "probe_ended", _nothing),)),
    "a rotation that begins again with each picker": Mutant(("U14",), (10,), ((RoundRobin, "build", _rotate_anew),)),
    "damping that never decays": Mutant(("U12",), (95,), ((Damping, "due", _nothing),)),
    "panic at the wrong threshold": Mutant(("U13",), (31,), ((PanicMode, "__init__", _half_a_threshold),)),
    "silence that counts for nothing": Mutant(
        ("U5",),
        (23,),
        ((HeartbeatMachine, "ended", _silence_is_fine), (HeartbeatMachine, "timed_out", lambda *_: False)),
    ),
    "an address that stays though it was removed": Mutant(("U5", "crash"), (3,), ((Balancer, "_remove", _nothing),)),
    "caps on calls that let one more in": Mutant(
        ("U16",), (8,), ((CappedLoad, "is_full", property(lambda self: False)),)
    ),
    "a stall that looks like the silence of others": Mutant(
        ("U11", "U6"), (224,), ((Timers, "hold", lambda *_: False),)
    ),
}


@contextmanager
def mutated(name: str) -> Iterator[Mutant]:
    """Put a mutant's mistakes in place for a while."""
    mutant = MUTANTS[name]
    with ExitStack() as stack:
        for target, attribute, mistake in mutant.patches:
            stack.enter_context(patch.object(target, attribute, mistake))
        yield mutant
