"""Scripts in interpreters of their own, waiting for conditions, and what a process holds."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

from tests.backends.clients import PATIENCE, eventually

__all__ = ["PATIENCE", "UNARY", "control_threads", "eventually", "eventually_async", "run_script"]

UNARY = "/test.Echo/Unary"
_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 60.0
# asyncio's debug mode complains of a busy machine, and C-core of a fork that it sits out.
_HARMLESS = re.compile(r"Executing <|.*Other threads are currently calling into gRPC, skipping fork\(\) handlers")


def run_script(script: str, *arguments: str, options: tuple[str, ...] = ("-X", "dev", "-W", "error")) -> list[str]:
    """Run a script in a new interpreter; return the lines it prints.

    It must end with status 0, in time, and say nothing on stderr.
    """
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        cwd=_ROOT,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
    )
    noise = [line for line in done.stderr.splitlines() if not _HARMLESS.match(line)]

    assert (done.returncode, noise) == (0, []), done.stderr
    return done.stdout.splitlines()


async def eventually_async(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds, the loop running meanwhile; fail when it does not in time."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


def control_threads() -> list[threading.Thread]:
    """Return the control threads that run in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "healthlb-control"]
