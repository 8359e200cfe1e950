"""`healthlb simulate sweep`: one scenario under many settings.

Whatever ends it, what is done stays done, and the last line says how to go on.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from healthlb.cli.checked import plain_option
from healthlb.errors import ConfigError
from healthlb.files import read_text
from healthlb.simulation.commands import findings
from healthlb.simulation.commands.sweep_progress import SweepCounts, open_view
from healthlb.simulation.sweep import simulating
from healthlb.simulation.sweep.campaign import Campaign
from healthlb.simulation.sweep.cells import Cell, engine_version
from healthlb.simulation.sweep.executors import open_executor
from healthlb.simulation.sweep.files import read
from healthlb.simulation.sweep.rounds import Rounds
from healthlb.simulation.sweep.store import Store
from healthlb.simulation.sweep.summary import Summary
from healthlb.simulation.sweep.sweep import Sweep

INTERRUPTED = 130
_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command("sweep")
@click.argument("file", metavar="NAME|FILE")
@click.option(
    "--jobs", type=click.IntRange(1, 1024), default=None, help="Processes on this machine. [default: one a core]"
)
@click.option(
    "--executor",
    default="pool",
    show_default=True,
    metavar="URL",
    help="inline, pool, dask://local, or dask://host:port for a cluster's scheduler, which has 10 s to answer.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help="Folder of the results. [default: sweeps/NAME]",
)
@click.option("--resume/--fresh", default=True, show_default=True, help="Whether to go on with results that are there.")
@click.option("--html", type=_PATH, default=None, help="Write the maps to this file.")
@click.option("--csv", type=_PATH, default=None, help="Write every cell to this file.")
@click.option("--cell", default="", metavar="KEY", help="Run this one cell again, here, and show what it comes to.")
@plain_option
def command(
    file: str,
    jobs: int | None,
    executor: str,
    out: Path | None,
    resume: bool,
    html: Path | None,
    csv: Path | None,
    cell: str,
    plain: bool,
) -> None:
    """Run a scenario under all settings that a sweep asks for: NAME of the catalogue, or a FILE of your own.

    Every cell, one run under one setting, is kept as it comes. Run the same command again to go on, with more
    replications in the file or on another machine; join results with cat. Exits with 1 if cells failed, and with 130 if
    it was interrupted.
    """
    try:
        path = simulating.find_sweep(file)
        sweep = read(path, simulating.find_scenario)
        simulating.examine(sweep)
        folder = out or Path("sweeps") / sweep.name
        if cell:
            sys.exit(_one(sweep, folder, cell))
        task = _Task(path, sweep, folder, executor, jobs or os.cpu_count() or 1, resume, plain, html, csv)
        sys.exit(_run(task))
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"results cannot be kept: {error}") from error


@dataclass(frozen=True, slots=True)
class _Task:
    """What the command line asks for; `html` and `csv` are files to write, None for none."""

    file: Path
    sweep: Sweep
    folder: Path
    executor: str
    jobs: int
    is_resumed: bool
    is_plain: bool
    html: Path | None
    csv: Path | None

    @property
    def to_resume(self) -> str:
        """The command that goes on with this sweep after an interruption."""
        words = ["healthlb", "simulate", "sweep", str(self.file), "--out", str(self.folder), "--resume"]
        return shlex.join(words)


def _run(task: _Task) -> int:
    tally = SweepCounts(task.sweep.metrics[:3])
    errors = Console(stderr=True, highlight=False)
    with Store(task.folder, is_fresh=not task.is_resumed) as store, _interruptible():
        findings.show_complaints(store, click.echo)
        rounds = Rounds(task.sweep, engine_version(), store.get, judge=simulating.judge_of(task.sweep))
        executor = open_executor(task.executor, task.jobs)
        view = open_view(errors, tally, task.is_plain)
        campaign = Campaign(task.sweep.world, simulating.simulate, store, executor=executor, observer=view)
        is_whole = False
        try:
            campaign.run(rounds)
            is_whole = True
        except KeyboardInterrupt:
            pass
        finally:
            view.close()
            executor.close()
        summary = Summary(rounds, store.get, simulating.FUNCTIONS)
        findings.show(summary, campaign, store, task.file, is_whole=is_whole)
        _write(task, summary)
    if not is_whole:
        click.echo(f"interrupted: {tally.done:,} of {tally.asked:,} cells are done; go on with", err=True)
        click.echo(f"  {task.to_resume}", err=True)
        return INTERRUPTED
    return 1 if campaign.lost or any(summary.failures()) else 0


def _write(task: _Task, summary: Summary) -> None:
    if task.csv:
        task.csv.write_text(summary.table(), encoding="utf-8")
        click.echo(f"cells: {task.csv}")
    if task.html:
        from healthlb.simulation.sweep.maps import page

        task.html.write_text(page(summary, read_text(task.file)), encoding="utf-8")
        click.echo(f"maps: {task.html}")


def _one(sweep: Sweep, folder: Path, key: str) -> int:
    known = [cell for cell in _asked(sweep, Store(folder)) if cell.key.startswith(key)]
    if len(known) != 1:
        raise ConfigError(f"--cell: {key!r} is the beginning of {len(known)} keys of this sweep, must be of one")
    return findings.show_cell(sweep, known[0], click.echo)


def _asked(sweep: Sweep, store: Store) -> Iterator[Cell]:
    for cells in Rounds(sweep, engine_version(), store.get, judge=simulating.judge_of(sweep)):
        yield from cells
        if not all(cell.key in store for cell in cells):
            return


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    # A scheduler's SIGTERM is as good a reason to keep what is done as Ctrl-C.
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
