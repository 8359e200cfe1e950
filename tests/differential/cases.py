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
        AssertionError: they differ, or plain does not always do the same.
    """
    program = program_of(case, form)
    verdict = judge(runner, program)
    assert verdict.is_comparable, f"plain does not agree with itself:\n{program.text}"
    assert not verdict.found, report(program, verdict.found)
