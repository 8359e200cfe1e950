"""What a scenario came to, as text: the numbers of each policy, the differences in pairs, and the checks.

The one rule: what is shown is what is written into the files, so neither knows more than the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from healthlb.cli.simulate.values import aligned, grouped, is_better, written
from healthlb.simulation.checks import CheckResult
from healthlb.simulation.estimates import Estimate
from healthlb.simulation.record import RunRecord
from healthlb.simulation.running import Outcome
from healthlb.simulation.scenario import Policy, Scenario

ALWAYS = ("requests", "error_ratio", "p50", "p99")
# Shown where it is not nothing.
OFTEN = (
    *("errors", "mean", "p999", "attempts_per_request", "retries", "hedges", "unsent", "imbalance", "ejections"),
    *("returns", "transitions", "connects", "connects_peak", "wasted", "in_flight"),
)
_QUIET = {"attempts_per_request": 1.0}


def head(outcome: Outcome) -> list[str]:
    """Return the lines about what was run."""
    scenario, records = outcome.scenario, outcome.records
    calls = sum(record.metrics["requests"] for record in records)
    cpu = sum(record.cpu_seconds for record in records)
    title = f"{scenario.name}: {scenario.title}" if scenario.title else scenario.name
    often = f"{scenario.replications} times" if scenario.replications > 1 else "once"
    times = f"{scenario.duration / 1e9:g} s, {often}, seed {scenario.seed}"
    lines = [title, f"{times}; {calls:,.0f} calls in {cpu:.1f} s of CPU time, {grouped(calls / max(cpu, 1e-9))}/s"]
    if not outcome.is_complete:
        planned = len(outcome.runs) * scenario.replications
        lines.append(f"interrupted: {len(records)} of {planned} runs are done")
    return lines


def policies(scenario: Scenario, names: Iterable[str]) -> list[str]:
    """Return a line for each policy that says what is on."""
    return [f"{name}: {_told(scenario.policies[name])}" for name in names]


def _told(policy: Policy) -> str:
    picker = policy.picker if isinstance(policy.picker, str) else "a picker with arguments"
    heartbeat, failover = policy.health.heartbeat, policy.failover
    parts = [
        picker,
        f"{failover.max_attempts} attempts" if failover else "no failover",
        "hedging" if failover and failover.hedging_delay is not None else "",
        "ejection" if policy.outliers else "no ejection",
        f"heartbeat every {heartbeat.interval:g} s" if heartbeat and policy.service is not None else "no heartbeat",
        "flap damping" if policy.health.damping else "",
        f"{policy.subset.size} backends each" if policy.subset else "",
        *(f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else name.replace("_", " ")
          for name, value in policy.extra.items()),
        "no health checking" if policy.service is None else "",
    ]  # fmt: skip
    return ", ".join(part for part in parts if part)


def numbers(outcome: Outcome) -> list[str]:
    """Return the metrics, a column for each policy."""
    runs = {policy: records for policy, records in outcome.runs.items() if records}
    if not runs:
        return []
    rows = [["", *runs]]
    for metric in _shown(list(runs.values())):
        rows.append([metric, *(written(metric, _estimate(records, metric)) for records in runs.values())])
    return aligned(rows)


def _estimate(records: Sequence[RunRecord], metric: str) -> Estimate:
    return Estimate.of([record.metrics[metric] for record in records])


def _shown(runs: Sequence[Sequence[RunRecord]]) -> list[str]:
    every = [record for records in runs for record in records]
    rest = [name for name in OFTEN if any(record.metrics[name] != _QUIET.get(name, 0.0) for record in every)]
    return [*ALWAYS, *rest]


def differences(outcome: Outcome, first: str, second: str) -> list[str]:
    """Return the metrics of two policies and what the second has more, pair by pair, with 95 % confidence."""
    pairs = list(zip(outcome.runs[first], outcome.runs[second], strict=False))
    if not pairs:
        return []
    rows = [["", first, second, "difference", ""]]
    for metric in _shown([[record for pair in pairs for record in pair]]):
        before, after = ([record.metrics[metric] for record in records] for records in zip(*pairs, strict=True))
        change = Estimate.of_differences(before, after)
        values = (written(metric, Estimate.of(before)), written(metric, Estimate.of(after)))
        rows.append([metric, *values, written(metric, change, signed=True), verdict(metric, change)])
    return aligned(rows)


def verdict(metric: str, change: Estimate) -> str:
    """Return what a change of a metric amounts to: nothing, as long as its interval holds 0."""
    if change.mean == 0 or (change.count > 1 and abs(change.mean) <= change.half_width()):
        return "="
    if change.count < 2:
        return "?"
    better = is_better(metric, change.mean)
    if better is None:
        return "more" if change.mean > 0 else "less"
    return "better" if better else "worse"


def checks(results: Sequence[CheckResult], *, is_long: bool = False) -> list[str]:
    """Return a line for each check; those that failed say why they should hold.

    Args:
        results: of the checks.
        is_long: whether those that hold tell their numbers too.
    """
    lines = []
    for result in results:
        word = {True: "ok", False: "FAILED", None: "not made"}[result.holds]
        line = f"{word:<8}  {result.name} ({result.policy})"
        if is_long or not result.holds:
            line += f": {result.found}"
        if result.failed:
            line += f", in replication {', '.join(map(str, result.failed))}"
        lines.append(line)
        if result.holds is False and result.why:
            lines.append(f"          {result.why}")
    made = [result for result in results if result.holds is not None]
    if results:
        lines.append(f"{sum(bool(result.holds) for result in made)} of {len(made)} checks hold")
    return lines
