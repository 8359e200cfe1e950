"""Runs programs of a file, or many random ones, and prints each kind of difference with its smallest program.

python -m tests.differential FILE
python -m tests.differential --face aio --programs 5000 --seed 7 [--loop eager|uvloop|debug] [--form none]
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.differential.compare import Difference, judge, minimise, report
from tests.differential.loops import LOOPS
from tests.differential.peer import Server
from tests.differential.program import Program, parse
from tests.differential.running import AioRunner, Runner, SyncRunner
from tests.differential.searching import each, warm


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a program to run")
    parser.add_argument("--face", choices=("sync", "aio"), default="sync")
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--form", default=None, help="of all programs, instead of one drawn for each")
    parser.add_argument("--loop", choices=sorted(LOOPS), default="asyncio")
    parser.add_argument("--kinds", type=int, default=40, help="end after so many kinds of differences")
    asked = parser.parse_args()
    logging.getLogger("healthlb").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        program = parse(asked.file.read_text()) if asked.file else None
        face = program.face if program else asked.face
        runner: Runner = SyncRunner(server) if face == "sync" else AioRunner(server, LOOPS[asked.loop])
        if program is not None:
            verdict = judge(runner, program)
            print(report(program, verdict.found) if verdict.is_comparable else "plain does not agree with itself")
        else:
            search(runner, asked)
        server.close()


def search(runner: Runner, asked: argparse.Namespace) -> None:
    """Run random programs; print each kind of difference once."""
    number = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    gc.collect()
    gc.freeze()

    def run(program: Program) -> None:
        if len(seen) >= asked.kinds:
            return
        if asked.form:
            program = replace(program, form=asked.form)
        counts["programs"] += 1
        verdict = judge(runner, program)
        counts["comparable"] += verdict.is_comparable
        counts["different"] += bool(verdict.found)
        counts["rarely different"] += bool(verdict.rare)
        if verdict.rare and not seen[verdict.rare[0].kind]:
            seen[verdict.rare[0].kind] += 1
            print(f"--- after {counts['programs']} programs, once only\n{report(program, verdict.rare)}", flush=True)
        new = [one for one in verdict.found if not seen[one.kind]]
        seen.update(one.kind for one in verdict.found)
        if new:
            _print(runner, program, counts["programs"], verdict.found)

    warm(runner, asked.face)
    started = time.monotonic()
    try:
        each(asked.face, asked.programs, number, run)
    except KeyboardInterrupt:
        print("ended by Ctrl-C")
    print(f"seed {number}: {dict(counts)}, {len(seen)} kinds, {time.monotonic() - started:.0f} s")


def _print(runner: Runner, program: Program, count: int, found: tuple[Difference, ...]) -> None:
    runner.renew()
    verdict = judge(runner, program)
    if not verdict.found:
        print(f"--- after {count} programs: not on a new channel\n{report(program, found)}", flush=True)
        return
    smallest = minimise(runner, program, verdict.found)
    again = judge(runner, smallest)
    shown = report(smallest, again.found) if again.found else f"now and then\n{report(program, verdict.found)}"
    print(f"--- after {count} programs\n{shown}", flush=True)


if __name__ == "__main__":
    main()
