"""The command line: `python -m tests.benchmarks`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks import jobs, machine, report
from tests.benchmarks.catalogue import Measurement
from tests.benchmarks.effort import QUICK, Effort


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code says whether every job ended well, not whether targets are met."""
    options = _parser().parse_args(arguments)
    effort = _effort(options)
    about = {"machine": machine.describe(), "effort": dataclasses.asdict(effort)}
    load_before = machine.load()
    measurements, failed = _run(_jobs(options), effort)
    rows = report.rows(measurements)
    about |= {"load_before": load_before, "load_after": machine.load(), "failed": failed}
    print(report.table(rows))
    print(f"\nload average {load_before[0]:.2f} at the start, {machine.load()[0]:.2f} at the end")
    if options.json:
        options.json.write_text(json.dumps(report.document(rows, **about), indent=1) + "\n")
    return 1 if failed else 0


def _run(planned: Sequence[jobs.Job], effort: Effort) -> tuple[list[Measurement], list[str]]:
    measurements: list[Measurement] = []
    failed = []
    for number, job in enumerate(planned, 1):
        print(f"[{number}/{len(planned)}] {job} ...", file=sys.stderr, flush=True)
        try:
            measurements += jobs.run(job, effort)
        except jobs.JobFailed as error:
            print(error, file=sys.stderr)
            failed.append(str(job))
    return measurements, failed


def _jobs(options: argparse.Namespace) -> list[jobs.Job]:
    if options.row:
        return [jobs.rows()[row] for row in options.row]
    parts = jobs.PARTS if options.part == "all" else (options.part,)
    return list(jobs.plan(parts, jobs.FACES if options.face == "both" else (options.face,)))


def _effort(options: argparse.Namespace) -> Effort:
    effort = QUICK if options.quick else Effort()
    if options.rounds:
        effort = dataclasses.replace(
            effort,
            rounds=options.rounds,
            throughput_rounds=options.rounds,
            stream_rounds=options.rounds,
            pick_rounds=options.rounds,
            counted_rounds=options.rounds,
        )
    if options.subchannels:
        effort = dataclasses.replace(effort, subchannels=options.subchannels)
    if options.idle is not None:
        effort = dataclasses.replace(effort, idle_seconds=options.idle)
    return effort


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="healthlb beside native grpcio")
    parser.add_argument("part", nargs="?", default="all", choices=(*jobs.PARTS, "all"))
    parser.add_argument("--face", default="both", choices=(*jobs.FACES, "both"))
    parser.add_argument("--rounds", type=int, help="ratios per figure")
    parser.add_argument("--subchannels", type=int, help="of the scale figures (1,000)")
    parser.add_argument("--idle", type=float, help="seconds without calls in the scale figures (30)")
    parser.add_argument("--row", action="append", choices=tuple(jobs.rows()), help="this row alone; more than once")
    parser.add_argument("--quick", action="store_true", help="a first look: fewer rounds, 200 subchannels")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples too")
    return parser
