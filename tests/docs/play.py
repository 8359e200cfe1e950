"""Plays one page: `python -m tests.docs.play docs/health.md` runs its Python blocks in order, in one namespace.

It runs in a process of its own and in an empty directory, as a reader would; what the page shows as output must be
what was printed, up to numbers and lines of `...`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

from tests.backends.addresses import Reservation, port_of
from tests.docs import shop
from tests.docs.pages import ROOT, Block, blocks

_NUMBER = re.compile(r"\d+(\.\d+)?")
# What a page takes for granted in its first block.
_PRELUDES = {"resolvers.md": "import healthlb"}
_OWN_PORT = re.compile(r"\b5005[1-9]\b")


class Player(shop.Stage):
    """Runs the blocks of one page; its hidden Python knows it as `stage`."""

    def __init__(self) -> None:
        super().__init__()
        self.printed = io.StringIO()
        self.names: dict[str, Any] = {"__name__": "__main__", "stage": self}
        self._processes: list[subprocess.Popen[str]] = []
        self._started: list[subprocess.Popen[str]] = []
        self._ports: dict[str, Reservation] = {}
        self._local: dict[str, str] = {}

    def play(self, block: Block) -> None:
        """Run, write or compare one block."""
        kind, _, argument = block.remark.partition(": ")
        if kind == "output":
            self._compare(block)
        elif block.language == "hidden":
            exec(compile(block.padded, block.page, "exec"), self.names)
        elif kind == "file":
            Path(argument).write_text(self.real(block.text))
        elif kind == "append":
            Path(argument).write_text(f"{Path(argument).read_text()}\n{block.text}")
        elif kind == "session":
            self._session(block)
        elif kind == "start":
            self._started += [self._start(line) for line in block.text.splitlines()]
        elif block.language != "python":
            return
        elif kind == "syntax only":
            compile(block.padded, block.page, "exec")
        else:
            exec(compile(self.real(block.padded), block.page, "exec"), self.names)

    def real(self, text: str) -> str:
        """Return code that uses addresses which exist here."""
        return _OWN_PORT.sub(lambda found: self.port(found[0]), super().real(text))

    def port(self, shown: str) -> str:
        """Return the free port that stands for one that a page uses."""
        if shown in self._local:
            return self._local[shown]
        if shown not in self._ports:
            self._ports[shown] = Reservation(["127.0.0.1:0"])
        return str(port_of(self._ports[shown].addresses[0]))

    def shown(self, text: str) -> str:
        """Return output with the addresses that the page uses."""
        text = super().shown(text)
        for shown in (*self._ports, *self._local):
            text = re.sub(rf"\b{self.port(shown)}\b", shown, text)
        return text

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a script of the page; what it prints goes to a pipe."""
        process = subprocess.Popen([sys.executable, *map(self.real, arguments)], stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    def run(self, *arguments: str) -> str:
        """Run a script of the page to its end and return what it printed."""
        process = self.popen(*arguments)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        return output

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def be_local(self) -> None:
        """Let the servers stand for 127.0.0.1:50051 and so on, for pages that are followed on one machine."""
        for number, server in enumerate(self.servers, 1):
            self._local[f"5005{number}"] = server.address.rpartition(":")[2]
            server.cart.served_by = f"127.0.0.1:5005{number}"

    def wait_for_port(self, shown: str) -> None:
        """Return as soon as somebody listens there."""

        def is_open() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(self.port(shown)))) == 0

        self.until(is_open)

    def stop(self) -> str:
        """End what was started with SIGTERM, as a supervisor does; return all that it said."""
        for process in self._started:
            process.terminate()
        said = [process.communicate(timeout=30)[0] for process in self._started]
        self._started = []
        return "".join(said)

    def close(self) -> None:
        """Leave nothing behind."""
        for name in list(self.names):
            if type(self.names[name]).__name__ == "HealthAwareChannel" and type(self.names[name]).__module__ == (
                "healthlb.sync.channel"
            ):
                self.names[name].close()
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with its workers
        for process in (*self._processes, *self._started):
            process.kill()
            process.communicate()
        for reservation in self._ports.values():
            reservation.release()
        super().close()

    def _start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", f"exec {self._typed(command)}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
            start_new_session=True,
        )

    def _typed(self, command: str) -> str:
        return re.sub(r"\b8000\b", lambda found: self.port(found[0]), self.real(command))

    def _session(self, block: Block) -> None:
        """Type what stands after each "$" and compare what comes; `healthlb` is this source's."""
        for command, *shown in _commands(block.text):
            healthlb = f'healthlb() {{ "{sys.executable}" -W error -m healthlb.cli "$@"; }}\n'
            typed = ["bash", "-c", healthlb + self._typed(command)]
            played = subprocess.run(
                typed, stdout=subprocess.PIPE, text=True, timeout=100, check=False, env=_environment()
            )
            is_exact = block.remark == "session: to the digit"
            printed = _plain(self.shown(played.stdout), is_exact=is_exact)
            assert _pattern("\n".join(shown), is_exact=is_exact).fullmatch(printed), (
                f"{block.page}:{block.line}: {command} printed\n{played.stdout}"
            )

    def _compare(self, block: Block) -> None:
        printed = self.shown(self.printed.getvalue())
        self.printed.seek(0)
        self.printed.truncate()
        assert _pattern(block.text).fullmatch(_plain(printed)), (
            f"{block.page}:{block.line} shows\n{block.text}\nbut this was printed\n{printed}"
        )


def _environment() -> dict[str, str]:
    """The commands that a reader has installed, each of which prints its errors at once."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}


def _commands(text: str) -> list[list[str]]:
    """Return each command of a session, followed by the lines that it prints."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append([line[2:]])
        else:
            found[-1].append(line)
    return found


def _pattern(text: str, *, is_exact: bool = False) -> re.Pattern[str]:
    plain = _plain(text, is_exact=is_exact)
    lines = [re.escape(line).replace(re.escape("..."), ".*") for line in plain.splitlines()]
    return re.compile("\n".join(lines) + "\n", re.DOTALL)


def _plain(text: str, *, is_exact: bool = False) -> str:
    """With single spaces, and without what differs from run to run: all numbers, or where it is exact those of time."""
    lines = [
        line if is_exact and "CPU time" not in line else _NUMBER.sub("0", line) for line in text.strip().splitlines()
    ]
    return "\n".join(" ".join(line.split()) for line in lines) + "\n"


def main() -> None:
    """Play the page named on the command line."""
    page = ROOT / sys.argv[1]
    for name in ("shop_pb2", "shop_pb2_grpc"):
        Path(f"{name}.py").write_text(f"import sys\nfrom tests.docs import shop\nsys.modules[__name__] = shop.{name}\n")
    # A page's own hypothesis test is as slow as the machine is busy.
    settings.register_profile("page", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("page")
    player = Player()
    exec(_PRELUDES.get(page.name, ""), player.names)
    with contextlib.closing(player), contextlib.redirect_stdout(player.printed):
        for block in blocks(page):
            player.play(block)


if __name__ == "__main__":
    main()
