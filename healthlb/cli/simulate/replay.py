"""`healthlb simulate replay`: one random world again, by its seed and number.

The one rule: what is shown is the world that was found, byte for byte, unless a smaller one is asked for.
"""

from __future__ import annotations

import sys

import click

from healthlb.errors import ConfigError
from healthlb.simulation.fuzzing.campaign import parse_world, verdict
from healthlb.simulation.fuzzing.shrinking import describe, shrink
from healthlb.simulation.fuzzing.worlds import POLICY, random_world
from healthlb.simulation.record import Lane
from healthlb.simulation.scenario import SECOND, Scenario
from healthlb.simulation.world import run


@click.command("replay")
@click.argument("world", metavar="SEED:NUMBER")
@click.option("--lanes", is_flag=True, help="What each backend was, and what the first client took it for.")
@click.option("--shrink", "is_shrunk", is_flag=True, help="Look for a smaller world in which the same goes wrong.")
def command(world: str, lanes: bool, is_shrunk: bool) -> None:
    """Run one random world of `fuzz` again; exit with 1 if something does not hold in it."""
    try:
        scenario = random_world(*parse_world(world))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    rule, _, _ = verdict(scenario)
    if is_shrunk and rule:
        scenario = shrink(scenario, lambda step: click.echo(f"smaller: {step}", err=True))
    click.echo("\n".join(describe(scenario)))
    if lanes:
        click.echo("\n".join(_lanes(scenario)))
    rule, text, calls = verdict(scenario)
    digest = "" if rule else f", trace {run(scenario, POLICY, trace=2).trace_hash}"
    click.echo(text or f"all holds: {calls} calls{digest}")
    sys.exit(1 if rule else 0)


def _lanes(scenario: Scenario) -> list[str]:
    record = run(scenario, POLICY)
    return [line for lane in record.lanes for line in _lane(lane)]


def _lane(lane: Lane) -> tuple[str, str]:
    truth, belief = (
        ", ".join(f"{at / SECOND:.3f} {state}" for at, state in steps) for steps in (lane.truth, lane.belief)
    )
    return f"{lane.backend:9} was {truth}", f"{'':9} taken for {belief}"
