"""Flapping, health, recovery and subsets: what is broken on purpose makes the check fail that is about it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.catalogue import failing_checks

# The scenario, what is changed, which policies are run, and the check that must fail.
BROKEN: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    ("f1-crash-flap", {"faults.timeline.0.duty": 0.5}, ("no-retry",), "loss"),
    ("f1-crash-flap", {"faults.timeline.0.mode": "blackhole"}, ("no-retry",), "heard-at-once"),
    ("f1-crash-flap", {"client.0.idempotent": False}, ("no-retry", "one-retry"), "hidden"),
    ("f2-flap-period", {"policy.usual.health": {"reconnect": {"initial": "20ms", "maximum": "20ms"}}}, (), "resonance"),
    ("f2-flap-period", {"policy.usual.health": {"reconnect": {"initial": "3s", "maximum": "3s"}}}, ("usual",), "return"),
    ("f2-flap-period", {"policy.quick.health": {"reconnect": {"initial": "1s"}}}, ("quick",), "quick-sees-all"),
    ("f2-flap-period", {"faults.timeline.0.kind": "blackhole", "client.0.deadline": "50ms"}, ("quick",), "envelope"),
    ("f3-health-flap", {"faults.timeline.0.kind": "crash"}, ("round-robin",), "nothing-lost"),
    ("f3-health-flap", {"backend.0.watch_lag": "50ms"}, ("round-robin",), "ready-share"),
    ("f3-health-flap", {"faults.timeline.0.duty": 0.4}, ("round-robin",), "calls-follow"),
    ("f3-health-flap", {"faults.timeline.0.period": "400ms"}, ("round-robin",), "pickers"),
    ("f4-correlated-flap", {"faults.timeline.4.phase": "random"}, ("trusting",), "together"),
    ("f4-correlated-flap", {"faults.timeline.0.duty": 0.01}, ("trusting",), "alone"),
    ("f4-correlated-flap", {"policy.panic.panic_threshold": 0}, ("panic",), "panic"),
    ("f4-correlated-flap", {"faults.timeline.4.kind": "crash"}, ("panic",), "panic"),
    ("f5-flap-damping", {"policy.damping.health": {}}, ("damping",), "fast-is-out"),
    ("f5-flap-damping", {"faults.timeline.1.period": "3s"}, ("damping",), "slow-is-not"),
    ("f5-flap-damping", {"policy.damping.health.damping.half_life": "3s"}, ("damping",), "release"),
    ("f5-flap-damping", {"policy.damping.health.damping.suppress": 9000, "policy.damping.health.damping.max_suppress": "40s"}, (), "calmer"),
    ("f6-broken-health-service", {"policy.usual.health": {"on_unimplemented": "unhealthy"}}, (), "absent-is-healthy"),
    ("f6-broken-health-service", {"policy.usual.health": {"min_restart_interval": 0.001, "backoff": {"multiplier": 1}}}, (), "asked-seldom"),
    ("f6-broken-health-service", {"policy.usual.service": False}, (), "others-are-out"),
    ("f6-broken-health-service", {"faults": {"timeline": [{"kind": "error", "target": "absent0", "rate": 0.01}]}}, (), "nothing-lost"),
    ("f7-lying-health", {"faults.timeline.0.rate": 0.5}, ("trusting",), "share"),
    ("f7-lying-health", {"policy.ejection.outlier": False}, ("ejection",), "ejected"),
    ("f7-lying-health", {"policy.ejection.outlier.failure_pct": 0, "faults.timeline.0.target": "b*"}, ("ejection",), "nobody-else"),
    ("f8-sinkhole", {"policy.round-robin.picker": "random"}, ("round-robin",), "its-share"),
    ("f8-sinkhole", {"policy.two-choices.picker.choice_count": 3}, ("two-choices",), "two-choices"),
    ("f8-sinkhole", {"policy.ten-choices.picker.failure_penalty": 4}, ("ten-choices",), "sinkhole"),
    ("f8-sinkhole", {"policy.penalty.picker": {"name": "p2c", "failure_penalty": 0}}, ("penalty", "two-choices"), "penalty"),
    ("f9-stale-truth", {"faults.timeline.0.mode": "half-open"}, ("none",), "reset"),
    ("f9-stale-truth", {"policy.heartbeat.heartbeat": False}, ("heartbeat",), "suspicion"),
    ("f9-stale-truth", {"policy.none.heartbeat": {"interval": "1s"}}, ("none",), "unnoticed"),
    ("f9-stale-truth", {"policy.heartbeat.heartbeat": {"interval": "2s", "timeout": "4s", "ping": False}}, (), "cost"),
    ("f10-stalled-client", {"faults.timeline.0": {"kind": "pause", "from": "10s", "until": "12s"}}, ("resilient",), "nobody-is-blamed"),
    ("f10-stalled-client", {"faults.timeline.0": {"kind": "error", "target": "b*", "from": "14s", "until": "15s"}}, ("default",), "nothing-lost"),
    ("f11-busy-servers", {"backend.0.checks": "beside", "backend.2.checks": "beside"}, ("short",), "busy-is-taken-for-dead"),
    ("f11-busy-servers", {"backend.0.checks": "loop"}, ("twice",), "a-pool-answers-the-second-opinion"),
    ("f11-busy-servers", {"backend.1.checks": "pool"}, ("short",), "beside-is-not"),
    ("f11-busy-servers", {"policy.patient.heartbeat.timeout": "2s"}, ("patient",), "patient-is-not-fooled"),
    ("f11-busy-servers", {"policy.short.heartbeat.timeout": "3s"}, ("short",), "short-finds-it-soon"),
    ("f11-busy-servers", {"policy.patient.heartbeat": False}, ("patient",), "each-finds-the-hang"),
    ("f11-busy-servers", {"policy.none.heartbeat": {"interval": "2s"}}, ("none",), "nobody-looks"),
    ("r1-rolling-deploy", {"faults.timeline.0.drain": "10ms"}, (), "no-wait"),
    ("r1-rolling-deploy", {"faults.timeline.1.drain": "1ms"}, (), "one-service"),
    ("r1-rolling-deploy", {"backend.0.watch_lag": "15ms"}, (), "two-services"),
    ("r1-rolling-deploy", {"faults.timeline.3.drain": "15ms"}, (), "long-wait"),
    ("r3-reconnect-herd", {"policy.no-jitter.health.backoff.jitter": 0.2}, ("no-jitter",), "herd"),
    ("r3-reconnect-herd", {"policy.jitter.health.backoff.jitter": 0.01}, ("jitter",), "spread"),
    ("r3-reconnect-herd", {"policy.jitter.health.backoff": {"initial": "60s"}}, ("jitter",), "all-return"),
    ("r4-cold-backend", {"backend.0.cold": "0s"}, ("at-once",), "hurts"),
    ("r4-cold-backend", {"policy.slow-start.slow_start.window": "1s"}, ("slow-start", "at-once"), "slow-start"),
    ("r4-cold-backend", {"policy.slow-start.slow_start.aggression": 3}, ("slow-start",), "growing-share"),
    ("r4-cold-backend", {"policy.bold.slow_start.aggression": 1}, ("bold",), "bold-share"),
    ("r4-cold-backend", {"policy.least-request.picker": "random"}, ("least-request", "at-once"), "least-request"),
    ("r5-resolver-churn", {"faults.timeline.1.addresses": ["b[0-3]"]}, ("round-robin",), "new-ones"),
    ("r5-resolver-churn", {"faults.timeline.2.addresses": ["b[1-4]"]}, ("round-robin",), "removed-ones"),
    ("r5-resolver-churn", {"faults.timeline.2.addresses": ["b[1-4]"]}, ("round-robin",), "last-good-list"),
    ("r5-resolver-churn", {"faults.timeline.0.addresses": ["b[1-4]"]}, ("round-robin",), "order-is-nothing"),
    ("r5-resolver-churn", {"backend.0.max_age": "8s"}, ("round-robin",), "connections"),
    ("r5-resolver-churn", {"faults.timeline.3": {"kind": "crash", "target": "b1", "from": "15s", "until": "20s"}}, ("round-robin",), "nothing-lost"),
    ("r6-subsets", {"policy.five.subset.size": 3}, ("five",), "five"),
    ("r6-subsets", {"policy.twenty-five.subset.size": 10}, ("twenty-five",), "twenty-five"),
    ("r6-subsets", {"faults.timeline.0.addresses": ["b[3-5]?"]}, ("five",), "five-moves-few"),
    ("r6-subsets", {"policy.twenty-five.subset.size": 24}, ("twenty-five",), "twenty-five-moves-few"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "policies", "check"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_variant_is_noticed(name: str, changes: dict[str, Any], policies: tuple[str, ...], check: str) -> None:
    assert check in failing_checks(name, changes, policies)
