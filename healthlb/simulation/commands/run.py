"""`healthlb simulate run`: a scenario under all its policies, and whether its checks hold.

Exit code 0 says that every check holds, 1 that one does not, 2 that there was nothing to run, and 130
that it was interrupted; what was done by then is told.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from healthlb.simulation.commands import text_report
from healthlb.simulation.commands.scenarios import INTERRUPTED, Options, with_options

EVERY_CALL = 2


@click.command("run")
@with_options
@click.option("--policy", "policies", multiple=True, metavar="NAME", help="Only this policy; may be given again.")
@click.option("-v", "--verbose", is_flag=True, help="Tell the numbers of checks that hold too.")
def command(policies: tuple[str, ...], verbose: bool, **options: Any) -> None:
    """Run a scenario, NAME of the catalogue or a FILE of your own, and hold its checks against what comes of it."""
    given = Options(**options)
    scenario, content = given.load()
    outcome = given.run(scenario, content, policies, trace=EVERY_CALL)
    blocks = (
        text_report.head(outcome),
        text_report.policies(scenario, outcome.runs),
        text_report.numbers(outcome),
        text_report.checks(outcome.checks, is_long=verbose),
    )
    click.echo("\n\n".join("\n".join(block) for block in blocks if block))
    sys.exit(INTERRUPTED if not outcome.is_complete else 0 if outcome.is_good else 1)
