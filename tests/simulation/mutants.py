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

from healthlb.core import resolution
from healthlb.core.backoff import BackoffDelays
from healthlb.core.balancer import Balancer
from healthlb.core.call.budget import RatioBudget, Throttle
from healthlb.core.call.failover import CallPlan, Finish, Start
from healthlb.core.exclusion import ejection, outlier_rules
from healthlb.core.exclusion.damping import Damping
from healthlb.core.exclusion.ejection import Ejections
from healthlb.core.exclusion.panic import PanicMode
from healthlb.core.load import CappedLoad, Load, Verdict
from healthlb.core.messages import Code, ConnectivityState
from healthlb.core.pickers.least_request import LeastRequestPicker, least
from healthlb.core.pickers.round_robin import RoundRobin, RoundRobinPicker
from healthlb.core.subchannel.health import HEALTHY, STREAMING, UNHEALTHY, Signal
from healthlb.core.subchannel.health_machine import HealthMachine, Streak
from healthlb.core.subchannel.heartbeat import HeartbeatMachine
from healthlb.core.subchannel.machine import SubchannelMachine
from healthlb.core.subchannel.watch_restart import WatchBackoff
from healthlb.core.timers import Timers

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


def _disconnect_ignored(self: Any, state: Any, reason: str, context: Any) -> None:
    if not (self.raw_state is READY and state is not READY):
        _connectivity_changed(self, state, reason, context)


_connectivity_changed = SubchannelMachine.connectivity_changed


def _no_response_is_due(self: Any, kind: str, context: Any) -> None:
    if kind != "response":
        _due(self, kind, context)


_due = HealthMachine.due


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


def _superfluous_by_cap_alone(self: Any, machines: Any, context: Any) -> int | None:
    if _excess_of_all(context.tally, self._policy.max_ejection_percent) <= 0:
        return None
    waiting = [(out.until, sub) for sub, out in self._out.items() if machines[sub].is_healthy]
    return min(waiting)[1] if waiting else None


def _idempotent_anyway(self: Any, policy: Any, *arguments: Any, **named: Any) -> None:
    _make_plan(self, replace(policy, is_idempotent=True), *arguments, **named)


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


def _conclude_afresh(self: Any, context: Any) -> None:
    self._become(self._conclusion(), self._present_reason(), context)


def _rotate_anew(self: Any, ready: Any) -> RoundRobinPicker:
    return RoundRobinPicker(tuple(ready), iter(range(1 << 62)))


def _half_a_threshold(self: Any, threshold: float) -> None:
    _make_panic(self, threshold / 2)


_make_panic = PanicMode.__init__


def _silence_is_fine(self: Any, check: int, code: Any, context: Any) -> bool:
    _check_ended(self, check, code, context)
    return False


_check_ended = HeartbeatMachine.ended


def _connected_quietly(self: Any, context: Any) -> None:
    _connected(self, context)
    if self._service is not None:
        self._signal(Signal.SERVING, context)


_connected = HealthMachine._connected


def _turn_for_ever(self: Any, now: int) -> None:
    self._balance += self._current
    self._current = 0
    self._current_ends_at = now + self._slice


def _hedge_twice_as_late(self: Any, now: int) -> list[Any]:
    return [replace(action, at=now + 2 * (action.at - now)) for action in _next_hedge(self, now)]


_next_hedge = CallPlan._next_hedge


def _eject_afresh(self: Any, machine: Any, cause: str, context: Any, **options: Any) -> None:
    self.times.pop(machine.id, None)
    _eject(self, machine, cause, context, **options)


_eject = Ejections.eject


def _eject_too_soon_over(self: Any, machine: Any, cause: str, context: Any, **options: Any) -> None:
    _eject(self, machine, cause, context, **options)
    out = self._out[machine.id]
    context.timers.set((machine.id, "ejection", 0), context.now + (out.until - context.now) // 2)


def _eject_without_limit(self: Any, machine: Any, cause: str, context: Any, **options: Any) -> None:
    policy, self._policy = self._policy, replace(self._policy, max_ejection_time=1e6)
    _eject(self, machine, cause, context, **options)
    self._policy = policy


def _pick_with_replacement(self: Any, call: Any) -> Any:
    candidates, size = self._candidates, self._size
    if call.exclude or self._choice_count != 2:
        return _pick(self, call)
    first, second = (candidates[int(self._random() * size)] for _ in range(2))
    return least((first, second)).sub


_pick = LeastRequestPicker.pick


def _swapped_streak(self: Any, rise: int, fall: int) -> None:
    _make_streak(self, fall, rise)


_make_streak = Streak.__init__


def _no_backoff(self: Any, event: Any) -> int:
    return 0


def _every_status_is_worth_it(self: Any, policy: Any, *arguments: Any, **named: Any) -> None:
    _make_plan(self, replace(policy, codes=frozenset(Code)), *arguments, **named)


def _cut_off_is_the_end(self: Any, event: Any, now: int) -> Any:
    return _ended(self, replace(event, is_cut_off=False), now)


_ended = CallPlan._ended


def _one_too_many(endpoints: Any, size: int, seed: int) -> Any:
    return _choose(endpoints, size + 1, seed)


_choose = resolution.choose


def _half_is_enough(self: Any, now: int) -> bool:
    return bool(self._tokens * 2 >= self._maximum)


def _errors_are_silence(self: Any, check: int, code: Any, context: Any) -> bool:
    return _check_ended(self, check, code if code is Code.OK else Code.DEADLINE_EXCEEDED, context)


def _half_the_patience(self: Any, context: Any) -> None:
    _send(self, context)
    # At half of it a ping goes out, and then that is waited for.
    context.timers.set((self._sub, "check", 0), context.now + self._policy.timeout_ns // 2 - 1)


_send = HeartbeatMachine._send


def _nobody_asks_twice(self: Any, machine: Any, context: Any) -> None:
    """The ejected come back with their full share at once, as gRFC A50 has it."""
    machine.set_exclusion(machine.exclusion.readmitted(), context)


def _unknown_is_serving(self: Any, status: int, context: Any) -> None:
    _said(self, 1 if status == 3 else status, context)


_said = HealthMachine._said
_still = {"until": -1, "now": 0}


def _handle_and_look_at_the_clock(self: Any, event: Any, now: int) -> Any:
    if now < _still["now"]:
        _still["until"] = -1  # another world
    _still["now"] = now
    return _handle(self, event, now)


def _held(self: Any, now: int) -> bool:
    is_late = _postpone(self, now)
    if is_late:
        _still["until"] = now + 40_000_000
    return is_late


_handle, _postpone = Balancer.handle, Timers.postpone


def _well_after_a_stall(self: Any) -> bool:
    return self.phase in HEALTHY or (self.phase in UNHEALTHY and _still["now"] <= _still["until"])


def _ill_but_after_a_stall(self: Any) -> bool:
    return self.phase in UNHEALTHY and _still["now"] > _still["until"]


def _twice_as_long(self: Any) -> int:
    return 2 * int(_renewal(self))


def _soon_enough(self: Any, now: int) -> int:
    return int(now + self._backoff.delay(now - self._started_at if self._has_answered else 0))


_renewal = HealthMachine._renewal.fget


MUTANTS = {
    "a disconnect that is ignored": Mutant(
        ("U5", "U6"), (1,), ((SubchannelMachine, "connectivity_changed", _disconnect_ignored),)
    ),
    "words of an old Watch that count": Mutant(
        ("U11", "U6", "U5"), (1,), ((HealthMachine, "is_present", lambda self, watch: self.phase in STREAMING),)
    ),
    "health that is believed before a word": Mutant(
        ("U6",), (1,), ((HealthMachine, "_connected", _connected_quietly),)
    ),
    "an attempt that is never counted out": Mutant(("U3",), (2,), ((Load, "fail", _late_leaks),)),
    "an abandoned attempt that counts as a success": Mutant(("U4",), (37,), ((Load, "abandon", _abandoned_succeeds),)),
    "an ejection cap that is ignored": Mutant(
        ("U8",), (41,), ((Ejections, "has_room", lambda self, context: True), (Ejections, "_superfluous", _nothing))
    ),
    "the last healthy one that is ejected": Mutant(
        ("U8",),
        (41,),
        ((ejection, "excess", _excess_of_all), (Ejections, "_superfluous", _superfluous_by_cap_alone)),
    ),
    "a budget that is not charged": Mutant(
        ("U17", "U7"), (28,), ((RatioBudget, "withdraw", lambda *_: True), (Throttle, "withdraw", lambda *_: True))
    ),
    "a call that is executed twice though it must not": Mutant(
        ("U7",), (41,), ((CallPlan, "__init__", _idempotent_anyway),)
    ),
    "tried subchannels are not left out": Mutant(("U15",), (37,), ((CallPlan, "_start", _start_anywhere),)),
    "hedges that outlive their call": Mutant(("U2",), (37,), ((CallPlan, "_finish", _finish_alone),)),
    "a backoff that never begins anew": Mutant(
        ("U11",), (5,), ((WatchBackoff, "connected", _nothing), (WatchBackoff, "answered", _nothing))
    ),
    "a backoff that never grows": Mutant(("U11",), (3,), ((BackoffDelays, "next", _slowly_for_ever),)),
    "TRANSIENT_FAILURE that does not stick": Mutant(
        ("U10",), (1,), ((SubchannelMachine, "_conclude", _conclude_afresh),)
    ),
    "a probe that never ends": Mutant(("U12",), (257,), ((Ejections, "probe_ended", _nothing),)),
    "a rotation that begins again with each picker": Mutant(("U14",), (10,), ((RoundRobin, "build", _rotate_anew),)),
    "damping that never decays": Mutant(("U12",), (280,), ((Damping, "due", _nothing),)),
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
        ("U11", "U6"), (811,), ((Timers, "postpone", lambda *_: False),)
    ),
    "a budget that never forgets": Mutant(("U17",), (13,), ((RatioBudget, "_turn", _turn_for_ever),)),
    "a hedge that comes twice as late": Mutant(("U18",), (37,), ((CallPlan, "_next_hedge", _hedge_twice_as_late),)),
    "ejections that do not grow": Mutant(("U19",), (10,), ((Ejections, "eject", _eject_afresh),)),
    "ejections that are never forgotten": Mutant(("U19",), (405,), ((Ejections, "decay", _nothing),)),
    "two choices that may be the same": Mutant(
        ("U22",), (33,), ((LeastRequestPicker, "pick", _pick_with_replacement),)
    ),
    "rise and fall swapped": Mutant(("U20", "U5", "U6"), (23,), ((Streak, "__init__", _swapped_streak),)),
    "a Watch that is waited for without end": Mutant(("U21",), (13,), ((HealthMachine, "due", _no_response_is_due),)),
    "a retry without its backoff": Mutant(("U18",), (138,), ((CallPlan, "_delay", _no_backoff),)),
    "a retry after any status": Mutant(("U18",), (14,), ((CallPlan, "__init__", _every_status_is_worth_it),)),
    "no retry after an attempt's own timeout": Mutant(("U18",), (46,), ((CallPlan, "_ended", _cut_off_is_the_end),)),
    "an ejection that is over at half of its time": Mutant(
        ("U19",), (2,), ((Ejections, "eject", _eject_too_soon_over),)
    ),
    "an ejection longer than the longest": Mutant(("U19",), (10,), ((Ejections, "eject", _eject_without_limit),)),
    "a subset with one too many": Mutant(("U23",), (3,), ((resolution, "choose", _one_too_many),)),
    "a throttle that pays at half of its tokens": Mutant(("U17",), (39,), ((Throttle, "withdraw", _half_is_enough),)),
    "a heartbeat whose answer with an error is silence": Mutant(
        ("U25",), (31,), ((HeartbeatMachine, "ended", _errors_are_silence),)
    ),
    "a heartbeat with half of its patience": Mutant(
        ("U25",), (17,), ((HeartbeatMachine, "_send", _half_the_patience),)
    ),
    "an ejection for late calls of who has just answered": Mutant(
        ("U26",), (91,), ((outlier_rules, "is_silence", lambda _: True),)
    ),
    "an ejection that ends without a probe": Mutant(("U19", "U24"), (2,), ((Ejections, "expire", _nobody_asks_twice),)),
    "SERVICE_UNKNOWN that is taken for SERVING": Mutant(
        ("U6",), (0,), ((HealthMachine, "_said", _unknown_is_serving),)
    ),
    "a SERVING that stands twice as long after the end of its Watch": Mutant(
        ("U6",), (17,), ((HealthMachine, "_renewal", property(_twice_as_long)),)
    ),
    "a Watch that is renewed when it is too late for a word": Mutant(
        ("U11",), (3,), ((HealthMachine, "_soon", _soon_enough),)
    ),
    "after a stall the ill count as well for a moment": Mutant(
        ("U5", "U6"),
        (359, 465),
        (
            (Balancer, "handle", _handle_and_look_at_the_clock),
            (Timers, "postpone", _held),
            (HealthMachine, "is_healthy", property(_well_after_a_stall, _nothing)),
            (HealthMachine, "is_unhealthy", property(_ill_but_after_a_stall, _nothing)),
        ),
    ),
}


# What a class has in its instances alone: a property with a setter stands in for it.
_OF_INSTANCES = ("is_healthy", "is_unhealthy")


@contextmanager
def mutated(name: str) -> Iterator[Mutant]:
    """Put a mutant's mistakes in place for a while."""
    mutant = MUTANTS[name]
    with ExitStack() as stack:
        for target, attribute, mistake in mutant.patches:
            stack.enter_context(patch.object(target, attribute, mistake, create=attribute in _OF_INSTANCES))
        yield mutant
