"""The simulator against real servers: what can be said on any machine here, the rest with `-m calibrate`."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from healthlb.simulation.calibration.judgement import Judgement, Row, judge, quantile, sums, transitions_of
from healthlb.simulation.calibration.plan import FLAPPING, RATE, Sequenced, make_plan, make_scenario
from healthlb.simulation.calibration.real import Called, Observed
from healthlb.simulation.commands.calibrate import SKIPPED, command
from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.world import world

MILLISECOND = 1_000_000


def test_the_same_seed_gives_the_same_plan() -> None:
    plan = make_plan(8, 1)

    assert plan == make_plan(8, 1)
    assert plan.times != make_plan(8, 2).times
    assert len(plan.works) == len(plan.times) == pytest.approx(8 * RATE, rel=0.1)
    assert [(flip.at // 10**9, flip.status) for flip in plan.flips[:4]] == [
        (1, "NOT_SERVING"), (2, "SERVING"), (3, "NOT_SERVING"), (4, "SERVING"),
    ]  # fmt: skip


def test_the_simulator_makes_the_plans_calls_with_the_plans_work() -> None:
    plan = make_plan(4, 3)
    record = world.run(make_scenario(plan, plan.works), "real")

    assert record.metrics["requests"] == len(plan.times)
    assert record.metrics["errors"] == 0
    assert transitions_of(plan, record) == 7
    assert record.latency.mean >= sum(plan.works) / len(plan.works)


def test_a_sequence_is_a_law() -> None:
    law = Sequenced([3, 5])

    assert (law.mean, law.mean_square) == (4, 17)
    assert [law.draw(lambda: 0.5), law.draw(lambda: 0.5)] == [3, 5]


def test_sums_are_of_all_pairs() -> None:
    histogram = Histogram()
    for milliseconds in (10, 20):
        histogram.add(milliseconds * MILLISECOND)
    together = sums(histogram, [1 * MILLISECOND, 3 * MILLISECOND])

    assert quantile(together, 0.5) == pytest.approx(13 * MILLISECOND, rel=0.02)
    assert quantile(together, 1.0) == pytest.approx(23 * MILLISECOND, rel=0.02)
    assert sum(together) / len(together) == pytest.approx(17 * MILLISECOND, rel=0.02)


def imagined(lag: int = 0, longer: float = 1.0) -> Judgement:
    """A world that does what the simulator says, but for what is asked for."""
    plan = make_plan(8, 1)
    record = world.run(make_scenario(plan, plan.works), "real")
    observed = Observed(transitions=7, load=(0.5, 0.6))
    observed.picks = [sum(record.bins.picks[f"b{number}"]) for number in range(3)]
    latencies = [round(longer * record.latency.quantile((n * 617 % 997 + 0.5) / 997)) for n in range(len(plan.times))]
    for at, work, latency in zip(plan.times, plan.works, latencies, strict=True):
        observed.calls.append(Called(at, at + latency, lag, work, latency, work, True))
    return judge(plan, observed)


def test_agreement_is_seen() -> None:
    judgement = imagined()

    assert judgement.holds, judgement
    assert judgement.skipped == ""
    assert [row.name for row in judgement.latencies] == ["mean", "p50", "p99"]


def test_disagreement_is_seen() -> None:
    judgement = imagined(longer=1.3)

    assert not judgement.holds
    assert [row.holds for row in judgement.decisions] == [True] * 6
    assert not judgement.latencies[0].holds


def test_a_busy_machine_makes_no_judgement() -> None:
    assert imagined(lag=11 * MILLISECOND).skipped.startswith(
        "the machine is too busy: 1 % of the calls were made 11.0 ms"
    )
    assert imagined(lag=10 * MILLISECOND).skipped == ""


@pytest.mark.parametrize(
    ("error", "allowed", "holds"), [(0.01, 0.01, True), (-0.011, 0.01, False), (9.0, None, True), (1.0, 0.0, False)]
)
def test_an_error_is_allowed_or_not(error: float, allowed: float | None, holds: bool) -> None:
    assert Row("x", 1.0, 1.0, error, allowed).holds is holds


def test_on_real_servers_every_call_is_answered_and_every_flip_is_seen() -> None:
    result = CliRunner().invoke(command, ["--seconds", "6", "--json"])
    document = json.loads(result.stdout)

    assert result.exit_code in (0, 1, SKIPPED)
    assert document["calls"] == len(make_plan(6, 1).times)
    rows = {row["name"]: row for row in document["decisions"]}
    assert rows["transitions"]["real"] == rows["transitions"]["simulated"] == 7
    assert rows["errors per call"]["real"] == rows["errors per call"]["simulated"] == 0
    assert rows[f"share of b{FLAPPING}"]["real"] < 1 / 3
    assert set(document["machine"]) == {"on the way p50", "on the way p99", "overslept p50", "overslept p99"}
    assert 10e-6 < document["cpu"] < 10e-3
    assert document["skipped"] or document["lag"] <= 10 * MILLISECOND


@pytest.mark.calibrate
def test_the_simulator_agrees_with_this_machine() -> None:
    result = CliRunner().invoke(command, ["--seconds", "20"])

    if result.exit_code == SKIPPED:
        pytest.skip(result.stdout.splitlines()[-1])
    assert result.exit_code == 0, result.stdout
