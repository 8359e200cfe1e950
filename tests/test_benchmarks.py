"""The benchmarks run, with next to no effort, and say of their samples what is true of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from healthlb.pickers import picker_names
from tests.backends import Backend
from tests.benchmarks import command, faults, instructions, jobs, pick, report
from tests.benchmarks.catalogue import FIGURES, Measurement, Target
from tests.benchmarks.effort import Effort
from tests.benchmarks.jobs import Job
from tests.benchmarks.pairing import alternate
from tests.benchmarks.statistics import Ratio, pairwise_ratio
from tests.parity.sync_face import SyncFace

TINY = Effort(
    rounds=2,
    calls=3,
    throughput_rounds=2,
    stream_rounds=2,
    messages=20,
    seconds=0.02,
    threads=2,
    tasks=2,
    picks=20,
    pick_rounds=2,
    pick_sizes=(2, 30),
    publications=2,
    subchannels=5,
    idle_seconds=0.05,
    flips=1,
    counted_rounds=2,
    counted_calls=10,
    simulated_calls=2_000,
    simulation_rounds=2,
)
SCALE = {"up", "opening_cpu", "threads", "cpu", "out", "in", "memory", "rss"}


def names(measurements: list[Measurement]) -> set[str]:
    return {measurement.figure for measurement in measurements}


@pytest.mark.parametrize("part", ["latency", "throughput"])
@pytest.mark.parametrize("face", jobs.FACES)
def test_calls_are_measured_for_all_contestants(part: str, face: str) -> None:
    (measurement,) = jobs.run(Job(part=part, face=face), TINY)

    assert measurement.figure == f"{face}_{part}"
    assert {name: len(values) for name, values in measurement.samples.items()} == {
        "healthlb": 2,
        "native": 2,
        "retrying": 2,
        "plain": 2,
        "again": 2,
    }
    assert all(value > 0 for values in measurement.samples.values() for value in values)


@pytest.mark.parametrize("face", jobs.FACES)
def test_streams_are_measured(face: str) -> None:
    measurements = jobs.run(Job(part="streaming", face=face), TINY)

    assert names(measurements) == {f"{face}_stream", f"{face}_bidi"}
    assert all(value > 0 for one in measurements for values in one.samples.values() for value in values)


def test_every_picker_is_measured_at_every_size() -> None:
    measurements = jobs.measure(Job(part="pick"), TINY)

    assert names(measurements) == {
        *("pick", "pick_weighing", "pick_hashing", "pick_other"),
        *("pick_growth", "publication", "pick_reference", "reference_growth", "sync_path"),
    }
    assert {one.detail for one in measurements if one.figure == "pick"} == {
        f"{picker}, {size} subchannels" for picker in ("round_robin", "random") for size in (2, 30)
    }
    assert {case.name.partition(",")[0].partition(" ")[0] for case in pick.CASES} == set(picker_names())


@pytest.mark.parametrize("face", jobs.FACES)
@pytest.mark.parametrize("contestant", ["healthlb", "native"])
def test_scale_is_measured_alone(face: str, contestant: str) -> None:
    measurements = jobs.run(Job(part="scale", face=face, contestant=contestant), TINY)

    assert names(measurements) == {f"scale_{name}" for name in SCALE}
    assert {name for one in measurements for name in one.samples} == {contestant}


def test_a_simulation_is_measured_by_its_own_process() -> None:
    measurements = jobs.run(Job(part="simulation"), TINY)

    assert names(measurements) == {"simulation_rate", "simulation_million", "simulation_memory"}
    assert all(value > 0 for one in measurements for value in one.samples["healthlb"])
    assert all(len(one.samples["healthlb"]) == 2 for one in measurements)


def test_a_run_prints_a_table_and_writes_every_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    code = command.main(["latency", "--face", "sync", "--quick", "--rounds", "2", "--json", str(file)])
    written = json.loads(file.read_text())

    assert code == 0
    assert "| sync unary p50, 1 thread |" in capsys.readouterr().out
    assert written["figures"][0]["noise"]["median"] > 0
    assert {"cpus", "python", "grpcio"} <= set(written["machine"])
    assert len(written["load_before"]) == len(written["load_after"]) == 3
    assert len(written["figures"][0]["samples"]["healthlb"]) == 2


def test_a_job_that_fails_is_told_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.jobs, "plan", lambda *arguments, **options: iter([Job(part="no such part")]))

    assert command.main(["pick"]) == 1
    assert "no such part ended with 1" in capsys.readouterr().err


def test_a_row_can_be_repeated_alone(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command.main(["--row", "aio_bidi", "--quick", "--rounds", "2", "--json", str(file)])

    assert [row["figure"] for row in json.loads(file.read_text())["figures"]] == ["aio_bidi"]


@pytest.mark.valgrind
@pytest.mark.timeout(600)  # everything is fifty times as slow
def test_instructions_are_counted_per_call() -> None:
    with Backend() as backend:
        counted = instructions.count(TINY, "sync", "unary", "healthlb", [backend.address])

    assert len(counted) == TINY.counted_rounds
    assert all(50 < thousands < 5_000 for thousands in counted)


def test_blocks_take_turns_in_every_order() -> None:
    turns: list[str] = []
    blocks = {name: lambda name=name: turns.append(name) or 1.0 for name in "abc"}
    samples = alternate(blocks, 6)

    assert samples == {"a": [1.0] * 6, "b": [1.0] * 6, "c": [1.0] * 6}
    assert len({tuple(turns[start : start + 3]) for start in range(0, 18, 3)}) == 6


def test_a_ratio_is_the_median_of_pairs() -> None:
    assert pairwise_ratio([1.0, 20.0, 3.0], [2.0, 10.0, 3.0]) == Ratio(1.0, 0.5, 2.0)


def test_a_drift_that_all_share_is_no_difference() -> None:
    drift = [1.0, 10.0, 100.0, 1000.0]

    assert pairwise_ratio([1.1 * one for one in drift], drift).median == pytest.approx(1.1)


def test_samples_without_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        pairwise_ratio([], [])


@pytest.mark.parametrize(
    ("healthlb", "verdict"),
    [([1.0] * 9, "yes"), ([2.0] * 9, "no"), ([1.0, 2.0, 1.0] * 3, "yes?"), ([2.0, 1.0, 2.0] * 3, "no?")],
)
def test_a_verdict_says_whether_the_interval_leaves_it_open(healthlb: list[float], verdict: str) -> None:
    samples = {"healthlb": healthlb, "retrying": [1.0] * 9, "native": [9.0] * 9}
    (row,) = report.rows([Measurement("sync_latency", samples)])

    assert row.verdict == verdict


def test_contestants_measured_apart_share_a_row() -> None:
    measurements = [
        Measurement("scale_threads", {name: [number]}, "sync") for name, number in (("healthlb", 21.0), ("native", 7.0))
    ]
    (row,) = report.rows(measurements)

    assert row.cells() == ("threads, most ever sync", "21", "7", "", "", "", "", "<= 20", "no")


def test_what_the_method_is_off_by_leaves_a_verdict_open() -> None:
    samples = {"healthlb": [1.0] * 9, "retrying": [1.0] * 9, "native": [1.0] * 9}
    verdicts = [
        report.rows([Measurement("sync_latency", {**samples, "again": [again] * 9})])[0].verdict
        for again in (1.0, 1.05)
    ]

    assert verdicts == ["yes", "yes?"]


def test_targets_are_those_of_the_requirement() -> None:
    targets = {name: figure.target for name, figure in FIGURES.items() if figure.target is not None}

    assert targets["sync_latency"] == targets["aio_latency"] == Target("ratio", "<=", 1.01)
    assert targets["sync_throughput"] == targets["aio_throughput"] == Target("ratio", ">=", 1.0)
    assert targets["sync_stream"] == targets["aio_bidi"] == Target("ratio", ">=", 1.0)
    assert {name: target.bound for name, target in targets.items() if target.of == "value"} == {
        "pick": 1.5,
        "pick_growth": 1.25,
        "pick_weighing": 2.5,
        "pick_hashing": 4.0,
        "publication": 20,
        "scale_threads": 20,
        "scale_cpu": 1.0,
        "scale_out": 1.0,
        "scale_in": 1.0,
        "scale_memory": 150,
        "scale_rss": 150,
        "simulation_rate": 50_000,
        "simulation_million": 25,
        "simulation_memory": 120,
    }


# --- faults ------------------------------------------------------------------------------------------------


def test_a_fault_is_played_and_counted() -> None:
    # None that kills: a call whose headers have come is lost with its server, in any client (3 of 66 such runs).
    row = replace(next(row for row in faults.ROWS if "slower" in row.name), seconds=0.3)
    face = SyncFace()
    try:
        results = faults.play(row, face, deadline=5.0, before=0.3, after=0.3)
    finally:
        face.close()

    assert results.keys() == {faults.DEFAULTS, faults.RESILIENT, faults.NATIVE, faults.CAREFUL}
    assert [result.lost for name, result in results.items() if name != faults.CAREFUL] == [0, 0, 0]
    assert results[faults.CAREFUL].twice == 0
    assert all(result.calls > 10 for result in results.values())


def test_a_line_says_what_was_lost_executed_again_and_taken_out() -> None:
    result = faults.Result(calls=200, lost=3, extra=2, twice=2, lost_until=0.5, back=0.26, needless=1)
    results = dict.fromkeys((faults.DEFAULTS, faults.RESILIENT, faults.CAREFUL), result)
    results[faults.NATIVE] = replace(result, back=None, needless=None)

    assert faults.line("hangs", "aio", 0.3, results) == (
        "| hangs | aio, 0.3 s | 3 of 200 | 3 of 200 | 3 of 200 | 3 of 200, 2 | 1.0 %, 1.0 %, 1.0 % | 0.3 s, 0.3 s, - | 1, 1 |"
    )
