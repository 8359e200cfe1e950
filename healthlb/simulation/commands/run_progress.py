"""How a scenario is going: a bar on a terminal, a line every ten seconds elsewhere.

It goes to stderr, and results go to stdout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.commands.values import counted, grouped, written
from healthlb.simulation.running import Progress

_PLAIN_SECONDS = 10.0
_LIVE_SECONDS = 0.1
Clock = Callable[[], float]


class RunRate:
    """How fast it goes, and what has been found so far.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._began_at = clock()

    def line(self, progress: Progress) -> str:
        """Return "3/8 runs  412k calls  78k/s  ETA 9 s  tuned p99 51 ms err 0.92 %"."""
        seconds = max(1e-9, self._clock() - self._began_at)
        calls = sum(record.metrics["requests"] for record in progress.done) + progress.calls
        share = (len(progress.done) + progress.share) / progress.planned
        eta = seconds * (1 - share) / share if share else None
        pace = f"{grouped(calls)} calls  {grouped(calls / seconds)}/s  ETA {counted(eta)}"
        return "  ".join([f"{len(progress.done)}/{progress.planned} runs  {pace}", *_found(progress)])


def _found(progress: Progress) -> list[str]:
    policies = dict.fromkeys(record.policy for record in progress.done)
    return [f"{policy} {_means(progress, policy)}" for policy in list(policies)[:3]]


def _means(progress: Progress, policy: str) -> str:
    def mean(metric: str) -> str:
        values = [record.metrics[metric] for record in progress.done if record.policy == policy]
        return written(metric, Estimate(fmean(values), 0.0, 1))

    return f"p99 {mean('p99')} err {mean('error_ratio')}"


class PlainView:
    """Lines of text."""

    def __init__(self, write: Callable[[str], object], clock: Clock = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._pace = RunRate(clock)
        self._next = clock() + _PLAIN_SECONDS

    def __call__(self, progress: Progress) -> None:
        """Write a line if it is time."""
        if self._clock() >= self._next:
            self._next = self._clock() + _PLAIN_SECONDS
            self._write(self._pace.line(progress))


class LiveView:
    """A bar that moves."""

    def __init__(self, bar: Bar, clock: Clock = time.monotonic) -> None:
        self._bar = bar
        self._clock = clock
        self._pace = RunRate(clock)
        self._next = clock()
        self._task = bar.add_task("", total=None, says="")

    def __call__(self, progress: Progress) -> None:
        """Move it."""
        if self._clock() >= self._next:
            self._next = self._clock() + _LIVE_SECONDS
            done = len(progress.done) + progress.share
            self._bar.update(self._task, total=progress.planned, completed=done, says=self._pace.line(progress))


@contextmanager
def watched(console: Console, *, is_plain: bool = False) -> Iterator[Callable[[Progress], object]]:
    """Give what shows progress on this console as well as it can, or in lines where those are asked for."""
    if is_plain or not console.is_terminal or console.is_dumb_terminal:
        yield PlainView(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True))
        return
    with Bar(BarColumn(bar_width=24), TextColumn("{task.fields[says]}"), console=console, transient=True) as bar:
        yield LiveView(bar)
