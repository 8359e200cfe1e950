"""`healthlb simulate compare`: two policies on the same calls and faults.

Differences are taken pair by pair, of runs with the same random streams, and come with 95 % confidence.
An interval that holds 0 is no difference, however large its middle. Checks are told of and do not fail it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import click

from healthlb.simulation.commands import text_report
from healthlb.simulation.commands.scenarios import INTERRUPTED, Options, with_options
from healthlb.simulation.report.metrics import DAGGER

# Of fewer pairs Student's t says next to nothing.
LEAST_PAIRS = 5


@click.command("compare")
@with_options
@click.option("--policy", "policies", multiple=True, metavar="NAME", help="One of the two; give it twice.")
def command(policies: tuple[str, ...], **options: Any) -> None:
    """Compare two policies of a scenario on the same calls and the same faults.

    The second is better or worse where the 95 % confidence interval of the differences, taken in pairs, does not
    hold 0. It is run at least five times; `--reps` says how often otherwise.
    """
    given = Options(**options)
    scenario, content = given.load()
    if given.reps is None:
        scenario = replace(scenario, replications=max(LEAST_PAIRS, scenario.replications))
    names = policies or (tuple(scenario.policies) if len(scenario.policies) == 2 else ())
    if len(set(names)) != 2 or len(names) != 2:
        raise click.UsageError(f"give --policy twice, with two of {', '.join(scenario.policies)}")
    outcome = given.run(scenario, content, names)
    blocks = (
        text_report.head(outcome),
        text_report.policies(scenario, outcome.runs),
        differences := text_report.differences(outcome, *names),
        _legend(*names, has_dagger=any(line.endswith(DAGGER) for line in differences)),
        text_report.checks(outcome.checks),
    )
    click.echo("\n\n".join("\n".join(block) for block in blocks if block))
    sys.exit(0 if outcome.is_complete else INTERRUPTED)


def _legend(first: str, second: str, *, has_dagger: bool) -> list[str]:
    lines = [f"difference: {second} minus {first}, in pairs, ± 95 % confidence; = where that holds 0"]
    words = f"{DAGGER} is no better: latencies are those of calls that ended well, and the lower one lost more of them"
    return [*lines, words] if has_dagger else lines
