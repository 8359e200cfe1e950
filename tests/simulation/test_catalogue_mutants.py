"""The core with one thing wrong: each such mutant makes a check of a shipped scenario fail.

Were one of them to survive, the scenarios would not test what they say. Each is a mistake that one could make.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from healthlb.core import backoff, resolution
from healthlb.core.backoff import BackoffDelays
from healthlb.core.call.budget import RatioBudget, Throttle
from healthlb.core.call.failover import CallPlan, CallPolicy
from healthlb.core.call.overload import Admission
from healthlb.core.exclusion import damping, ejection, slow_start
from healthlb.core.exclusion.damping import Damping
from healthlb.core.exclusion.outlier import OutlierDetector
from healthlb.core.exclusion.panic import PanicMode
from healthlb.core.load import CappedLoad, Load
from healthlb.core.messages import Code, Endpoint
from healthlb.core.pickers import least_request
from healthlb.core.pickers.least_request import LeastRequest
from healthlb.core.pickers.ring_hash import RingHashPicker
from healthlb.core.resolution import Resolution
from healthlb.core.subchannel.health_machine import HealthMachine
from healthlb.core.subchannel.heartbeat import HeartbeatMachine
from healthlb.core.subchannel.machine import SubchannelMachine
from healthlb.core.subchannel.watch_restart import WatchBackoff
from tests.simulation.catalogue import failing_checks


def nothing(*arguments: Any, **options: Any) -> None:
    """Do nothing, where something ought to be done."""


def always(*arguments: Any, **options: Any) -> bool:
    """Say yes to everything."""
    return True


def restart_at_once(self: Any, lasted: int | None) -> int:
    """As gRFC A17 has it, without a floor."""
    return self._backoff.next() if lasted is None else 1_000_000  # type: ignore[no-any-return]


def without_jitter(delay: float, jitter: float, rng: random.Random) -> int:
    """The same delays for everybody."""
    return round(delay)


def without_growth(self: Any) -> int:
    """Never any patience."""
    return self._policy.initial_ns  # type: ignore[no-any-return]


def forget_none(self: Any, endpoints: Sequence[Endpoint], context: Any) -> Any:
    """An address that was once given stays for good."""
    self.known = {**getattr(self, "known", {}), **original_resolved(self, endpoints, context)}
    return self.known


def choose_alike(endpoints: Sequence[Endpoint], size: int, seed: int) -> tuple[Endpoint, ...]:
    """Each client the first ones."""
    return tuple(endpoints[:size])


def choose_anew(endpoints: Sequence[Endpoint], size: int, seed: int) -> tuple[Endpoint, ...]:
    """Others whenever the list changes."""
    return tuple(random.Random(seed + len(endpoints)).sample(list(endpoints), min(size, len(endpoints))))


def believe(self: Any, status: int, context: Any) -> None:
    """Whatever a Watch says, it is SERVING."""
    self._signal(self._streak.said(True, self.is_healthy), context)


def sick(self: Any, code: Code, details: str, context: Any) -> None:
    """Every end of a Watch is an illness, UNIMPLEMENTED too."""
    original_closed(self, Code.UNKNOWN if code is Code.UNIMPLEMENTED else code, details, context)


def long_memory(record: Any, policy: Any, now: int) -> float:
    """No penalty is ever forgotten."""
    return record.figure  # type: ignore[no-any-return]


def grow_the_other_way(policy: Any, age: int) -> float:
    """Slow start with the exponent upside down."""
    grown = (age / policy.window_ns) ** policy.aggression
    return 1.0 if age >= policy.window_ns else max(policy.min_weight, grown)


def least_for_ever(drawn: tuple[Any, ...]) -> Any:
    """No penalty is ever taken off."""
    return min(drawn, key=lambda candidate: candidate.load.in_flight + candidate.penalty)


def the_first(self: Any, place: int, call: Any) -> Any:
    """Whoever cannot have its own backend gets the first one there is, not the next on the ring."""
    return self._ready[0]


original_resolved = Resolution.resolved
original_closed = HealthMachine.closed

# What is put in the place of what, the scenario that notices, which policies are run, and the check that fails.
MUTANTS: list[tuple[Any, str, Callable[..., Any], str, tuple[str, ...], str]] = [
    (SubchannelMachine, "_disconnected", nothing, "f1-crash-flap", ("no-retry",), "heard-at-once"),
    (BackoffDelays, "next", without_growth, "f2-flap-period", ("usual", "quick"), "resonance"),
    (HealthMachine, "_said", believe, "f3-health-flap", ("round-robin",), "ready-share"),
    (PanicMode, "settle", nothing, "f4-correlated-flap", ("panic",), "panic"),
    (PanicMode, "settle", nothing, "o3-panic", ("panic",), "panic-saves"),
    (Damping, "_flapped", nothing, "f5-flap-damping", ("damping",), "fast-is-out"),
    (damping, "_decayed", long_memory, "f5-flap-damping", ("damping",), "slow-is-not"),
    (WatchBackoff, "delay", restart_at_once, "f6-broken-health-service", (), "asked-seldom"),
    (HealthMachine, "closed", sick, "f6-broken-health-service", (), "absent-is-healthy"),
    (OutlierDetector, "_eject", nothing, "f7-lying-health", ("ejection",), "ejected"),
    (LeastRequest, "call_ended", nothing, "f8-sinkhole", ("penalty", "two-choices"), "penalty"),
    (HeartbeatMachine, "suspect", nothing, "f9-stale-truth", ("heartbeat",), "suspicion"),
    (HeartbeatMachine, "_send", nothing, "f9-stale-truth", ("heartbeat",), "suspicion"),
    (backoff, "jittered", without_jitter, "r3-reconnect-herd", ("jitter",), "spread"),
    (slow_start, "share", lambda policy, age: 1.0, "r4-cold-backend", ("slow-start", "at-once"), "slow-start"),
    (Resolution, "resolved", forget_none, "r5-resolver-churn", ("round-robin",), "removed-ones"),
    (resolution, "choose", choose_alike, "r6-subsets", ("five",), "five"),
    (resolution, "choose", choose_anew, "r6-subsets", ("five",), "five-moves-few"),
    (ejection, "excess", lambda tally, percent: -1, "o6-false-ejections", ("touchy",), "cap"),
    (Throttle, "withdraw", always, "m2-retry-budget", ("throttle",), "throttle-bound"),
    (RatioBudget, "withdraw", always, "m2-retry-budget", ("share",), "share-bound"),
    (RatioBudget, "withdraw", always, "o7-rescue", ("small", "none"), "a-small-budget-holds"),
    (CallPlan, "rescue", lambda self, attempt, now: False, "o7-rescue", ("rescue",), "nothing-is-lost"),
    (CallPolicy, "is_rescued", True, "o7-rescue", ("careful", "none"), "who-may-not-be-made-again-stays"),
    (Throttle, "attempt_failed", nothing, "m3-budget-starvation", ("small-throttle",), "starves"),
    (CappedLoad, "start", Load.start, "m4-overload", ("per-subchannel",), "capacity"),
    (CappedLoad, "_count_out", nothing, "m4-overload", ("per-channel",), "capacity"),
    (slow_start, "share", grow_the_other_way, "r4-cold-backend", ("bold",), "bold-share"),
    (least_request, "least", least_for_ever, "b6-forgiven", ("least-request",), "forgiven"),
    (RingHashPicker, "_go_on", the_first, "b5-ring-hash", ("ring",), "spread"),
    (Admission, "pick", lambda self, snapshot, call: "", "m4-overload", ("per-subchannel",), "refused-at-once"),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "mutant", "scenario", "policies", "check"), MUTANTS)
def test_a_mutant_is_killed(
    owner: Any,
    name: str,
    mutant: Callable[..., Any],
    scenario: str,
    policies: tuple[str, ...],
    check: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, name, mutant)

    assert check in failing_checks(scenario, {}, policies)
