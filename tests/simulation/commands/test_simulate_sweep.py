"""The command on small worlds: here, and where workers or signals matter in a process of its own."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from healthlb.simulation.commands.sweep import command

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "healthlb.cli", "simulate", "sweep"]

SWEEP = """
schema = 1
name = "small"
title = "Small worlds"
replications = {replications}
metrics = ["goodput", "p99", "early"]

[scenario]
duration = "300ms"
[[scenario.backend]]
name = "b"
count = 2
service = {{ dist = "exponential", mean = "10ms" }}
[[scenario.client]]
load = {{ kind = "poisson", rho = 0.1 }}
deadline = "1s"
[scenario.policy.plain]
picker = "rr"
[scenario.policy.tuned]
picker = "p2c"
retries = 1
[scenario.expect]
never = {{ check = "requests < 0", why = "it cannot" }}

[measures]
early = "ok_in(0, 0.2)"
[checks]
fast = "p99 < 0.06"

[[axis]]
name = "rho"
path = "client.load.rho"
from = 0.1
to = 0.5
steps = {steps}
[[axis]]
name = "slots"
path = "backend.b.slots"
values = [1, 2]
"""


def write(folder: Path, replications: int = 2, steps: int = 3, text: str = SWEEP) -> Path:
    path = folder / "small.toml"
    path.write_text(text.format(replications=replications, steps=steps))
    return path


def ran(*arguments: object) -> Result:
    """Run the command here, inline unless it says otherwise."""
    return CliRunner().invoke(command, ["--executor", "inline", *map(str, arguments)])


def digest(result: Result) -> str:
    (found,) = re.findall(r"^digest ([0-9a-f]{32})$", result.stdout, re.MULTILINE)
    return str(found)


def test_points_checks_and_digest_are_told(tmp_path: Path) -> None:
    result = ran(write(tmp_path), "--out", tmp_path / "out")

    assert result.exit_code == 0, result.stderr
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["policy", "rho", "slots", "runs", "goodput", "p99", "early", "fast"]
    assert [row.split()[:4] for row in rows[:3]] == [
        ["plain", "0.1", "1", "2"], ["plain", "0.1", "2", "2"], ["plain", "0.3", "1", "2"],
    ]  # fmt: skip
    assert "check never of the scenario did not hold in 24 cells" in result.stdout
    assert "24 cells, 0 of them done before" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert digest(result)


def test_one_worker_many_and_dask_have_the_same_digest(tmp_path: Path) -> None:
    path = write(tmp_path)
    ways = (("--executor", "inline"), ("--jobs", "2"), ("--executor", "dask://local", "--jobs", "2"))
    results = [ran(path, "--out", tmp_path / f"out{number}", *way) for number, way in enumerate(ways)]

    assert [result.exit_code for result in results] == [0, 0, 0], [result.stderr for result in results]
    assert len(set(map(digest, results))) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_done_stays_done_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    path, out = write(tmp_path, replications=30, steps=5), tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, path, "--out", out, "--jobs", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    give_up_at = time.monotonic() + 60
    while sum(shard.stat().st_size for shard in out.glob("*.jsonl")) < 2_000 and time.monotonic() < give_up_at:
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    (done,) = re.findall(r"interrupted: ([\d,]+) of 600 cells are done; go on with\n", errors)
    assert 0 < int(done.replace(",", "")) < 600
    assert f"  healthlb simulate sweep {path} --out {out} --resume\n" in errors
    resumed = ran(path, "--out", out, "--resume")
    assert resumed.exit_code == 0
    assert f"600 cells, {done} of them done before" in resumed.stderr
    assert digest(resumed) == digest(ran(path, "--out", tmp_path / "whole"))


def test_a_file_of_every_cell(tmp_path: Path) -> None:
    table = tmp_path / "cells.csv"
    result = ran(write(tmp_path), "--out", tmp_path / "out", "--csv", table)
    rows = list(csv.DictReader(table.read_text().splitlines()))

    assert result.exit_code == 0
    assert len(rows) == 24
    assert (rows[0]["policy"], rows[0]["rho"], rows[0]["slots"], rows[0]["replication"]) == ("plain", "0.1", "1", "0")
    assert 0 < float(rows[0]["early"]) <= float(rows[0]["ok"])


def test_a_cell_that_fails_stops_nothing_and_can_be_run_alone(tmp_path: Path) -> None:
    path = write(tmp_path, text=SWEEP.replace("ok_in(0, 0.2)", "1 / (retries - retries * (rho > 0.2))"))
    out = tmp_path / "out"
    result = ran(path, "--out", out)

    assert result.exit_code == 1
    failures = re.findall(
        r"^failed: policy .*: ExpressionError: .* divides by zero.*\n  (healthlb .*)$", result.stdout, re.MULTILINE
    )
    assert failures
    (key,) = re.findall(r"--cell ([0-9a-f]{12})$", failures[0])
    alone = ran(path, "--out", out, "--cell", key)
    assert alone.exit_code == 2
    assert "divides by zero" in alone.stderr
    again = ran(path, "--out", out)
    assert "24 cells, 24 of them done before" in again.stderr
    assert digest(again) == digest(result)


def test_a_cell_of_old_is_shown(tmp_path: Path) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    ran(path, "--out", out)
    (shard,) = out.glob("*.jsonl")
    (key, *_) = re.findall(r'"key":"([0-9a-f]+)"', shard.read_text())
    result = ran(path, "--out", out, "--cell", key)

    assert result.exit_code == 1
    assert "  check never does not hold" in result.stdout
    assert "  requests = " in result.stdout
    assert "--cell: 'zz' is the beginning of 0 keys" in ran(path, "--out", out, "--cell", "zz").stderr


def test_corrupt_lines_are_told(tmp_path: Path) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    first = ran(path, "--out", out)
    (shard,) = out.glob("*.jsonl")
    lines = shard.read_text().splitlines(keepends=True)
    shard.write_text("".join(["\n", "garbage\n", *lines[2:]]))
    result = ran(path, "--out", out)

    assert result.exit_code == 0
    assert f"left out: {shard.name}, line 2: " in result.stdout
    assert "24 cells, 23 of them done before" in result.stderr
    assert digest(result) == digest(first)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("schema = 1", "schema = 2", "schema must be a number at least 1 and at most 1, not 2"),
        ('name = "small"', "nam = 1", "name is missing"),
        ("steps = 3", "stepz = 3", "axis[0].stepz is unknown (did you mean steps?)"),
        ("from = 0.1", "from = 0.9", "axis[0].to must be a number above 0.9, not 0.5"),
        ('path = "backend.b.slots"', 'pat = "backend.b.slots"', "axis[1].path is missing"),
        ('path = "backend.b.slots"', 'path = "backend.c.slots"', "path 'backend.c.slots': there is no 'c'"),
        ('name = "slots"', 'name = "rho"', "axis[1].name must be another than that of an axis before, not 'rho'"),
        ("values = [1, 2]", "values = [1, 0]", "axis slots = 0"),
        ("values = [1, 2]", "values = [1, 1]", "axis[1].values must be a list that has each once"),
        ("p99 < 0.06", "p99 < ", "checks.fast: 'p99 <' is no expression"),
        ("p99 < 0.06", "speed < 0.06", "must not name 'speed'"),
        ("p99 < 0.06", "ok_in(0, 1) > 1", "must not call 'ok_in'; it may in [measures]"),
        ("ok_in(0, 0.2)", "ok_ni(0, 0.2)", "there is no function 'ok_ni'"),
        ("ok_in(0, 0.2)", "ci95('p99')", "must be of a single run"),
        ('"goodput", "p99"', '"goodput", "p98"', "metrics = 'p98', must be a metric or a measure"),
        ('"goodput", "p99"', '"p99", "p99"', "metrics must be a list of texts, not empty and each once"),
        ("replications = 2", "replications = 0", "replications must be a number at least 1"),
        ("replications = 2", 'replications = 2\ndesign = "random"', "design must be one of grid, sobol, lhs"),
        ("replications = 2", 'replications = 2\ndesign = "sobol"', "points is missing"),
        ("replications = 2", 'replications = 2\npolicies = ["worse"]', "policies must be of the scenario's, plain, tuned, not 'worse'"),
        ("replications = 2", 'replications = 2\nexpect = ["ever"]', "expect must be of the scenario's, never, not 'ever'"),
        ("replications = 2", "replications = 100000000", "replications must be a number"),
        ("[checks]", "[stop]\nmetric = 'p99'\n[checks]", "stop must have either relative or absolute"),
        ("[checks]", "[refine]\naxis = 'slots'\ncheck = 'p99 < 1'\ntolerance = 1\n[checks]", "refine.axis must be one of rho"),
        ("[checks]", "[boundary]\nzero = 'rho - size'\n[checks]", "boundary.zero must not name 'size'; there may be rho, slots"),
        ("[checks]", "[map]\nx = 'rho'\ny = 'rho'\n[checks]", "map.y must be another axis than x, not 'rho'"),
        ('picker = "rr"', 'picker = "rrr"', "picker"),
        ("schema = 1", "schema = ", "Invalid value"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_before_anything_runs(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = SWEEP.format(replications=2, steps=3)
    assert old in text
    path = tmp_path / "small.toml"
    path.write_text(text.replace(old, new, 1))
    result = ran(path, "--out", tmp_path / "out")

    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_executor_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert (
        "must be inline, pool, dask://local or"
        in ran(write(tmp_path), "--executor", "ray://x", "--out", tmp_path / "o").stderr
    )
    assert "no.toml cannot be read: No such file or directory" in ran(tmp_path / "no.toml").stderr
    assert "there is no sweep 'nothing': neither a file nor one of" in ran("nothing").stderr


def test_maps_are_written(tmp_path: Path) -> None:
    page = tmp_path / "maps.html"
    result = ran(write(tmp_path), "--out", tmp_path / "out", "--html", page)

    assert result.exit_code == 0
    assert f"maps: {page}" in result.stdout
    assert "24 cells over rho, slots; policies: plain, tuned." in page.read_text()


def test_results_that_cannot_be_kept_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    result = ran(write(tmp_path), "--out", tmp_path / "taken" / "out")

    assert result.exit_code == 2
    assert "results cannot be kept: " in result.stderr


def test_workers_do_not_outlive_a_command_that_is_killed(tmp_path: Path) -> None:
    path, out = write(tmp_path, replications=30, steps=5), tmp_path / "out"
    process = subprocess.Popen([*COMMAND, path, "--out", out, "--jobs", "2"], cwd=ROOT, stderr=subprocess.DEVNULL)
    give_up_at = time.monotonic() + 60
    while not list(out.glob("*.jsonl")) and time.monotonic() < give_up_at:
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=30)

    assert len(children) >= 2
    assert alive == []
    assert ran(path, "--out", out).exit_code == 0


@pytest.mark.parametrize("design", ["sobol", "lhs"])
def test_points_spread_over_the_axes(tmp_path: Path, design: str) -> None:
    path = write(tmp_path, replications=1)
    path.write_text(path.read_text().replace("replications = 1", f'replications = 1\ndesign = "{design}"\npoints = 8'))
    result = ran(path, "--out", tmp_path / "out")

    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("plain")]
    assert len({row[1] for row in rows}) == 8
    assert sorted(row[2] for row in rows) == ["1"] * 4 + ["2"] * 4


def test_points_are_repeated_until_their_means_are_known(tmp_path: Path) -> None:
    path = write(tmp_path, replications=2, steps=2)
    path.write_text(path.read_text() + '[stop]\nmetric = "ok"\nrelative = 0.2\nmost = 8\n')
    result = ran(path, "--out", tmp_path / "out")

    assert result.exit_code == 0
    runs = {int(line.split()[3]) for line in result.stdout.splitlines() if line.startswith(("plain", "tuned"))}
    assert runs <= {2, 4, 8}
    assert len(runs) > 1
