"""The server's process as the tests hold it, and `Peer`, what a program knows of it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc

from tests.backends.certs import make_certificates

PATIENCE = 8.0  # seconds; of waits for executions to begin
ENDING = 2.0  # seconds; of waits for executions to end, which they need not do


class Server:
    """A process of `server.py`.

    Args:
        folder: for its certificates.
    """

    def __init__(self, folder: Path) -> None:
        """Start it, and wait until it listens."""
        certificates = make_certificates(folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.differential.server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        plaintext, tls = json.loads(self._process.stdout.readline())
        self.address = f"127.0.0.1:{plaintext}"
        self.tls_address = f"localhost:{tls}"
        self.credentials: grpc.ChannelCredentials = certificates.channel_credentials()
        self._numbers = itertools.count()
        self._runs = itertools.count(1)
        self._answers: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def peer(self, *, slow: bool = False) -> Peer:
        """Return the server as one run knows it; one that is `slow` waits for 20 ms before it executes a method."""
        return Peer(self, f"{'s' if slow else 'r'}{next(self._runs)}")

    def ask(self, name: str, *arguments: Any) -> Any:
        """Give a command and wait for its answer."""
        number, answer = next(self._numbers), Future[Any]()
        self._answers[number] = answer
        with self._lock:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([number, name, *arguments]) + "\n")
            self._process.stdin.flush()
        return answer.result(PATIENCE + 20)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answered(line)

    def _answered(self, line: str) -> None:
        number, answer = json.loads(line)
        self._answers.pop(number).set_result(answer)


class Peer:
    """The server as one run of a program knows it; `peer("uu", "hold")` is the path of a method.

    Args:
        server: the process.
        run: a name that no other run has.
    """

    def __init__(self, server: Server, run: str) -> None:
        """Ask nothing yet."""
        self._server, self._run = server, run
        self.path_prefix = f"/{run}/"

    def __call__(self, arity: str, *steps: str) -> str:
        """Return the path of a method of this arity that does these steps; see `server.py`."""
        return "/".join((f"/{self._run}", arity, *steps))

    def started(self, count: int = 1, patience: float = PATIENCE) -> bool:
        """Wait until so many executions have begun."""
        return bool(self._server.ask("started", self._run, count, patience))

    def held(self, count: int = 1, patience: float = PATIENCE) -> bool:
        """Wait until so many executions are held, or were."""
        return bool(self._server.ask("held", self._run, count, patience))

    def over(self, count: int = 1, patience: float = ENDING) -> bool:
        """Wait until so many executions are over."""
        return bool(self._server.ask("over", self._run, count, patience))

    def idle(self, patience: float = ENDING) -> bool:
        """Wait until no execution is under way."""
        return bool(self._server.ask("idle", self._run, patience))

    def release(self) -> None:
        """Let the executions that are held go on."""
        self._server.ask("release", self._run)

    def report(self, count: int, patience: float) -> list[dict[str, Any]]:
        """Wait until `count` executions have begun and all are over; return them."""
        return self._server.ask("report", self._run, count, patience)  # type: ignore[no-any-return]
