"""Checks: what a scenario expects, held against the records of its runs.

A check holds for every replication and, unless it names one, for every policy. One that asks for
something over all replications (`replications`, `mean_of`, `ci95`, `total` and their like) is asked once, and every
other number in it is the mean over the replications.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from healthlb.config import code_name
from healthlb.errors import ConfigError
from healthlb.simulation.checks import check_functions, check_math
from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.checks.expression import Call, Expression, ExpressionError, Verdict
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario.scenario import Expectation, Scenario
from healthlb.simulation.world.record import BELIEFS, TRUTHS, RunRecord

Runs = Mapping[str, Sequence[RunRecord]]
"""The records of a scenario by policy, each policy's in the order of the replications."""

METRICS: Mapping[str, str] = {
    "requests": "calls that began after the warm-up",
    "ok": "of these, those that ended well",
    "errors": "of these, those that ended otherwise",
    "in_flight": "of these, those that had not ended when the run did",
    "error_ratio": "errors / requests",
    "goodput": "ok / requests",
    "ok_rate": "calls per second that ended well",
    "attempts": "attempts that were sent",
    "attempts_per_request": "attempts / requests",
    "retries": "attempts after a call's first, hedges excluded",
    "hedges": "attempts that were sent beside another",
    "unsent": "attempts that never left: the connection was gone",
    "mean": "mean latency of the good calls, in seconds",
    "p50": "their median, in seconds",
    "p90": "their 90th percentile, in seconds",
    "p95": "their 95th percentile, in seconds",
    "p99": "their 99th percentile, in seconds",
    "p999": "their 99.9th percentile, in seconds",
    "max": "the slowest of them, in seconds",
    "imbalance": "attempts of the backend that got most, over the mean",
    "transitions": "changes of what clients took backends for",
    "ejections": "backends ejected, over all clients",
    "returns": "backends that came back from it",
    "connects": "connections that were begun",
    "connects_peak": "the most of them in 100 ms",
    "watch_starts": "Watches that were opened",
    "picker_builds": "pickers that were built",
    "wasted": "server seconds spent on calls that nobody waited for",
    "clients": "how many there are",
    "backends": "how many there are",
    "duration": "seconds in which calls arrive, the warm-up included",
    "seconds": "of these, those after the warm-up",
    "lam": "calls per second that are offered by all clients",
    "rho": "the load of all backends at their full speed, if each call is sent once",
    "user_requests": "user requests of several calls (`fanout`) that began after the warm-up and are over",
    "user_errors": "of these, those of which a call failed",
    "user_p50": "the median latency of the others, in seconds: a request is as slow as its slowest call",
    "user_p99": "their 99th percentile, in seconds",
    "tokens_min": "the least that was left of any retry budget, as a share",
    "replications": "how many runs there are; a check that names it looks at all of them",
}
OVER_RUNS: Mapping[str, tuple[tuple[str, ...], int, str]] = {
    "mean_of": (("metric", "policy"), 1, "the mean over the replications"),
    "ci95": (("metric", "policy"), 1, "half of the 95 % confidence interval of that mean"),
    "total": (("metric", "policy"), 1, "the sum over the replications"),
    "gain": (("metric", "policy"), 2, "the mean of what the metric is larger than under the other policy, in pairs"),
    "gain_ci95": (("metric", "policy"), 2, "half of the 95 % confidence interval of that"),
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What became of one check under one policy.

    Attributes:
        name: of the check.
        policy: under which it was made.
        check: the expression.
        why: the law behind it.
        holds: whether it held; None where it could not be made, as another policy was not run.
        found: the numbers that went in: of the first replication in which it failed, or of the first.
        failed: the replications in which it failed; empty for a check over all of them.
    """

    name: str
    policy: str
    check: str
    why: str
    holds: bool | None
    found: str
    failed: tuple[int, ...] = ()


class Numbers:
    """What a check may ask of one run.

    Args:
        record: of the run.
        parameters: of the scenario.
        others: the runs of the same replication, by policy.

    Attributes:
        names: the numbers, by name.
        functions: the functions, by name.
    """

    __slots__ = ("functions", "names")

    def __init__(
        self,
        record: RunRecord,
        parameters: Mapping[str, float] | None = None,
        others: Mapping[str, RunRecord] | None = None,
    ) -> None:
        self.names = {**(parameters or {}), **record.metrics}
        self.functions: dict[str, Callable[..., float]] = {
            name: _bound(function.call, record) for name, function in check_functions.FUNCTIONS.items()
        }
        self.functions |= {name: _of_numbers(entry[0]) for name, entry in check_math.FUNCTIONS.items()}
        self.functions["other"] = lambda policy, metric: _metric(_of(others or {}, policy), metric)


def _bound(call: Callable[..., float], record: RunRecord) -> Callable[..., float]:
    def ask(*arguments: Any) -> float:
        return call(record, *arguments)

    return ask


def _of_numbers(call: Callable[..., float]) -> Callable[..., float]:
    def ask(*arguments: float | str) -> float:
        seconds = (parse_duration("a time", one) / 1e9 if isinstance(one, str) else one for one in arguments)
        return call(*seconds)

    return ask


def _of(runs: Mapping[str, Any], policy: str) -> Any:
    if policy not in runs:
        raise ExpressionError(f"policy {policy!r} was not run")
    return runs[policy]


def _metric(record: RunRecord, name: str) -> float:
    if name not in record.metrics:
        raise ExpressionError(f"there is no metric {name!r}")
    return record.metrics[name]


def is_over_runs(expression: Expression) -> bool:
    """Whether it asks for something over all replications."""
    return "replications" in expression.names or any(call.function in OVER_RUNS for call in expression.calls)


def evaluate(scenario: Scenario, runs: Runs) -> list[CheckResult]:
    """Return what became of every check of a scenario under every policy that was run, in the file's order."""
    return [
        _evaluate(expectation, policy, scenario.parameters, runs)
        for expectation in scenario.expect
        for policy in runs
        if expectation.policy in (None, policy) and runs[policy]
    ]


def _evaluate(expectation: Expectation, policy: str, parameters: Mapping[str, float], runs: Runs) -> CheckResult:
    expression = Expression(expectation.check)
    result = CheckResult(expectation.name, policy, expectation.check, expectation.why, None, "")
    missing = _named_policies(expression) - {name for name in runs if runs[name]}
    if missing:
        return _with(result, None, f"policy {', '.join(sorted(missing))} was not run")
    numbers = _numbers(policy, parameters, runs)
    if is_over_runs(expression):
        verdict = _judge_over_runs(expression, policy, numbers, runs)
        return _with(result, verdict.holds, verdict.why)
    verdicts = [expression.judge(one.names, one.functions) for one in numbers]
    failed = [place for place, verdict in enumerate(verdicts) if not verdict.holds]
    shown = verdicts[failed[0]] if failed else verdicts[0]
    replications = tuple(runs[policy][place].replication for place in failed)
    return _with(result, not failed, shown.why, replications)


def _with(result: CheckResult, holds: bool | None, found: str, failed: tuple[int, ...] = ()) -> CheckResult:
    return CheckResult(result.name, result.policy, result.check, result.why, holds, found, failed)


def _named_policies(expression: Expression) -> set[str]:
    found = set()
    for call in expression.calls:
        kinds = _kinds(call.function)
        found |= {text for kind, text in zip(kinds, call.arguments, strict=False) if kind == "policy" and text}
    return found


def _numbers(policy: str, parameters: Mapping[str, float], runs: Runs) -> list[Numbers]:
    """Return those of each replication; where another policy has fewer, it is missing in the last ones."""
    made = []
    for place, record in enumerate(runs[policy]):
        others = {name: records[place] for name, records in runs.items() if place < len(records)}
        made.append(Numbers(record, parameters, others))
    return made


def _judge_over_runs(expression: Expression, policy: str, numbers: Sequence[Numbers], runs: Runs) -> Verdict:
    names = {name: fmean(one.names[name] for one in numbers) for name in numbers[0].names}
    names["replications"] = len(numbers)
    functions = {name: _mean_function(name, numbers) for name in numbers[0].functions}

    def values(metric: str, of: str = policy) -> list[float]:
        return [_metric(record, metric) for record in _of(runs, of)]

    def gain(metric: str, of: str) -> Estimate:
        return Estimate.of_differences(values(metric, of)[: len(numbers)], values(metric)[: len(values(metric, of))])

    functions |= {
        "mean_of": lambda *metric: fmean(values(*metric)),
        "ci95": lambda *metric: Estimate.of(values(*metric)).half_width(),
        "total": lambda *metric: sum(values(*metric)),
        "gain": lambda metric, of: gain(metric, of).mean,
        "gain_ci95": lambda metric, of: gain(metric, of).half_width(),
    }
    return expression.judge(names, functions)


def _mean_function(name: str, numbers: Sequence[Numbers]) -> Callable[..., float]:
    if name in check_math.FUNCTIONS:
        return numbers[0].functions[name]
    return lambda *arguments: fmean(one.functions[name](*arguments) for one in numbers)


# --- before anything runs ---------------------------------------------------------------------------


def check_expectation(scenario: Scenario, expectation: Expectation, key: str) -> None:
    """Raise ConfigError where a check cannot be made: it is malformed, or names what there is not.

    Args:
        scenario: whose check it is.
        expectation: the check.
        key: what an error calls it.
    """
    try:
        expression = Expression(expectation.check)
        for name, place in expression.names.items():
            if name not in METRICS and name not in scenario.parameters:
                raise ExpressionError(f"{name!r} is neither a metric nor a parameter (column {place})")
        for call in expression.calls:
            _check_call(scenario, call)
    except ExpressionError as error:
        raise ConfigError(f"{key}: {error}") from error
    same = sorted(METRICS.keys() & scenario.parameters.keys())
    if same:
        raise ConfigError(f"{key}: parameters must not have the name of a metric, as {', '.join(same)}")


def _kinds(function: str) -> tuple[str, ...]:
    if function == "other":
        return "policy", "metric"
    if function in OVER_RUNS:
        return OVER_RUNS[function][0]
    if function in check_functions.FUNCTIONS:
        return check_functions.FUNCTIONS[function].takes
    return ("number",) * check_math.FUNCTIONS[function][2] if function in check_math.FUNCTIONS else ()


def _least(function: str) -> int:
    if function == "other":
        return 2
    if function in OVER_RUNS:
        return OVER_RUNS[function][1]
    entry = check_functions.FUNCTIONS.get(function)
    return entry.least if entry else check_math.FUNCTIONS[function][1]


def function_names() -> tuple[str, ...]:
    """Return the names of all functions, sorted."""
    return tuple(sorted({"other", *OVER_RUNS, *check_functions.FUNCTIONS, *check_math.FUNCTIONS}))


def _check_call(scenario: Scenario, call: Call) -> None:
    place = f" (column {call.place})"
    if call.function not in function_names():
        raise ExpressionError(f"there is no function {call.function!r}{place}; there are {', '.join(function_names())}")
    kinds, least = _kinds(call.function), _least(call.function)
    if not least <= len(call.arguments) <= len(kinds):
        wanted = f"{least}" if least == len(kinds) else f"{least} to {len(kinds)}"
        raise ExpressionError(f"{call.function} takes {wanted} argument(s), not {len(call.arguments)}{place}")
    for kind, text in zip(kinds, call.arguments, strict=False):
        try:
            _check_argument(scenario, kind, text)
        except ConfigError as error:
            raise ExpressionError(f"{call.function}: {error}{place}") from error


def _check_argument(scenario: Scenario, kind: str, text: str | None) -> None:
    if kind in ("number", "time"):
        if text is not None:
            parse_duration("a time", text)
        return
    if text is None:
        raise ExpressionError(f"it takes a text here, the name of a {kind.removesuffix('s')}")
    choices: dict[str, Sequence[str]] = {
        "truth": TRUTHS,
        "belief": BELIEFS,
        "series": check_functions.SERIES,
        "policy": list(scenario.policies),
        "metric": [name for name in METRICS if name != "replications"],
    }
    if kind == "backends":
        check_functions.matching(text, [f"{g.name}{number}" for g in scenario.backends for number in range(g.count)])
    elif kind == "code":
        code_name("a code", text)
    elif text not in choices[kind]:
        raise ExpressionError(f"a {kind} must be one of {', '.join(choices[kind])}, not {text!r}")
