"""`healthlb simulate calibrate`: the simulator against real servers on this machine.

Exit code 0 for agreement, 1 for none, and 3 where the machine is too busy to say.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import click

from healthlb.cli.checked import SEED, accepts_plain
from healthlb.demo.fleet import BackendError
from healthlb.simulation.calibration.judgement import Judgement, Row, delays, judge
from healthlb.simulation.calibration.plan import BACKENDS, RATE, make_plan
from healthlb.simulation.calibration.real import Observed, observe

SKIPPED = 3
PICKERS = ("round_robin", "least_request", "peak_ewma")
_LATENCIES = frozenset({"mean", "p50", "p99"})


@click.command("calibrate")
@click.option("--seconds", type=click.IntRange(4, 3600), default=20, show_default=True, help="Of traffic.")
@click.option("--seed", type=SEED, default=1, show_default=True, help="Of calls and their work.")
@click.option(
    "--picker",
    type=click.Choice(PICKERS),
    default=PICKERS[0],
    show_default=True,
    help="Those that look at the load are part luck: their shares take minutes to settle within a point.",
)
@click.option("--json", "is_json", is_flag=True, help="Nothing but one JSON document.")
@accepts_plain
def command(seconds: int, seed: int, picker: str, is_json: bool) -> None:
    """Compare the simulator with real gRPC servers on this machine.

    The same calls and faults are played to local servers through a HealthAwareChannel and to the simulator. What this
    machine adds to each call is measured on the first half and given to the simulator for the second.
    """
    plan = make_plan(seconds, seed, picker)
    if not is_json:
        click.echo(f"{BACKENDS} servers, {len(plan.times):,} calls at {RATE:g}/s, {seconds} s of real time", err=True)
    try:
        observed = observe(plan)
    except (BackendError, TimeoutError) as error:
        raise click.ClickException(str(error)) from error
    judgement = judge(plan, observed)
    click.echo(_json(judgement, observed) if is_json else "\n".join(_lines(judgement, observed)))
    sys.exit(SKIPPED if judgement.skipped else 0 if judgement.holds else 1)


def _lines(judgement: Judgement, observed: Observed) -> list[str]:
    lines = [f"{'':<18}{'simulated':>11}{'real':>11}{'error':>10}{'allowed':>10}"]
    lines += [_line(row) for row in judgement.decisions]
    lines.append("second half, calibrated with the first")
    lines += [_line(row) for row in judgement.latencies]
    lines.append("second half, not calibrated")
    lines += [_line(row) for row in judgement.guessed]
    added = ", ".join(f"{name} {seconds * 1000:.2f} ms" for name, seconds in delays(observed.calls).items())
    before, after = judgement.load
    lines.append(f"this machine adds: {added}")
    lines.append(f"a call costs this client {_cpu(observed) * 1000:.2f} ms of its processor (`cpu` of a client)")
    lines.append(
        f"{os.cpu_count()} cores, load {before:.1f} before and {after:.1f} after; calls made late, p99: "
        f"{judgement.lag / 1e6:.1f} ms"
    )
    if judgement.skipped:
        return [*lines, f"SKIPPED: {judgement.skipped}"]
    return [*lines, "the simulator agrees with this machine" if judgement.holds else "the simulator does not agree"]


def _line(row: Row) -> str:
    if row.name in _LATENCIES:
        cells = f"{row.simulated * 1000:>8.2f} ms{row.real * 1000:>8.2f} ms{row.error:>+10.1%}"
        allowed = "" if row.allowed is None else f"{row.allowed:.0%}"
    else:
        cells = f"{row.simulated:>11.4g}{row.real:>11.4g}{row.error:>+10.4f}"
        allowed = f"{row.allowed:g}"
    return f"{row.name:<18}{cells}{allowed:>10}" + ("" if row.holds else "  X")


def _json(judgement: Judgement, observed: Observed) -> str:
    document: dict[str, Any] = asdict(judgement)
    document |= {"skipped": judgement.skipped, "holds": judgement.holds, "cores": os.cpu_count()}
    return json.dumps({**document, "machine": delays(observed.calls), "cpu": _cpu(observed)}, indent=2)


def _cpu(observed: Observed) -> float:
    return observed.cpu / len(observed.calls)
