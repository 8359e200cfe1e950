"""`healthlb simulate validate`: laws with known answers, run through the simulator and compared.

Nothing is said to hold that was not measured just now.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from healthlb.cli.checked import plain_option
from healthlb.simulation.sweep.executors import Executor, open_executor
from healthlb.simulation.validation import Claim, Finding, claims, examine

Numbered = tuple[int, Claim]


@click.command("validate")
@click.option("--quick", is_flag=True, help="Fewer calls and wider tolerances: half a minute of CPU time.")
@click.option("--only", default="", metavar="TEXT", help="Laws whose name or case contains TEXT.")
@click.option(
    "--jobs", type=click.IntRange(1, 1024), default=None, help="Processes on this machine. [default: one a core]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per law.")
@plain_option
def command(quick: bool, only: str, jobs: int | None, as_json: bool, plain: bool) -> None:
    """Check the simulator against queueing theory; exit with 1 if a law does not hold.

    Each law is simulated in independent replications. It holds when the mean is within 3.5 standard errors and the
    tolerance of what theory says, and the 95 % confidence interval is narrow enough to tell.
    """
    chosen = [claim for claim in claims(quick) if only.lower() in f"{claim.law}: {claim.case}".lower()]
    if not chosen:
        raise click.UsageError(f"no law contains {only!r}")
    is_plain = plain or not sys.stdout.isatty()
    view = _JsonView() if as_json else _PlainView(chosen) if is_plain else _TerminalView(chosen)
    workers = min(jobs or os.cpu_count() or 1, len(chosen))
    executor = open_executor("pool" if workers > 1 else "inline", workers)
    began = time.monotonic()
    failed = 0
    try:
        for finding in _in_order(executor, chosen, view.begin):
            failed += not finding.holds
            view.end(finding)
    except KeyboardInterrupt:
        view.close("interrupted: the laws above were checked, the others were not")
        sys.exit(130)
    except click.ClickException:
        view.close("the laws above were checked, the others were not")
        raise
    finally:
        executor.close()
    seconds = time.monotonic() - began
    view.close(f"{len(chosen) - failed} of {len(chosen)} laws hold ({seconds:.0f} s)")
    sys.exit(1 if failed else 0)


def examine_numbered(numbered: Numbered) -> Finding:
    """Examine a claim of a list."""
    return examine(numbered[1])


def _in_order(executor: Executor, chosen: list[Claim], begin: Callable[[Claim], None]) -> Iterator[Finding]:
    """Yield what came of each claim, in their order; `begin` hears of the one that is waited for."""
    done = executor.imap_unordered(examine_numbered, enumerate(chosen))
    found: dict[int, Finding] = {}
    for place, claim in enumerate(chosen):
        begin(claim)
        while place not in found:
            one = next(done)
            if one.lost:
                raise click.ClickException(f"{one.chunk[1].law}: {one.lost}")
            found[one.chunk[0]] = one.answer
        yield found.pop(place)


class _PlainView:
    """A line for each law, once it is whole."""

    def __init__(self, chosen: list[Claim]) -> None:
        self._law = max(len("law"), *(len(claim.law) for claim in chosen))
        self._case = max(len(claim.case) for claim in chosen)
        self._write(self._line("law", "case", "expected", "got", "±"), "verdict", "bold")

    def _line(self, law: str, case: str, *cells: str) -> str:
        return f"{law:<{self._law}}  {case:<{self._case}}  " + "  ".join(f"{cell:>9}" for cell in cells) + "  "

    def _write(self, line: str, verdict: str, style: str) -> None:
        click.echo(line + verdict)
        sys.stdout.flush()

    def begin(self, claim: Claim) -> None:
        """Do nothing: lines are written at the ends."""

    def end(self, finding: Finding) -> None:
        """Write its line."""
        claim = finding.claim
        sign = "≤ " if claim.relation == "<=" else ""
        half_width = "" if sign else f"{finding.half_width:.4f}"
        line = self._line(claim.law, claim.case, f"{sign}{claim.expected:.4f}", f"{finding.got:.4f}", half_width)
        self._write(line, finding.reason or "holds", "green" if finding.holds else "bold red")

    def close(self, text: str) -> None:
        """Write the last line."""
        click.echo(text)


class _TerminalView(_PlainView):
    """The same in colour, with what is being run below."""

    def __init__(self, chosen: list[Claim]) -> None:
        self._console = Console(highlight=False)
        self._status = self._console.status("")
        self._status.start()
        super().__init__(chosen)

    def _write(self, line: str, verdict: str, style: str) -> None:
        self._console.print(Text.assemble(line, (verdict, style)), soft_wrap=True)

    def begin(self, claim: Claim) -> None:
        """Say what is being run."""
        self._status.update(Text(f"{claim.law}: {claim.case}"))

    def close(self, text: str) -> None:
        """Write the last line, and nothing below it."""
        self._status.stop()
        self._console.print(text)


class _JsonView:
    """One object per law."""

    def begin(self, claim: Claim) -> None:
        """Do nothing."""

    def end(self, finding: Finding) -> None:
        """Write it."""
        claim = finding.claim
        row: dict[str, Any] = {
            "law": claim.law, "case": claim.case, "relation": claim.relation, "expected": claim.expected,
            "got": finding.got, "half_width": finding.half_width, "z": finding.z, "replications": finding.count,
            "tolerance": claim.tolerance, "holds": finding.holds, "reason": finding.reason,
        }  # fmt: skip
        click.echo(json.dumps(row))

    def close(self, text: str) -> None:
        """Say how it went, where it is in nobody's way."""
        click.echo(text, err=True)
