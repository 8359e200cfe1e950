"""Scripts in interpreters of their own, waiting for conditions, and what a process holds."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

from tests.backends.clients import PATIENCE, eventually

__all__ = ["PATIENCE", "UNARY", "Nursery", "control_threads", "eventually", "eventually_async"]

UNARY = "/test.Echo/Unary"

_ROOT = Path(__file__).resolve().parents[2]
_LONGEST = 60.0
# asyncio's debug mode complains of a busy machine, and C-core of a fork that it sits out.
_HARMLESS = re.compile(r"Executing <|.*Other threads are currently calling into gRPC, skipping fork\(\) handlers")


class TimeLimitReached(AssertionError):
    """A script was ended by its time limit."""


class Nursery:
    """Runs scripts in new processes, in Python's development mode and with warnings as errors."""

    def __init__(self) -> None:
        """Start the interpreter that they are forked from."""
        self._process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.lifecycle.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )

    def run(self, script: str, *arguments: str) -> list[str]:
        """Run a script; return the lines it prints. It must end with status 0, in time, and say nothing on stderr."""
        request = {"script": textwrap.dedent(script), "arguments": arguments, "longest": _LONGEST}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["status"] is None:
            raise TimeLimitReached(answer["errors"])
        noise = [line for line in answer["errors"].splitlines() if not _HARMLESS.match(line)]

        assert (answer["status"], noise) == (0, []), answer["errors"]
        output: list[str] = answer["output"].splitlines()
        return output

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_LONGEST)
        self._process.stdout.close()


async def eventually_async(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds, the loop running meanwhile; fail when it does not in time."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


def control_threads() -> list[threading.Thread]:
    """Return the control threads that run in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "healthlb-control"]
