"""Outages, overload and load balancing: what is broken on purpose makes the check fail that is about it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.catalogue import GONE, failing_checks

# The scenario, what is changed, which policies are run, and the check that must fail.
BROKEN: list[tuple[str, dict[str, Any], tuple[str, ...], str]] = [
    ("o1-blackhole-or-reset", {"policy.round-robin.picker": "least_request"}, ("round-robin",), "silence-costs"),
    ("o1-blackhole-or-reset", {"policy.least-request.picker": "random"}, ("least-request",), "load-shields"),
    ("o1-blackhole-or-reset", {"policy.heartbeat.heartbeat": False}, ("heartbeat",), "heartbeat-ends-it"),
    ("o1-blackhole-or-reset", {"faults.timeline.1.mode": "half-open"}, ("round-robin",), "reset-costs"),
    ("o2-zone-outage", {"client.0.load.rho": 0.8}, ("budget",), "one-zone"),
    ("o2-zone-outage", {"client.0.load.rho": 0.3}, ("budget",), "two-zones"),
    ("o2-zone-outage", {"policy.budget.failover.budget": False}, ("budget",), "recovers"),
    ("o2-zone-outage", {"policy.unlimited.failover.max_attempts": 1}, ("unlimited",), "stays-down"),
    ("o3-panic", {"policy.panic.panic_threshold": 0}, ("panic",), "panic-saves"),
    ("o3-panic", {"policy.panic.panic_threshold": 0.51}, ("panic",), "half"),
    ("o3-panic", {"policy.trusting.panic_threshold": 0.5}, ("trusting",), "trust-costs"),
    ("o4-total-outage", {"faults.timeline.1.rate": 0.5}, ("panic",), "not-hidden"),
    ("o4-total-outage", {"policy.panic.failover.budget": False}, ("panic",), "no-storm"),
    ("o4-total-outage", {"policy.panic.failover": GONE}, ("panic",), "storm-is-possible"),
    ("o4-total-outage", {"client.0.wait_for_ready": True}, ("panic",), "fails-fast"),
    ("o4-total-outage", {"policy.panic.health": {"reconnect": {"initial": "30s", "maximum": "30s"}}}, ("panic",), "returns"),
    ("o5-blind-spot", {"policy.success-rate.outlier.stdev_factor": 2100}, ("success-rate",), "four-are-seen"),
    ("o5-blind-spot", {"policy.success-rate.outlier.stdev_factor": 1500}, ("success-rate",), "five-hide"),
    ("o5-blind-spot", {"policy.failure-percentage.outlier": False}, ("failure-percentage",), "five-are-seen"),
    ("o6-false-ejections", {"policy.usual.outlier.stdev_factor": 1000}, ("usual",), "noise"),
    ("o6-false-ejections", {"policy.usual.outlier.stdev_factor": 4000}, ("usual",), "there-is-noise"),
    ("o6-false-ejections", {"policy.touchy.outlier.max_pct": 60}, ("touchy",), "cap"),
    ("o7-rescue", {"policy.rescue.failover.rescue": False}, ("rescue",), "nothing-is-lost"),
    ("o7-rescue", {"policy.none.failover.rescue": True}, ("none",), "without-it-all-in-flight-is-lost"),
    ("o7-rescue", {"policy.small.failover.budget": False}, ("small", "none"), "a-small-budget-holds"),
    ("o7-rescue", {"policy.careful.failover.idempotent": True}, ("careful", "none"), "who-may-not-be-made-again-stays"),
    ("m1-retry-storm", {"faults.timeline.0.factor": 0.9}, ("no-retry",), "dip-hurts"),
    ("m1-retry-storm", {"policy.no-retry.failover.max_attempts": 3}, ("no-retry",), "recovers"),
    ("m1-retry-storm", {"policy.one-retry.failover.max_attempts": 1}, ("one-retry",), "recovers-late"),
    ("m1-retry-storm", {"policy.one-retry.failover.max_attempts": 3}, ("one-retry",), "recovers-late"),
    ("m1-retry-storm", {"policy.two-retries.failover.max_attempts": 2}, ("two-retries",), "never-recovers"),
    ("m1-retry-storm", {"backend.0.drop_cancelled": True}, ("two-retries",), "never-recovers"),
    ("m2-retry-budget", {"policy.throttle.failover.budget": False}, ("throttle",), "throttle-bound"),
    ("m2-retry-budget", {"policy.share.failover.budget.ratio": 0.9}, ("share",), "share-bound"),
    ("m2-retry-budget", {"policy.throttle.failover.budget": False}, ("throttle",), "budgets-recover"),
    ("m2-retry-budget", {"policy.unlimited.failover.budget": {"ratio": 0.1}}, ("unlimited",), "no-budget-does-not"),
    ("m3-budget-starvation", {"policy.small-throttle.failover.budget.token_ratio": 0.2}, ("small-throttle",), "starves"),
    ("m3-budget-starvation", {"policy.large-throttle.failover.budget.token_ratio": 0.1}, ("large-throttle",), "lasts"),
    ("m3-budget-starvation", {"policy.share.failover.budget": {"ratio": 0.02, "min_per_second": 0}}, ("share",), "share-lasts"),
    ("m3-budget-starvation", {"policy.ejection.outliers": False}, ("ejection",), "ejection-saves"),
    ("m4-overload", {"policy.uncapped.overload": {"max_in_flight_per_subchannel": 10}}, ("uncapped",), "collapse"),
    ("m4-overload", {"policy.per-subchannel.overload": False}, ("per-subchannel",), "capacity"),
    ("m4-overload", {"policy.per-subchannel.overload.max_in_flight_per_subchannel": 16}, ("per-subchannel",), "short-lines"),
    ("m4-overload", {"policy.per-channel.overload": False}, ("per-channel",), "refused-at-once"),
    ("m4-overload", {"policy.per-channel.overload.max_in_flight": 60}, ("per-channel",), "few-in-flight"),
    ("b1-pickers", {"policy.random.picker": "round_robin"}, ("random",), "mm1"),
    ("b1-pickers", {"policy.round-robin.picker": "random"}, ("round-robin",), "em1"),
    ("b1-pickers", {"policy.least-request.picker": "round_robin"}, ("least-request",), "supermarket"),
    ("b1-pickers", {"policy.least-request.picker": "random"}, ("least-request", "random", "round-robin"), "order"),
    ("b2-many-clients", {"client.0.count": 1}, ("least-request",), "no-supermarket"),
    ("b2-many-clients", {"client.0.count": 1}, ("round-robin",), "no-turns"),
    ("b2-many-clients", {"faults": {"timeline": [{"kind": "slow", "target": "b0", "factor": 0.5}]}}, ("round-robin",), "no-worse-than-chance"),
    ("b3-old-reports", {"policy.round-robin.picker": "least_request"}, ("round-robin",), "turns-overload"),
    ("b3-old-reports", {"policy.fresh.picker": "round_robin"}, ("fresh",), "fresh-recovers"),
    ("b3-old-reports", {"policy.old.picker.weight_update_period": 60}, ("old", "fresh"), "old-recovers-late"),
    ("b3-old-reports", {"policy.fresh.picker": "pick_first"}, ("fresh",), "no-herd"),
    ("b3-old-reports", {"policy.least-request.picker": "random"}, ("least-request",), "needs-no-report"),
    ("b4-fast-and-slow", {"faults.timeline.0.factor": 0.1}, ("round-robin",), "all-stable"),
    ("b4-fast-and-slow", {"policy.round-robin.picker": "least_request"}, ("round-robin",), "turns-fall-behind"),
    ("b4-fast-and-slow", {"policy.two-choices.picker": "random"}, ("two-choices",), "choices-keep-up"),
    ("b4-fast-and-slow", {"policy.two-choices.picker": {"name": "least_request", "choice_count": 9}}, ("two-choices",), "choices-fall-behind"),
    ("b4-fast-and-slow", {"policy.weights.picker": "round_robin"}, ("weights",), "weights-keep-up"),
    ("b5-ring-hash", {"policy.ring.picker": {"name": "ring_hash", "max_ring_size": 8}}, ("ring",), "spread"),
    ("b5-ring-hash", {"faults.timeline.0.until": "25s"}, ("ring",), "nobody-else-moves"),
    ("b6-forgiven", {"policy.least-request.picker": {"name": "least_request", "failure_penalty": 0}}, ("least-request",), "shunned"),
    ("b6-forgiven", {"faults.timeline.0.until": "14s"}, ("least-request",), "forgiven"),
    ("b6-forgiven", {"policy.round-robin.picker": "least_request"}, ("round-robin",), "turns-know-nothing"),
    ("p1-buoyant", {"policy.peak-ewma.picker": "least_request"}, ("peak-ewma",), "peak-ewma"),
    ("p1-buoyant", {"policy.least-loaded.picker": "round_robin"}, ("least-loaded",), "least-loaded"),
    ("p1-buoyant", {"faults.timeline.0.until": "25s"}, ("round-robin",), "round-robin"),
    ("p2-two-slow", {"policy.peak-ewma.picker": "least_request"}, ("peak-ewma",), "measured"),
    ("p2-two-slow", {"policy.least-connections.picker": "peak_ewma"}, ("least-connections",), "least-connections"),
    ("p3-random-subsets", {"policy.ninety.subset": 9}, ("ninety",), "most"),
    ("p3-random-subsets", {"client.0.count": 100, "policy.ninety.subset": 30}, ("ninety",), "each-once"),
    ("p4-hedged-reads", {"policy.hedged.failover.hedging_delay": "1ms"}, ("hedged",), "cost"),
    ("p4-hedged-reads", {"client.0.work": {"dist": "pareto", "low": "11383ns", "high": "20s", "alpha": 0.577}}, ("hedged",), "hedged-tail"),
    ("p5-fan-out", {"backend.0.service.share": 0.02}, ("plain",), "sixty-three"),
    ("p5-fan-out", {"client.0.work": {"dist": "bimodal", "short": "10ms", "long": "10s", "share": 0.01}}, ("again",), "a-second-attempt"),
    ("p6-two-generations", {"policy.reported.picker": "round_robin"}, ("reported",), "reported"),
    ("p6-two-generations", {"policy.equal.picker": "least_request"}, ("equal",), "equal"),
    ("p7-retry-load", {"policy.bucket.failover.budget.ratio": 0.2}, ("bucket",), "a-tenth-more"),
    ("p7-retry-load", {"policy.three.failover.max_attempts": 3}, ("three",), "four-times"),
    ("p8-two-choices", {"policy.two.picker": "round_robin"}, ("two",), "two"),
    ("p8-two-choices", {"policy.three.picker.choice_count": 2}, ("three",), "three"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "policies", "check"), BROKEN, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_broken_variant_is_noticed(name: str, changes: dict[str, Any], policies: tuple[str, ...], check: str) -> None:
    assert check in failing_checks(name, changes, policies)
