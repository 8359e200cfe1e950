"""The test's side of a server process: starting it, talking to it, and making sure that nothing is left of it.

Three things end a child whose test forgot it: `close`, a finalizer that also runs at exit, and the end of its stdin
when the test process dies by any means. (PR_SET_PDEATHSIG would not do: it fires when the starting *thread* ends. A
child in a process group of its own that is stopped when its parent dies gets SIGHUP and SIGCONT from the kernel.)
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parents[2]
_START_PATIENCE = 60.0  # Seconds; a start takes 0.3 on an idle machine.
_ANSWER_PATIENCE = 10.0
_EXIT_PATIENCE = 10.0


class BackendError(RuntimeError):
    """A server did not start, does not run, or does not answer; the text ends with its stderr."""


class ServerCrashed(BackendError):
    """A server died of a signal that nobody sent: native code has crashed, which is grpcio's, and no word of a client's."""


# Tests send SIGKILL, SIGSTOP and SIGCONT.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


class ServerProcess:
    """One life of a server; thread-safe. `wait_ready` must be called once before anything else."""

    def __init__(self, settings: Mapping[str, Any], journal: int) -> None:
        """Start the process without waiting for it; `journal` is the descriptor it inherits for call ids."""
        self._name: str = settings["name"]
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the finalizer
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        self._popen = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "faulthandler",
                "-m",
                "tests.backends.server",
                json.dumps({**settings, "journal": journal}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
            pass_fds=(journal,),
            process_group=0,  # Neither Ctrl-C nor a killed process group of the test reaches it.
        )
        self._lock = threading.Lock()
        self._unread = b""
        self._serial = 0
        self._finalizer = weakref.finalize(self, _end, self._popen, self._stderr, os.getpid())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    def is_running(self) -> bool:
        """Whether the process exists; a stopped (SIGSTOP) one does."""
        return self._finalizer.alive and self._popen.poll() is None

    def wait_ready(self) -> None:
        """Return when the server serves; raises BackendError with its stderr when it fails to."""
        try:
            with self._lock:
                self._read_line(time.monotonic() + _START_PATIENCE)
        except BackendError as error:
            text = self.stderr()
            self.close()
            raise type(error)(f"backend {self._name} did not start: {error}\n{text}") from error

    def command(self, name: str, **arguments: Any) -> Any:
        """Run a command in the child and return its result."""
        with self._lock:
            if not self.is_running():
                if -(self._popen.returncode or 0) in _CRASHES:
                    raise self._gone()
                raise BackendError(f"backend {self._name} is not running (cannot {name})")
            self._serial += 1
            line = json.dumps({"id": self._serial, "name": name, "arguments": arguments})
            self._write(line.encode() + b"\n")
            answer = self._answer(time.monotonic() + _ANSWER_PATIENCE)
        if "error" in answer:
            raise BackendError(f"backend {self._name} could not {name}: {answer['error']}")
        return answer["result"]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is still a process to send it to."""
        if not self._finalizer.alive:
            return
        self._popen.send_signal(number)

    def wait_stopped(self, wanted: bool) -> None:
        """Wait until every thread of the process is stopped (SIGSTOP), or none is."""
        self._wait_until(lambda: self._are_stopped(wanted), f"did not {'stop' if wanted else 'continue'}")

    def wait_exit(self, timeout: float) -> None:
        """Wait until the process has gone; raises BackendError when it has not after `timeout` seconds."""
        if not self._finalizer.alive:
            return
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"backend {self._name} was still there after {timeout} s\n{self.stderr()}") from error

    def stderr(self) -> str:
        """What the child wrote to stderr so far; empty once closed."""
        if self._stderr.closed:
            return ""
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace")

    def close(self) -> None:
        """Kill the process if it is still there and let go of everything."""
        self._finalizer()

    def _are_stopped(self, wanted: bool) -> bool:
        try:
            # The state is the field behind the command, which may itself contain blanks and parentheses.
            stats = [stat.read_text() for stat in Path(f"/proc/{self.pid}/task").glob("*/stat")]
        except (FileNotFoundError, ProcessLookupError):
            return False  # A thread ended between the listing and the reading; the next look will be sound.
        states = [stat.rpartition(")")[2].split()[0] == "T" for stat in stats]
        return bool(states) and (all(states) if wanted else not any(states))

    def _wait_until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _EXIT_PATIENCE
        while not condition():
            if not self.is_running() or time.monotonic() > deadline:
                raise BackendError(f"backend {self._name} {complaint}")
            time.sleep(0.002)

    def _write(self, line: bytes) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line)
        except BrokenPipeError as error:
            raise self._gone() from error

    def _gone(self) -> BackendError:
        """Return the error for a process that has closed its pipes, which says how it ended."""
        try:
            status = self._popen.wait(_EXIT_PATIENCE)
        except subprocess.TimeoutExpired:
            return BackendError(f"backend {self._name} has closed its pipes, but runs\n{self.stderr()}")
        if -status in _CRASHES:
            return ServerCrashed(f"backend {self._name} has crashed of {signal.Signals(-status).name}\n{self.stderr()}")
        return BackendError(f"backend {self._name} has gone with status {status}\n{self.stderr()}")

    def _answer(self, deadline: float) -> dict[str, Any]:
        while True:
            answer: dict[str, Any] = json.loads(self._read_line(deadline))
            if answer.get("id") == self._serial:  # Others are late answers to commands that were given up.
                return answer

    def _read_line(self, deadline: float) -> bytes:
        assert self._popen.stdout is not None
        while b"\n" not in self._unread:
            poller = select.poll()  # select() refuses descriptors above 1023, which benchmarks have.
            poller.register(self._popen.stdout, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise BackendError(f"backend {self._name} gives no answer (paused, or stuck?)\n{self.stderr()}")
            chunk = self._popen.stdout.read(65536)
            if not chunk:
                raise self._gone()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _end(popen: subprocess.Popen[bytes], stderr: IO[bytes], owner: int) -> None:
    """Kill and reap; in a fork of the test process leave the parent's children alone."""
    if os.getpid() != owner:
        return
    popen.kill()
    popen.wait()
    for pipe in (popen.stdin, popen.stdout, stderr):
        if pipe is not None:
            pipe.close()
