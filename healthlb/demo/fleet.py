"""The backends as processes: start, flip, kill, freeze and restart them.

None of them outlives this process, however it ends. They stop at the end of file
on their stdin; a frozen one cannot read, and is woken and hung up on by the kernel, since it is
alone in a process group that its parent's death makes an orphan.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

START_TIMEOUT = 30.0
ANSWER_TIMEOUT = 10.0
STOP_GRACE = 0.5

_SCRIPT = Path(__file__).with_name("backend.py")


class BackendError(Exception):
    """A backend process did not do what it was told."""


def _reserved_port() -> socket.socket:
    # Bound, never listening: it keeps the port ours while the backend is dead, and it keeps a
    # client that reconnects from being given that very port as its own.
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


class BackendProcess:
    """One backend: an address that stays, and a process that comes and goes.

    Attributes:
        index: its number in the fleet.
        address: what clients connect to.
    """

    def __init__(self, index: int, script: Path = _SCRIPT) -> None:
        self.index = index
        self._script = script
        self._holder = _reserved_port()
        self._port: int = self._holder.getsockname()[1]
        self.address = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while there is no process."""
        return self._process.pid if self._process else None

    def launch(self) -> None:
        """Start the process without waiting for it; `await_ready` does.

        Raises:
            BackendError: what its health service needs is not installed.
        """
        if find_spec("grpc_health") is None or find_spec("grpc_health.v1") is None:
            raise BackendError('the servers need grpcio-health-checking: install "healthlb[server]"')
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(self._script), str(self.index), str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            process_group=0,  # Ctrl-C in the terminal is for the demo alone
        )

    def await_ready(self) -> None:
        """Wait until it serves.

        Raises:
            BackendError: it ended or said nothing within 30 s.
        """
        self._expect("ready", START_TIMEOUT)

    def set_status(self, status: str) -> None:
        """Change its serving status; returns when that is done."""
        self.tell({"set": status})

    def tell(self, command: dict[str, Any]) -> None:
        """Send a command of one key, and wait until it was done.

        Raises:
            BackendError: it is not running, ended, or did not answer within 10 s.
        """
        self._send(command)
        self._expect(next(iter(command)), ANSWER_TIMEOUT)

    def kill(self) -> None:
        """kill -9; returns when the process is gone."""
        process = self._running()
        process.kill()
        process.wait()
        self._forget()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers; returns once it stands still."""
        process = self._running()
        process.send_signal(signal.SIGSTOP)
        # The kernel wakes and ends whoever stands still when the demo dies, and nobody who is yet to stop.
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Tell it to stop gracefully, without waiting; `close` does."""
        if self._process is None:
            return
        self.thaw()
        # A process that is gone already is as good as stopped.
        with contextlib.suppress(BackendError):
            self._send({"stop": STOP_GRACE})

    def close(self) -> None:
        """End the process and give the port back."""
        if self._process is not None:
            self.thaw()
            try:
                self._process.wait(STOP_GRACE * 4)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._forget()
        self._holder.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise BackendError(f"backend {self.address} is not running")
        return self._process

    def _forget(self) -> None:
        process, self._process = self._running(), None
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _send(self, command: dict[str, Any]) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise BackendError(f"backend {self.address} is gone") from None

    def _expect(self, answer: str, timeout: float) -> None:
        process = self._running()
        assert process.stdout is not None
        assert process.stderr is not None
        readable, _, _ = select.select([process.stdout], [], [], timeout)
        if not readable:
            raise BackendError(f"backend {self.address} did not answer within {timeout:g} s")
        line = process.stdout.readline()
        if not line:
            last_words = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            raise BackendError(f"backend {self.address} ended: {''.join(last_words) or 'no reason given'}")
        if answer not in json.loads(line):
            raise BackendError(f"backend {self.address} answered {line!r}, not {answer!r}")


class Fleet:
    """All backends, in the order of their lanes."""

    def __init__(self, size: int, script: Path = _SCRIPT) -> None:
        self.backends = tuple(BackendProcess(index, script) for index in range(size))

    @property
    def addresses(self) -> tuple[str, ...]:
        """The backends' addresses, in order."""
        return tuple(backend.address for backend in self.backends)

    def __enter__(self) -> Fleet:
        try:
            for backend in self.backends:
                backend.launch()
            for backend in self.backends:
                backend.await_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all processes, at the same time."""
        for backend in self.backends:
            backend.ask_to_stop()
        for backend in self.backends:
            backend.close()
