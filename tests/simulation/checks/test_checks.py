"""Checks over records that are made by hand: every function, over one run and over several."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest

from healthlb.simulation.checks import check_functions, check_math
from healthlb.simulation.checks.checks import METRICS, OVER_RUNS, CheckResult, Numbers, evaluate, function_names
from healthlb.simulation.checks.expression import Expression
from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.scenario.laws import Deterministic
from healthlb.simulation.scenario.scenario import SECOND, BackendGroup, ClientGroup, Expectation, Policy, Scenario
from healthlb.simulation.world.record import Bins, Lane, RunRecord

TENTH = SECOND // 10


def histogram(*milliseconds: float) -> Histogram:
    made = Histogram()
    for value in milliseconds:
        made.add(round(value * 1e6))
    return made


def record(policy: str = "plain", replication: int = 0, **metrics: float) -> RunRecord:
    """Return a run of 2 s, of which the first 0.2 s are the warm-up; b0 crashes at 1 s and is up again at 1.5 s."""
    counts = tuple(range(20))
    return RunRecord(
        scenario="hand",
        title="made by hand",
        policy=policy,
        seed=1,
        replication=replication,
        duration=2 * SECOND,
        warmup=2 * TENTH,
        metrics={"requests": 100, "ok": 90, "errors": 10, "error_ratio": 0.1, "p99": 0.05, "ejections": 1, **metrics},
        bins=Bins(
            arrivals=counts,
            ok=(1,) * 20,
            errors={"UNAVAILABLE": (0,) * 10 + (2,) * 10, "DEADLINE_EXCEEDED": (5,) + (0,) * 19},
            picks={"b0": (9, 9) + (1,) * 18, "b1": (9, 9) + (3,) * 18},
            attempts=(18, 18) + (4,) * 18,
            connects=(7,) + (0,) * 15 + (3, 1, 0, 0),
            watch_starts=(2,) * 20,
            tokens=(0.1, 1.0) + (0.9,) * 17 + (0.7,),
            latency=(histogram(1, 2, 3), histogram(100)),
        ),
        lanes=(
            Lane(
                "b0",
                ((0, "up"), (10 * TENTH, "crashed"), (15 * TENTH, "up")),
                ((0, "CONNECTING"), (TENTH, "READY"), (12 * TENTH, "TRANSIENT_FAILURE"), (18 * TENTH, "READY")),
            ),
            Lane("b1", ((0, "up"),), ((0, "READY"), (11 * TENTH, "ejected"), (13 * TENTH, "READY"))),
        ),
        latency=histogram(*range(1, 101)),
        confusion={
            ("up", "READY"): 30,
            ("crashed", "READY"): 2,
            ("crashed", "TRANSIENT_FAILURE"): 4,
            ("up", "ejected"): 4,
        },
        confusion_of={
            "b0": {("up", "READY"): 12, ("crashed", "READY"): 2, ("crashed", "TRANSIENT_FAILURE"): 6},
            "b1": {("up", "READY"): 15, ("up", "ejected"): 5},
        },
    )


def ask(text: str, run: RunRecord | None = None, **parameters: float) -> float:
    numbers = Numbers(run or record(), parameters)
    return Expression(text).value(numbers.names, numbers.functions)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("picks('b0')", 18),
        ("picks('b*')", 72),
        ("picks('b0', 0, '300ms')", 19),
        ("picks('b1', '1s', '1.25s')", 9),
        ("share('b0')", 0.25),
        ("share('b0', 0, 0.2)", 0.5),
        ("requests_in(1, 2)", 145),
        ("ok_in(0.5, 1.0)", 5),
        ("errors_in(0, 2)", 25),
        ("errors_by('UNAVAILABLE')", 20),
        ("errors_by('DEADLINE_EXCEEDED')", 0),
        ("errors_by('DEADLINE_EXCEEDED', 0)", 5),
        ("errors_by('INTERNAL')", 0),
        ("count('connects')", 4),
        ("peak('connects')", 3),
        ("peak('connects', 0)", 7),
        ("peak('arrivals', 0, 1)", 9),
        ("tokens()", 0.7),
        ("tokens(0, 1)", 0.1),
        ("was('b0', 'up')", 13 / 18),
        ("was('b*', 'crashed', 1, 2)", 0.25),
        ("believed('b0', 'READY')", 0.7),
        ("believed('b*', 'ejected')", 0.125),
        ("believed('b0', 'READY', 1, 2)", 0.4),
        ("confused('crashed', 'READY')", 0.05),
        ("down_in('b*')", 0.5),
        ("down_in('b0', 0, '1.2s')", 0.2),
        ("out_in('b0', 1, 2)", 0.6),
        ("became('b*', 'crashed')", 1),
        ("became('b*', 'up')", 1),
        ("taken_for('b*', 'READY')", 2),
        ("taken_for('b*', 'READY', 0)", 4),
        ("at_once('ejected')", 1),
        ("at_once('READY')", 2),
        ("at_once('damped')", 0),
        ("lag('b*')", 0.2),
        ("return_lag('b0')", 0.3),
        ("errors == errors_by('UNAVAILABLE') / factor", True),
        ("min(2, 3) + max(1, 5) - sqrt(16) + log(exp(1)) + floor(1.5) + ceil(1.5) + log2(8) + abs(-1)", 11.0),
        ("in_seconds('50ms') == max(p99, '1ms')", True),
        ("erlang_c(1, 0.5)", 0.5),
        ("supermarket(0.5, 1)", 2.0),
    ],
)
def test_what_a_check_may_ask(text: str, value: float) -> None:
    assert ask(text, factor=2) == pytest.approx(value)


def test_percentiles() -> None:
    assert ask("p(0.5)") == pytest.approx(0.050, rel=0.011)
    assert ask("p(1)") == pytest.approx(0.1)
    assert ask("p(0.99, 0, 1)") == pytest.approx(0.003)
    assert ask("p(0.5, '1s')") == pytest.approx(0.1)


@pytest.mark.parametrize(
    "text",
    [
        *("picks('x')", "p(2)", "peak('errors')", "was('b0', 'UP')", "believed('b0', 'SHUTDOWN')", "at_once('x')"),
        *("errors_in('soon', 1)", "was('b0', 'up', 2, 1)", "share('b0', 5)", "other('tuned', 'p99')", "log(-1)"),
        *("supermarket(1, 2)", "erlang_c(1e9, 1)", "erlang_c(1.5, 1)", "sqrt(0 - 1)", "mm1_mean(1)", "in_seconds('x')"),
        *("confused('x', 'READY')", "confused('up', 'x')", "became('b0', 'x')", "taken_for('b0', 'x')"),
        *("exp(1000)", "dm1_mean(0)", "damping_peak(1, 0, 0)", "crash_loss('a', 1, 1)"),
    ],
)
def test_what_has_no_value_does_not_hold(text: str) -> None:
    numbers = Numbers(record())

    verdict = Expression(f"{text} >= 0").judge(numbers.names, numbers.functions)

    assert not verdict.holds
    assert "(column 1)" in verdict.why


@pytest.mark.parametrize("name", check_math.FUNCTIONS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, 3.0, 1e5, 1e308, -1.0, math.inf, math.nan])
def test_no_number_makes_a_function_hang_or_raise(name: str, value: float) -> None:
    _, least, most = check_math.FUNCTIONS[name]
    for count in range(least, min(most, 5) + 1):
        arguments = ", ".join(["x"] * count)

        Expression(f"{name}({arguments}) > 0").judge({"x": value}, Numbers(record()).functions)


# --- over policies and replications ---------------------------------------------------------------------


def scenario(*checks: tuple[str, str | None], **parameters: float) -> Scenario:
    return Scenario(
        name="hand",
        backends=(BackendGroup(count=2, service=Deterministic(1)),),
        clients=(ClientGroup(),),
        policies={name: Policy(name=name) for name in ("plain", "tuned")},
        parameters=parameters,
        expect=tuple(
            Expectation(name=f"check{place}", check=check, why="so", policy=policy)
            for place, (check, policy) in enumerate(checks)
        ),
    )


def runs(*errors: float, **others: tuple[float, ...]) -> Mapping[str, Any]:
    named = {"plain": errors, **others}
    return {
        policy: [record(policy, place, errors=value) for place, value in enumerate(values)]
        for policy, values in named.items()
    }


def held(check: str, all_runs: Mapping[str, Any], policy: str | None = None) -> list[bool | None]:
    return [result.holds for result in evaluate(scenario((check, policy)), all_runs)]


def test_a_check_holds_for_every_replication() -> None:
    result = evaluate(scenario(("errors < limit", None), limit=9), runs(5, 9, 7, 12))

    assert result == [
        CheckResult("check0", "plain", "errors < limit", "so", False, "errors = 9, needed < limit = 9", (1, 3))
    ]
    assert held("errors < 13", runs(5, 9, 7, 12)) == [True]


def test_a_check_holds_for_every_policy_or_for_its_own() -> None:
    both = runs(5, 6, tuned=(15, 6))

    assert held("errors < 10", both) == [True, False]
    assert held("errors < 10", both, "plain") == [True]
    assert held("errors < 10", both, "tuned") == [False]
    assert held("errors < 10", runs(5, tuned=()), "tuned") == []


def test_another_policy_is_asked_in_the_same_replication() -> None:
    both = runs(5, 8, tuned=(4, 7))

    assert held("errors > other('tuned', 'errors')", both, "plain") == [True]
    assert held("errors > other('tuned', 'errors') + 1", both, "plain") == [False]


def test_a_policy_that_was_not_run_cannot_be_asked() -> None:
    (result,) = evaluate(scenario(("errors > other('tuned', 'errors')", None)), runs(5))

    assert (result.holds, result.found) == (None, "policy tuned was not run")


def test_what_is_asked_over_all_replications() -> None:
    three = runs(4, 6, 8, tuned=(1, 2, 4))

    for check in (
        "mean_of('errors') == 6",
        "errors == 6",
        "picks('b0') == 18 and mean_of('ok') == 90",
        "total('errors') == errors * replications == 18",
        "abs(ci95('errors') - 4.968) < 0.001",
        "mean_of('errors', 'tuned') < 2.4",
        "abs(gain('errors', 'tuned') - 3.6667) < 0.001",
        "gain('errors', 'tuned') > gain_ci95('errors', 'tuned')",
    ):
        over_runs = check if "(" in check and "'errors'" in check else f"{check} and total('ok') > 0"
        assert held(over_runs, three, "plain") == [True], check
    assert held("ci95('errors') > 1e9", runs(5)) == [True]


def test_pairs_are_made_as_far_as_both_were_run() -> None:
    assert held("gain('errors', 'tuned') == 3", runs(4, 6, 8, tuned=(1, 3)), "plain") == [True]


def test_every_function_has_a_name_of_its_own() -> None:
    tables = (check_functions.FUNCTIONS, check_math.FUNCTIONS, OVER_RUNS, {"other": 0}, METRICS)

    assert len(function_names()) + len(METRICS) == sum(map(len, tables))
    for function in check_functions.FUNCTIONS.values():
        assert function.least <= len(function.takes)


def test_a_record_without_lanes_or_confusions_by_backend() -> None:
    bare = dataclasses.replace(record(), confusion_of={})

    assert ask("believed('b0', 'READY')", bare) == pytest.approx(12 / 18)
