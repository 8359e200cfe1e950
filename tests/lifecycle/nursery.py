"""An interpreter that has imported healthlb and has a child run each script: saves a second of imports each.

A script runs as `__main__` of its process, and its interpreter ends as any: that is what the tests are about. Nothing
of grpcio is used before the fork.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import healthlb
import healthlb.aio  # noqa: F401 - imported for the children

_LOOK = 0.005


def _become(request: dict[str, Any], output: int, errors: int) -> None:
    """Be the script's process: its stdin is empty, its output goes to the files."""
    silence = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((silence, 0), (output, 1), (errors, 2)):
        os.dup2(source, target)
        os.close(source)
    sys.argv = ["script", *request["arguments"]]
    exec(compile(request["script"], "script", "exec"), sys.modules["__main__"].__dict__)


def _wait(pid: int, deadline: float) -> int | None:
    """Return the exit code, None for a process that had to be killed at the deadline."""
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_LOOK)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return None


def _read(file: int) -> str:
    text = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
    os.close(file)
    return text


def main() -> None:
    """Serve scripts, one a line, until stdin ends."""
    for line in sys.stdin:
        request = json.loads(line)
        output, errors = (os.memfd_create(name) for name in ("output", "errors"))
        pid = os.fork()
        if not pid:
            _become(request, output, errors)
            return
        status = _wait(pid, time.monotonic() + request["longest"])
        answer = {"status": status, "output": _read(output), "errors": _read(errors)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
