"""`healthlb simulate fuzz`: random worlds, and what must hold in each of them.

Each finding comes with the line that shows it again.
"""

from __future__ import annotations

import sys
import time

import click

from healthlb.cli.checked import SEED, accepts_plain
from healthlb.simulation.fuzzing.campaign import Progress, hunt

_EVERY = 10.0


@click.command("fuzz")
@click.option("--worlds", default=500, show_default=True, type=click.IntRange(1, 10**9), help="How many.")
@click.option("--seed", default=1, show_default=True, type=SEED, help="Another seed, other worlds.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0, 10**12), help="Number of the first one.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 1024), help="Processes.")
@accepts_plain
def command(worlds: int, seed: int, first: int, jobs: int) -> None:
    """Run random worlds and check what must hold in every one; exit with 1 if something does not.

    Servers, wires, clients, settings and faults are drawn from the seed and the world's number. The checks watch from
    outside: faults, wire, servers and calls.
    """
    view = _View(worlds)
    try:
        for part in hunt(seed, worlds, jobs, first):
            view.show(part)
    except KeyboardInterrupt:
        view.end("interrupted")
        sys.exit(130)
    view.end("done")
    sys.exit(1 if view.findings else 0)


class _View:
    """Tells of findings as they come, and of progress on a terminal's last line, or now and then."""

    def __init__(self, worlds: int) -> None:
        self._worlds = worlds
        self._done = self._calls = self.findings = 0
        self._began_at = self._told_at = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def show(self, part: Progress) -> None:
        """Take in a part."""
        self._done += part.worlds
        self._calls += part.calls
        for finding in part.findings:
            self.findings += 1
            self._clear()
            click.echo(f"{finding.replay}    # {finding.text}")
        now = time.monotonic()
        if self._is_terminal:
            click.echo(f"\r\033[K{self._line(now)}", nl=False, err=True)
        elif now - self._told_at >= _EVERY:
            self._told_at = now
            click.echo(self._line(now), err=True)

    def end(self, word: str) -> None:
        """Say how it ended."""
        self._clear()
        click.echo(f"{word}: {self._line(time.monotonic())}")

    def _clear(self) -> None:
        if self._is_terminal:
            click.echo("\r\033[K", nl=False, err=True)

    def _line(self, now: float) -> str:
        seconds = max(now - self._began_at, 1e-9)
        left = (self._worlds - self._done) * seconds / max(self._done, 1)
        eta = f", {left:.0f} s left" if self._done < self._worlds else ""
        found = "1 finding" if self.findings == 1 else f"{self.findings} findings"
        rate = f"{self._done / seconds:.0f} worlds/s"
        return f"{self._done}/{self._worlds} worlds, {self._calls} calls, {rate}, {found}{eta}"
