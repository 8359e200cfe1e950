"""The progress of a sweep: what has been counted so far, as a bar on a terminal, a line every ten seconds elsewhere.

Progress goes to stderr, results to stdout, so that a pipe gets results alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.commands.values import counted, written
from healthlb.simulation.sweep.results import Result


class SweepCounts:
    """Counts cells and adds up metrics.

    Args:
        metrics: whose running means are told.
        clock: seconds, monotonic.

    Attributes:
        asked: cells of all rounds so far.
        known: those of them that had a result before.
        ran: those that were run.
        failed: those of them that failed.
        rounds: how many began.
    """

    def __init__(self, metrics: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.asked = self.known = self.ran = self.failed = self.rounds = 0
        self._metrics = metrics
        self._clock = clock
        self._began_at = clock()
        self._sums = dict.fromkeys(metrics, 0.0)
        self._counts = dict.fromkeys(metrics, 0)

    def plan(self, asked: int, known: int) -> None:
        """A round begins."""
        self.rounds += 1
        self.asked += asked
        self.known += known

    def add(self, results: Sequence[Result]) -> None:
        """Count results."""
        self.ran += len(results)
        for result in results:
            self.failed += bool(result.failure)
            for name in self._metrics:
                if name in result.metrics:
                    self._sums[name] += result.metrics[name]
                    self._counts[name] += 1

    @property
    def done(self) -> int:
        """Cells that have a result."""
        return self.known + self.ran

    @property
    def rate(self) -> float:
        """Cells per second since the beginning."""
        return self.ran / max(1e-9, self._clock() - self._began_at)

    @property
    def eta(self) -> float | None:
        """Seconds until the cells that were asked for are done, at this rate; None before the first."""
        return (self.asked - self.done) / self.rate if self.ran else None

    @property
    def found(self) -> str:
        """The running means, as words."""
        return "  ".join(
            f"{name} {written(name, Estimate(self._sums[name] / count, 0.0, 1))}"
            for name, count in self._counts.items()
            if count
        )


_PLAIN_SECONDS = 10.0


class View(Protocol):
    """An observer of a sweep that shows something."""

    def planned(self, asked: int, known: int) -> None:
        """A round begins."""
        ...

    def came(self, results: list[Result]) -> None:
        """Results came."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


class LiveView:
    """A bar that moves."""

    def __init__(self, console: Console, tally: SweepCounts) -> None:
        self._tally = tally
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}", style="bright_black"), TextColumn("{task.fields[found]}", style="cyan"),
            console=console, transient=True,
        )  # fmt: skip
        self._task = self._progress.add_task("cells", total=None, pace="", found="")
        self._progress.start()

    def planned(self, asked: int, known: int) -> None:
        """Lengthen the bar."""
        self._tally.plan(asked, known)
        self._show()

    def came(self, results: list[Result]) -> None:
        """Move the bar."""
        self._tally.add(results)
        self._show()

    def _show(self) -> None:
        tally = self._tally
        failed = f"  [bold red]{tally.failed:,} failed[/]" if tally.failed else ""
        self._progress.update(
            self._task, completed=tally.done, total=tally.asked, pace=f"{tally.rate:.3g}/s  ETA {counted(tally.eta)}",
            found=tally.found + failed,
        )  # fmt: skip

    def close(self) -> None:
        """Take the bar away."""
        self._progress.stop()


class PlainView:
    """Lines of text."""

    def __init__(
        self, write: Callable[[str], object], tally: SweepCounts, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._tally = tally
        self._clock = clock
        self._next = clock() + _PLAIN_SECONDS

    def planned(self, asked: int, known: int) -> None:
        """Tell of the first round, and of later ones at their time."""
        self._tally.plan(asked, known)
        if self._tally.rounds == 1:
            self._write(f"{asked:,} cells, {known:,} of them done before")

    def came(self, results: list[Result]) -> None:
        """Write a line if it is time."""
        self._tally.add(results)
        if self._clock() >= self._next:
            self._next = self._clock() + _PLAIN_SECONDS
            self._write(line(self._tally))

    def close(self) -> None:
        """There is nothing to clean up."""


def line(tally: SweepCounts) -> str:
    """The present state as one line."""
    failed = f"  failed {tally.failed:,}" if tally.failed else ""
    pace = f"{tally.rate:.3g}/s  ETA {counted(tally.eta)}"
    return f"{tally.done:,}/{tally.asked:,} cells  {pace}  {tally.found}{failed}"


def open_view(console: Console, tally: SweepCounts, is_plain: bool) -> View:
    """Return the view that this console can show."""
    if is_plain or not console.is_terminal or console.is_dumb_terminal:
        return PlainView(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True), tally)
    return LiveView(console, tally)
