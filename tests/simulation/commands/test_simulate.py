"""`healthlb simulate list`, `run` and `compare`, as they are typed."""

from __future__ import annotations

import csv
import gzip
import io
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click.testing
import pytest
from rich.console import Console

from healthlb.cli.app import cli
from healthlb.simulation import running
from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.commands import run_progress, scenarios, text_report
from healthlb.simulation.commands.text_report import verdict
from healthlb.simulation.commands.values import counted, grouped, written
from healthlb.simulation.running import Progress
from healthlb.simulation.scenario_files import scenario_file
from healthlb.simulation.scenario_files.scenario_file import parse_scenario

ROOT = Path(__file__).parents[3]
SCENARIO = """
title = "One of four fails half of its calls"
seed = 7
duration = "2s"
warmup = "200ms"
replications = 2
tags = ["small"]
[[backend]]
count = 4
slots = 4
service = { dist = "exponential", mean = "5ms" }
[[client]]
count = 2
load = { rho = 0.3 }
[policy.plain]
[policy.retrying]
retries = 2
[faults]
timeline = [{ kind = "error", target = "b1", from = "500ms", rate = 0.5 }]
[expect]
counted = { check = "requests == ok + errors + in_flight", why = "each call ends once" }
hidden = { policy = "retrying", check = "error_ratio < 0.05", why = "two more tries" }
seen = { policy = "plain", check = "0.05 < error_ratio < 0.2", why = "a quarter of the calls, half of them" }
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return path


def invoke(*arguments: object) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["simulate", *map(str, arguments)])


def test_run_tells_numbers_and_checks(scenario: Path) -> None:
    result = invoke("run", scenario)

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "small: One of four fails half of its calls"
    assert lines[1].startswith("2 s, 2 times, seed 7; ")
    assert "plain: round_robin, no failover, no ejection, no heartbeat" in lines
    assert "retrying: round_robin, 3 attempts, no ejection, no heartbeat" in lines
    assert [line.split()[0] for line in lines if "±" in line][:4] == ["requests", "error_ratio", "p50", "p99"]
    assert "ok        seen (plain)" in lines
    assert lines[-1] == "4 of 4 checks hold"


def test_a_check_that_fails_ends_it_with_1_and_says_why(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("error_ratio < 0.05", "error_ratio < 0"))

    result = invoke("run", scenario, "--reps", "1", "-v")

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (place,) = (place for place, line in enumerate(lines) if line.startswith("FAILED"))
    assert lines[place].startswith("FAILED    hidden (retrying): error_ratio = ")
    assert lines[place].endswith(", needed < 0, in replication 0")
    assert lines[place + 1].strip() == "two more tries"
    assert any(line.startswith("ok        counted (plain): requests = ") for line in lines)
    assert lines[-1] == "3 of 4 checks hold"


def test_options_change_what_is_run(scenario: Path) -> None:
    result = invoke("run", scenario, "--policy", "plain", "--seed", "9", "--reps", "1", "--until", "1s")

    lines = result.stdout.splitlines()
    assert lines[1].startswith("1 s, once, seed 9; ")
    assert "retrying" not in result.stdout
    assert "±" not in result.stdout


def test_the_same_seed_gives_the_same_and_another_does_not(scenario: Path, tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        invoke("run", scenario, "--reps", "1", "--seed", seed, "-o", tmp_path / folder)

    packed = {folder: (tmp_path / folder / "bins.csv.gz").read_bytes() for folder in "abc"}
    assert packed["a"] == packed["b"]
    assert packed["a"] != packed["c"]
    hashes = [[run["trace_hash"] for run in manifest(tmp_path / folder)["runs"]] for folder in "abc"]
    assert hashes[0] == hashes[1]
    assert len({*hashes[0], *hashes[2]}) == 4
    assert (tmp_path / "a" / "lanes.jsonl.gz").read_bytes() == (tmp_path / "b" / "lanes.jsonl.gz").read_bytes()


def manifest(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return read


def test_files_hold_what_was_shown(scenario: Path, tmp_path: Path) -> None:
    result = invoke("run", scenario, "--trace", "3", "-o", tmp_path / "out")

    assert result.exit_code == 0
    told = manifest(tmp_path / "out")
    assert {key: told[key] for key in ("scenario", "seed", "replications", "is_complete", "holds")} == {
        "scenario": "small", "seed": 7, "replications": 2, "is_complete": True, "holds": True,
    }  # fmt: skip
    assert told["content"] == {**tomllib.loads(SCENARIO), "name": "small"}
    assert [(check["name"], check["policy"]) for check in told["checks"]] == [
        *(("counted", "plain"), ("counted", "retrying"), ("hidden", "retrying"), ("seen", "plain"))
    ]
    text = gzip.decompress((tmp_path / "out" / "bins.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    for run in told["runs"]:
        mine = [row for row in rows if row["policy"] == run["policy"] and int(row["replication"]) == run["replication"]]
        fleet = [row for row in mine if not row["backend"]]
        sent = {name: sum(int(row["sent"]) for row in mine if row["backend"] == name) for name in ("", "b0", "b1")}
        late = [row for row in fleet if float(row["time"]) >= 0.2]
        assert sum(int(row["offered"]) for row in late) == run["metrics"]["requests"]
        assert sum(int(row["sent"]) for row in fleet) == sent[""] > sent["b0"] > 0
        assert {row["truth"] for row in mine if row["backend"] == "b1"} == {"up", "failing"}
    lanes = gzip.decompress((tmp_path / "out" / "lanes.jsonl.gz").read_bytes()).decode().splitlines()
    assert any(json.loads(line).get("truth") == "failing" for line in lanes)
    trace = gzip.decompress((tmp_path / "out" / "trace.txt.gz").read_bytes()).decode()
    assert trace.count("# policy") == 4
    assert " pick 1.1 b" in trace


def test_a_report_shows_what_was_run(scenario: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"

    result = invoke("run", scenario, "--reps", 1, "--html", report)
    run = report.read_text()
    assert result.exit_code == 0
    assert f"report: {report}" in result.stderr
    assert "One of four fails half of its calls" in run
    assert "retrying against plain" in run
    assert "✓ All 4 checks hold" in run
    assert "[[backend]]\ncount = 4" in run

    result = invoke("run", scenario, "--reps", 2, "--policy", "plain", "--html", report)
    assert "Drawn is replication 0 of 2" in report.read_text()
    assert "against" not in report.read_text()

    result = invoke("compare", scenario, "--reps", 2, "--policy", "retrying", "--policy", "plain", "--html", report)
    assert result.exit_code == 0
    assert "plain against retrying" in report.read_text()


def test_a_report_that_cannot_be_written_is_said_so(scenario: Path, tmp_path: Path) -> None:
    result = invoke("run", scenario, "--reps", 1, "--html", tmp_path / "no" / "report.html")

    assert result.exit_code == 2
    assert "--html" in result.stderr
    assert "No such file" in result.stderr


def test_compare_takes_differences_in_pairs(scenario: Path) -> None:
    result = invoke("compare", scenario, "--policy", "plain", "--policy", "retrying")

    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].startswith("2 s, 5 times, seed 7")
    rows = {line.split()[0]: line.split() for line in lines if "±" in line}
    assert rows["error_ratio"][-1] == "better"
    assert rows["retries"][-1] == "more"
    assert rows["requests"][-1] == "="
    assert "difference: retrying minus plain, in pairs, ± 95 % confidence; = where that holds 0" in lines


def test_compare_needs_two_policies(scenario: Path) -> None:
    assert invoke("compare", scenario, "--reps", "2", "--until", "1s").exit_code == 0
    for policies in (["plain"], ["plain", "plain"]):
        result = invoke("compare", scenario, *(part for name in policies for part in ("--policy", name)))
        assert result.exit_code == 2
        assert "give --policy twice, with two of plain, retrying" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["none"], "there is no scenario 'none'"),
        (["none.toml"], "none.toml cannot be read"),
        (["small.toml", "--policy", "x"], "policy must be one of plain, retrying, not 'x'"),
        (["small.toml", "--until", "1 day"], "it must be a duration"),
        (["small.toml", "--until", "100ms"], "until must be more than the warm-up of 0.2 s, not 0.1 s"),
        (["small.toml", "--reps", "0"], "0 is not in the range"),
        (["broken.toml"], "broken.toml: Invalid"),
        (["wrong.toml"], "wrong.toml: backends is unknown (did you mean backend?)"),
    ],
)
def test_what_cannot_be_run_ends_it_with_2(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], wanted: str
) -> None:
    monkeypatch.chdir(scenario.parent)
    Path("broken.toml").write_text("name = ")
    Path("wrong.toml").write_text(SCENARIO + "[backends]\n")

    result = invoke("run", *arguments)

    assert result.exit_code == 2
    assert wanted in " ".join(result.stderr.split())


def test_list_shows_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.toml").write_text(SCENARIO)
    (tmp_path / "large.toml").write_text(SCENARIO.replace('"small"', '"large"').replace("One of four", "Two of eight"))
    monkeypatch.setattr(scenario_file, "CATALOGUES", (tmp_path / "none", tmp_path))

    assert invoke("list").stdout.splitlines() == [
        "large  [large]  Two of eight fails half of its calls",
        "small  [small]  One of four fails half of its calls",
    ]
    assert invoke("list", "--tag", "small").stdout.splitlines() == [
        "small  [small]  One of four fails half of its calls"
    ]
    refused = invoke("list", "--tag", "tiny")
    assert (refused.exit_code, "there are large, small" in refused.stderr) == (2, True)
    assert invoke("run", "small", "--reps", "1", "--until", "1s").exit_code == 0


def test_the_wheel_has_the_catalogue() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]

    beside = scenario_file.CATALOGUES[0].relative_to(ROOT)
    assert targets["wheel"]["force-include"] == {"simulations": str(beside)}
    assert scenario_file.CATALOGUES[1] == ROOT / "simulations"


def test_ctrl_c_keeps_what_is_done(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("replications = 2", "replications = 100000"))
    command = [sys.executable, "-c", _INTERRUPTED, "simulate", "run", str(scenario)]

    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    lines = played.stdout.splitlines()
    assert played.returncode == 130, played.stderr
    assert "interrupted: 3 of 200000 runs are done" in lines
    assert lines[-1] == "4 of 4 checks hold"


# The signal comes while the fourth run is going on.
_INTERRUPTED = f"""
import os, signal, sys
from healthlb.simulation import running
# A background job of a shell is started with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
tell = running._tell
def interrupt(progress, world, then):
    tell(progress, world, then)
    if len(progress.done) == 3:
        os.kill(os.getpid(), {int(signal.SIGINT)})
running._tell = interrupt
from healthlb.cli import main
main()
"""


# --- progress --------------------------------------------------------------------------------------


def progress(scenario: Path) -> Progress:
    made = scenario_file.load_scenario(scenario)
    one = running.run_all(made, ("plain",)).records[0]
    return Progress(4, [one], "plain", 1, 0.5, 250)


def test_plain_lines_come_every_ten_seconds(scenario: Path) -> None:
    now = [100.0]
    lines: list[str] = []
    view = run_progress.PlainView(lines.append, lambda: now[0])
    going = progress(scenario)

    for seconds in (1, 9, 5, 5):
        now[0] += seconds
        view(going)

    assert len(lines) == 2
    calls = going.done[0].metrics["requests"] + 250
    assert lines[0].startswith(f"1/4 runs  {grouped(calls)} calls  {grouped(calls / 10)}/s  ETA 17 s  plain p99 ")


def test_a_terminal_gets_a_bar(scenario: Path) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, legacy_windows=False)

    with run_progress.watched(console) as tell:
        tell(progress(scenario))

    assert "1/4 runs" in text.getvalue()
    with run_progress.watched(Console(file=text, force_terminal=False)) as tell:
        assert isinstance(tell, run_progress.PlainView)


@pytest.mark.parametrize(
    ("metric", "values", "text"),
    [
        ("requests", [49076.0], "49,076"),
        ("requests", [100, 102], "101 ± 13"),
        ("p99", [0.0127], "12.7 ms"),
        ("p99", [1.5], "1.50 s"),
        ("p99", [0.000052], "52 us"),
        ("p99", [0.0], "0 s"),
        ("p99", [0.0702, 0.0712, 0.0722], "71.2 ± 2.5 ms"),
        ("attempts_per_request", [1.00001, 1.00003], "1.0000 ± 0.0001"),
        ("error_ratio", [0.0412], "4.12 %"),
        ("error_ratio", [0.04, 0.04], "4 ± 0 %"),
        ("imbalance", [1.0949], "1.09"),
    ],
)
def test_numbers_are_written_for_people(metric: str, values: list[float], text: str) -> None:
    assert written(metric, Estimate.of(values)) == text


def test_small_words() -> None:
    assert [grouped(count) for count in (0, 950, 41_200, 999_499, 1_200_000)] == ["0", "950", "41k", "999k", "1.2M"]
    assert [counted(seconds) for seconds in (None, 9.4, 99, 600)] == ["?", "9 s", "99 s", "10 min"]
    assert verdict("p99", Estimate(0.0, 0.0, 5)) == "="
    assert verdict("p99", Estimate(1.0, 9.0, 5)) == "="
    assert verdict("p99", Estimate(1.0, 0.0, 1)) == "?"
    assert verdict("p99", Estimate(1.0, 0.1, 5)) == "worse"
    assert verdict("p99", Estimate(1.0, 0.1, 5), -0.0005) == "worse"
    assert verdict("p99", Estimate(1.0, 0.1, 5), -0.002) == "†"  # the first looks better, and loses more
    assert verdict("p99", Estimate(-1.0, 0.1, 5), 0.002) == "†"
    assert verdict("p99", Estimate(-1.0, 0.1, 5), -0.002) == "better"
    assert verdict("imbalance", Estimate(1.0, 0.1, 5)) == "more"
    assert verdict("ok", Estimate(1.0, 0.1, 5)) == "better"
    assert verdict("retries", Estimate(-1.0, 0.1, 5)) == "less"
    assert scenarios.Duration().convert("60s", None, None) == 60 * 10**9


def test_policies_that_would_be_alike_say_what_differs() -> None:
    alike = {
        "few": {"failover": {"budget": {"ratio": 0.1}}},
        "many": {"failover": {"budget": {"ratio": 0.5}}},
        "two": {"picker": {"name": "least_request", "choice_count": 3}},
    }
    scenario = parse_scenario({"backend": [{"service": "1ms"}], "client": [{"load": {"rate": 1}}], "policy": alike})

    assert text_report.policies(scenario, alike) == [
        "few: round_robin, 3 attempts, no ejection, no heartbeat, failover.budget.ratio 0.1",
        "many: round_robin, 3 attempts, no ejection, no heartbeat, failover.budget.ratio 0.5",
        "two: least_request(choice_count 3), no failover, no ejection, no heartbeat",
    ]


def digest_of(*arguments: object) -> str:
    shown = [line for line in invoke("run", *arguments).stdout.splitlines() if line.startswith("trace ")]
    return shown[0].removeprefix("trace ")


def test_run_prints_the_digest_of_its_trace(scenario: Path, tmp_path: Path) -> None:
    one = ("--reps", "1", "--policy", "plain")

    assert digest_of(scenario, *one, "-o", tmp_path) == manifest(tmp_path)["runs"][0]["trace_hash"]
    assert digest_of(scenario) == digest_of(scenario)
    assert len({digest_of(scenario), digest_of(scenario, *one), digest_of(scenario, "--seed", "99")}) == 3
    assert "trace " not in invoke("run", scenario, "--trace", "0").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        "list", "demo", "simulate list", "simulate run", "simulate compare", "simulate sweep", "simulate validate",
        "simulate calibrate", "simulate fuzz", "simulate replay", "watch",
    ],
)  # fmt: skip
def test_each_command_takes_plain(arguments: str) -> None:
    assert "--plain" in click.testing.CliRunner().invoke(cli, [*arguments.split(), "--help"]).output


def test_plain_writes_no_bar_on_a_terminal() -> None:
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True)

    with run_progress.watched(terminal) as live, run_progress.watched(terminal, is_plain=True) as plain:
        assert (type(live), type(plain)) == (run_progress.LiveView, run_progress.PlainView)
