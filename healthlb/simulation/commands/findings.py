"""What a sweep has found, as text.

A number stands beside its half-width of 95 % confidence wherever there is one.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import click

from healthlb.simulation.commands.values import aligned, written
from healthlb.simulation.sweep import simulating
from healthlb.simulation.sweep.campaign import Campaign
from healthlb.simulation.sweep.cells import Cell, Value
from healthlb.simulation.sweep.store import Store
from healthlb.simulation.sweep.summary import Crossing, Row, Summary
from healthlb.simulation.sweep.sweep import Sweep

_MOST_ROWS = 60
_MOST_FAILURES = 5
Write = Callable[[str], object]


def show_complaints(store: Store, write: Write) -> None:
    """Tell of lines of earlier results that were left out."""
    for complaint in store.complaints[:_MOST_FAILURES]:
        write(f"left out: {complaint}")
    if len(store.complaints) > _MOST_FAILURES:
        write(f"left out: {len(store.complaints) - _MOST_FAILURES:,} more lines")
    if store.conflicts:
        write(f"{len(store.conflicts)} cells have results that differ, the first of them {store.conflicts[0]}")


def show(summary: Summary, campaign: Campaign, store: Store, file: Path, *, is_whole: bool) -> None:
    """Print the table of points, the edges and the failures, and of a whole sweep the digest."""
    rows = [row for row in summary.rows() if row.replications or row.failed]
    for line in aligned([_head(summary.sweep), *(_cells(summary.sweep, row) for row in rows[:_MOST_ROWS])]):
        click.echo(line)
    if len(rows) > _MOST_ROWS:
        click.echo(f"... and {len(rows) - _MOST_ROWS:,} more points: --csv FILE has them all")
    _show_crossings(summary)
    for name, count in summary.broken().items():
        click.echo(f"check {name} of the scenario did not hold in {count:,} cells")
    _show_failures(summary, campaign, store, file)
    if is_whole:
        click.echo(f"digest {store.digest(campaign.keys)}")


def _head(sweep: Sweep) -> list[str]:
    return ["policy", *(axis.name for axis in sweep.axes), "runs", *sweep.metrics, *sweep.checks]


def _cells(sweep: Sweep, row: Row) -> list[str]:
    known = row.estimates
    estimates = [written(name, known[name]) if name in known else "-" for name in sweep.metrics]
    held = [f"{row.checks[name]}/{row.replications}" for name in sweep.checks]
    runs = f"{row.replications}" + (f" -{row.failed}" if row.failed else "")
    return [row.site.policy, *map(_value, row.site.point), runs, *estimates, *held]


def _value(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else f"{value}"


def _show_crossings(summary: Summary) -> None:
    crossings = summary.crossings()
    refine = summary.sweep.refine
    if not crossings or refine is None:
        return
    names = [axis.name for axis in summary.sweep.axes]
    index = names.index(refine.axis)
    others = [name for name in names if name != refine.axis]
    head = ["policy", *others, f"{refine.axis} where it flips", summary.sweep.boundary_label or "theory"]
    click.echo(f"\n{refine.check}")
    for line in aligned([head, *(_crossing(crossing, index) for crossing in crossings)]):
        click.echo(line)


def _crossing(crossing: Crossing, index: int) -> list[str]:
    edge = crossing.edge
    others = [_value(value) for place, value in enumerate(edge.site.point) if place != index]
    theory = "-" if crossing.theory is None else f"{crossing.theory:.4g}"
    return [edge.site.policy, *others, f"{edge.low:.6g} to {edge.high:.6g}", theory]


def _show_failures(summary: Summary, campaign: Campaign, store: Store, file: Path) -> None:
    failures = list(summary.failures()) + [(campaign.keys[key], why) for key, why in campaign.lost.items()]
    for cell, why in failures[:_MOST_FAILURES]:
        options = ["--out", str(store.directory), "--cell", cell.key[:12]]
        replay = shlex.join(["healthlb", "simulate", "sweep", str(file), *options])
        click.echo(f"failed: {described(cell)}: {why}\n  {replay}")
    if len(failures) > _MOST_FAILURES:
        click.echo(f"failed: {len(failures) - _MOST_FAILURES:,} more cells")


def described(cell: Cell) -> str:
    """A cell in a few words."""
    changes = ", ".join(f"{path} = {value}" for path, value in cell.overrides)
    return f"policy {cell.policy}, {changes}, replication {cell.replication}"


def show_cell(sweep: Sweep, cell: Cell, write: Write) -> int:
    """Run a cell here, and print what it comes to; what it raises is raised."""
    write(described(cell))
    began = time.process_time()
    result = simulating.simulate(sweep.world, cell)
    for name, value in sorted(result.metrics.items()):
        write(f"  {name} = {value:.6g}")
    for name, held in result.checks.items():
        write(f"  check {name} {'holds' if held else 'does not hold'}")
    write(f"  {time.process_time() - began:.2f} s of CPU")
    return 0 if all(result.checks.values()) else 1
