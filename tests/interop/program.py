"""Servers and clients in other languages, and what they take to run here."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pytest

_FOLDER = Path(__file__).parent
_GO_PATH = Path("/usr/share/gocode")
_NODE_MODULES = _FOLDER.parents[1] / "build" / "interop" / "node_modules"
_PATIENCE = 30.0
_BUILD_PATIENCE = 240.0  # Seconds; 20 on an idle machine.


class Toolchain:
    """How to run the program of one language.

    Attributes:
        name: of the language.
        command: what to run, without the program's own arguments.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.command = tuple(command)

    def run(self, *arguments: str) -> Program:
        """Return the program, running and ready."""
        return Program((*self.command, *arguments))


def go(folder: Path) -> Toolchain:
    """Compile the Go program against Debian's grpc-go, or skip."""
    if shutil.which("go") is None:
        pytest.skip("Go (Debian's golang-go) is not installed")
    if not (_GO_PATH / "src/google.golang.org/grpc/health").is_dir():
        pytest.skip("grpc-go (Debian's golang-google-grpc-dev) is not installed")
    binary = folder / "interop"
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": str(_GO_PATH), "GOFLAGS": ""}
    if "HOME" not in environment:
        environment.setdefault("GOCACHE", str(folder / "cache"))
    subprocess.run(
        ["go", "build", "-o", str(binary), "interop.go"],
        cwd=_FOLDER / "go",
        env=environment,
        check=True,
        timeout=_BUILD_PATIENCE,
    )
    return Toolchain("go", [str(binary)])


def js() -> Toolchain:
    """Find grpc-js and grpc-health-check, or skip."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    if not (_NODE_MODULES / "grpc-health-check").is_dir():
        pytest.skip("grpc-health-check (npm) is not in build/interop, where .ci/run installs it")
    return Toolchain("js", ["env", f"NODE_PATH={_NODE_MODULES}", "node", str(_FOLDER / "js" / "interop.js")])


class Program:
    """A running program that answers each line with a line.

    Attributes:
        version: of its gRPC.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin = self._process.stdin
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        self.version = self._next()
        assert self._next() == "ready"

    def ask(self, line: str) -> str:
        """Write a line and return the answer."""
        self._stdin.write(line + "\n")
        return self._next()

    def kill(self) -> None:
        """SIGKILL; returns when it is gone. Any number of times."""
        self._process.kill()
        self._process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        self._stdin.close()

    def _next(self) -> str:
        line = self._lines.get(timeout=_PATIENCE)
        assert line, f"{self._process.args} has ended with {self._process.wait(_PATIENCE)}"
        return line

    def _read(self, stdout: IO[str]) -> None:
        with stdout:
            for line in stdout:
                self._lines.put(line.rstrip("\n"))
        self._lines.put("")


class Server:
    """A server in another language on an address that stays its own over kill and restart."""

    def __init__(self, toolchain: Toolchain, address: str, name: str) -> None:
        self._toolchain = toolchain
        self.address = address
        self.name = name
        self.restart()

    def restart(self) -> None:
        """Start it (again); it says SERVING for "svc"."""
        self._program = self._toolchain.run("serve", self.address, self.name)

    def set(self, status: str) -> None:
        """Set the status of "svc"; returns once it is set."""
        assert self._program.ask(f"{status} svc") == "done"

    def kill(self) -> None:
        """SIGKILL; any number of times."""
        self._program.kill()
