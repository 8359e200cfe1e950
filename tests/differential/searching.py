"""The search for programs that differ: so many programs, and the first difference as the smallest program."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.differential.aio_programs import aio_programs
from tests.differential.compare import Verdict, judge, minimise, report
from tests.differential.program import FORMS, Program
from tests.differential.running import Runner
from tests.differential.sync_programs import sync_programs

PROGRAMS = {"sync": sync_programs, "aio": aio_programs}
# DIFFERENTIAL_PROGRAMS=5000 runs so many programs for each face, with fresh seeds.
WANTED = os.environ.get("DIFFERENTIAL_PROGRAMS")
LEAST_COMPARABLE = 0.9  # of all programs; on fewer, the search would look at too little
MOST_RARE = 0.03  # of all programs; that many that differ at first, but not always, are no accident


def each(face: str, count: int, number: int, do: Callable[[Program], Any]) -> None:
    """Do something with `count` random programs; the same for the same `number`."""

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(PROGRAMS[face]())
    def run(program: Program) -> None:
        do(program)

    run()


def warm(runner: Runner, face: str) -> None:
    """Connect a channel of each form: the first ones of a process also import what they need."""
    channel = "channel = await open()" if face == "aio" else "channel = open()"
    for form in FORMS:
        runner.run(Program(face, form, (channel,)), form)


def search(runner: Runner, face: str, count: int, *, ours: str | None = None, number: int = 1) -> None:
    """Compare random programs.

    Args:
        runner: of the face.
        face: "sync" or "aio".
        count: how many.
        ours: see `judge`.
        number: seed. It is a fixed one, so that what fails is the change that is tested, and not a program that nobody
            has seen yet; see `WANTED` for the others.

    Raises:
        AssertionError: one differs, with the smallest program; or too many are not comparable.
    """
    count, number = (count, number) if WANTED is None else (int(WANTED), random.SystemRandom().randrange(2**32))
    counts: Counter[bool] = Counter()
    rare: list[str] = []

    def compare(program: Program) -> None:
        verdict = judge(runner, program, ours=ours)
        counts[verdict.is_comparable] += 1
        if verdict.found:
            # What other programs have left on the channels is no difference of this one.
            runner.renew()
            first, verdict = verdict, judge(runner, program, ours=ours)
            if verdict.found:
                raise AssertionError(_smallest(runner, program, verdict, ours))
            verdict = replace(verdict, rare=first.found)
        if verdict.rare:
            rare.append(report(program, verdict.rare))
            print(f"once only:\n{rare[-1]}")

    warm(runner, face)
    each(face, count, number, compare)
    print(f"seed {number}: {counts[True]} of {count} programs were comparable, {len(rare)} differed once only")
    assert counts[True] >= LEAST_COMPARABLE * count, f"seed {number}: {counts[False]} programs were not comparable"
    assert len(rare) <= max(2, MOST_RARE * count), "\n".join(rare)


def _smallest(runner: Runner, program: Program, verdict: Verdict, ours: str | None) -> str:
    smallest = minimise(runner, program, verdict.found, ours=ours)
    again = judge(runner, smallest, ours=ours)
    if again.found:
        return f"ours differs:\n{report(smallest, again.found)}"
    return f"ours differs now and then:\n{report(program, verdict.found)}"
