"""Named programs: functions whose source is run as a `Program`, beside a plain channel."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from tests.differential.compare import judge, report
from tests.differential.program import Program
from tests.differential.running import Runner

# How often a case is run until plain does the same each time: on a busy machine, what C-core's threads bring comes late.
TIMES = 3


def program_of(case: Callable[..., Any], form: str) -> Program:
    """Return the program that is the body of a function of `open`, `see` and `peer`."""
    source = textwrap.dedent(inspect.getsource(case))
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    first = function.body[ast.get_docstring(function) is not None]
    lines = textwrap.dedent("\n".join(source.splitlines()[first.lineno - 1 :])).splitlines()
    return Program("aio" if isinstance(function, ast.AsyncFunctionDef) else "sync", form, tuple(lines))


def check(runner: Runner, case: Callable[..., Any], form: str) -> None:
    """Run a case on plain and on ours in this form.

    Raises:
        AssertionError: they differ, or plain does not do the same in any of several tries.
    """
    program = program_of(case, form)
    for _ in range(TIMES):
        verdict = judge(runner, program)
        if verdict.is_comparable:
            break
    assert verdict.is_comparable, f"plain does not agree with itself:\n{program.text}"
    assert not verdict.found, report(program, verdict.found)
