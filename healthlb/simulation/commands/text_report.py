"""What a scenario came to, as text: the numbers of each policy, the differences in pairs, and the checks.

What is shown is what is written into the files, so neither knows more than the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass

from healthlb.simulation.checks.checks import CheckResult
from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.commands.values import aligned, grouped, is_better, written
from healthlb.simulation.report.metrics import DAGGER, is_of_survivors, lost
from healthlb.simulation.running import Outcome
from healthlb.simulation.scenario.scenario import PickerWithArguments, Policy, Scenario
from healthlb.simulation.world.record import RunRecord

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
    hashes = [record.trace_hash for record in records if record.trace_hash]
    return [*lines, f"trace {_digest(hashes)}"] if hashes else lines


def _digest(hashes: Sequence[str]) -> str:
    """Return the digest of a trace, of several that of their digests."""
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b("\n".join(hashes).encode(), digest_size=16).hexdigest()


def policies(scenario: Scenario, names: Iterable[str]) -> list[str]:
    """Return a line for each policy that says what is on; those that would be alike say what differs, too."""
    told = {name: _told(scenario.policies[name]) for name in names}
    lines = []
    for name, line in told.items():
        alike = [scenario.policies[other] for other in told if told[other] == line and other != name]
        lines.append(f"{name}: {', '.join([line, *_differing(scenario.policies[name], alike)])}")
    return lines


def _differing(policy: Policy, others: Sequence[Policy]) -> list[str]:
    """Return the settings of a policy in which one of the others differs, as "failover.budget.ratio 0.2"."""
    own, theirs = _settings("", policy), [_settings("", other) for other in others]
    names = dict.fromkeys(name for one in (own, *theirs) for name in one if name != "name")
    differ = [name for name in names if any(one.get(name) != own.get(name) for one in theirs)]
    return [f"{name} {own[name]}" if name in own else f"no {name}" for name in differ]


def _settings(name: str, value: object) -> dict[str, str]:
    if is_dataclass(value) and not isinstance(value, PickerWithArguments):
        inner = {f"{name}.{one.name}" if name else one.name: getattr(value, one.name) for one in fields(value)}
    elif isinstance(value, Mapping):
        inner = {f"{name}.{key}": one for key, one in value.items()}
    else:
        return {name: str(value)}
    return {place: text for key, one in inner.items() for place, text in _settings(key, one).items()}


def _told(policy: Policy) -> str:
    is_named = isinstance(policy.picker, str | PickerWithArguments)
    heartbeat, failover = policy.health.heartbeat, policy.failover
    parts = [
        str(policy.picker) if is_named else "a picker of its own",
        f"{failover.max_attempts} attempts" if failover else "no failover",
        "hedging" if failover and failover.hedging_delay is not None else "",
        "ejection" if policy.outliers else "no ejection",
        f"heartbeat every {heartbeat.interval:g} s" if heartbeat and policy.service is not None else "no heartbeat",
        "flap damping" if policy.health.damping else "",
        f"{policy.subset.size} backends each" if policy.subset else "",
        *(f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else name.replace("_", " ")
          for name, value in policy.extras.items()),
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
    more_lost = lost([after for _, after in pairs]) - lost([before for before, _ in pairs])
    for metric in _shown([[record for pair in pairs for record in pair]]):
        before, after = ([record.metrics[metric] for record in records] for records in zip(*pairs, strict=True))
        change = Estimate.of_differences(before, after)
        values = (written(metric, Estimate.of(before)), written(metric, Estimate.of(after)))
        rows.append([metric, *values, written(metric, change, signed=True), verdict(metric, change, more_lost)])
    return aligned(rows)


def verdict(metric: str, change: Estimate, more_lost: float = 0.0) -> str:
    """Return what a change of a metric amounts to: nothing, as long as its interval holds 0.

    Args:
        metric: its name.
        change: from the first policy to the second.
        more_lost: the share of calls that the second loses beyond those that the first does. A latency that looks
            better for whoever loses more is of fewer calls, and no better.
    """
    if change.mean == 0 or (change.count > 1 and abs(change.mean) <= change.half_width()):
        return "="
    if change.count < 2:
        return "?"
    better = is_better(metric, change.mean)
    if better is not None and is_of_survivors(metric, more_lost if better else -more_lost):
        return DAGGER
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
