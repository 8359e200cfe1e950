"""Plays one page: `python -m tests.docs.play docs/health.md` runs its Python blocks in order, in one namespace.

It runs in a process of its own and in an empty directory, as a reader would; what the page shows as output must be
what was printed, up to numbers and lines of `...`.
"""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings

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
        self._ports: dict[str, str] = {}

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
        if shown not in self._ports:
            self._ports[shown] = shop.free_port()
        return self._ports[shown]

    def shown(self, text: str) -> str:
        """Return output with the addresses that the page uses."""
        text = super().shown(text)
        for shown, port in self._ports.items():
            text = re.sub(rf"\b{port}\b", shown, text)
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

    def close(self) -> None:
        """Leave nothing behind."""
        for name in list(self.names):
            if type(self.names[name]).__name__ == "HealthAwareChannel" and type(self.names[name]).__module__ == (
                "healthlb.sync.channel"
            ):
                self.names[name].close()
        for process in self._processes:
            process.kill()
            process.communicate()
        super().close()

    def _session(self, block: Block) -> None:
        """Type what stands after each "$" and compare what comes; `healthlb` is this source's."""
        for command, *shown in _commands(block.text):
            typed = f'healthlb() {{ "{sys.executable}" -W error -m healthlb.cli "$@"; }}\n{command}'
            played = subprocess.run(["bash", "-c", typed], stdout=subprocess.PIPE, text=True, timeout=100, check=False)
            assert _pattern("\n".join(shown)).fullmatch(_plain(played.stdout)), (
                f"{block.page}:{block.line}: {command} printed\n{played.stdout}"
            )

    def _compare(self, block: Block) -> None:
        printed = self.shown(self.printed.getvalue())
        self.printed.seek(0)
        self.printed.truncate()
        assert _pattern(block.text).fullmatch(_plain(printed)), (
            f"{block.page}:{block.line} shows\n{block.text}\nbut this was printed\n{printed}"
        )


def _commands(text: str) -> list[list[str]]:
    """Return each command of a session, followed by the lines that it prints."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append([line[2:]])
        else:
            found[-1].append(line)
    return found


def _pattern(text: str) -> re.Pattern[str]:
    lines = [re.escape(line).replace(re.escape("..."), ".*") for line in _plain(text).splitlines()]
    return re.compile("\n".join(lines) + "\n", re.DOTALL)


def _plain(text: str) -> str:
    """Without numbers, and with single spaces: what differs from run to run."""
    lines = [" ".join(_NUMBER.sub("0", line).split()) for line in text.strip().splitlines()]
    return "\n".join(lines) + "\n"


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
