"""`healthlb simulate replay`: one random world again, by its seed and number, or from a file.

What is printed is a scenario file that runs; what there is to be said of it stands in comments.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from healthlb.cli.checked import accepts_plain
from healthlb.errors import ConfigError
from healthlb.simulation.fuzzing.campaign import parse_world, verdict
from healthlb.simulation.fuzzing.shrinking import shrink
from healthlb.simulation.fuzzing.worlds import random_world
from healthlb.simulation.scenario.scenario import SECOND, Scenario
from healthlb.simulation.scenario_files.scenario_file import load_scenario
from healthlb.simulation.scenario_files.writer import to_toml
from healthlb.simulation.world.record import Lane
from healthlb.simulation.world.world import run


@click.command("replay")
@click.argument("world", metavar="SEED:NUMBER|FILE")
@click.option("--lanes", is_flag=True, help="What each backend was, and what the first client took it for.")
@click.option("--shrink", "is_shrunk", is_flag=True, help="Look for a smaller world in which the same goes wrong.")
@accepts_plain
def command(world: str, lanes: bool, is_shrunk: bool) -> None:
    """Run one random world of `fuzz` again, and print it as a scenario file; exit with 1 if something does not hold."""
    try:
        scenario = load_scenario(Path(world)) if world.endswith(".toml") else random_world(*parse_world(world))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    rule, text, calls = verdict(scenario)
    if is_shrunk and rule:
        scenario = shrink(scenario, lambda step: click.echo(f"smaller: {step}", err=True))
        rule, text, calls = verdict(scenario)
    policy = next(iter(scenario.policies))
    digest = "" if rule else f", trace {run(scenario, policy, trace=2).trace_hash}"
    said = [text or f"all holds: {calls} calls{digest}"]
    if lanes:
        said += _lanes(scenario, policy)
    for line in said:
        click.echo(f"# {line}")
    click.echo(to_toml(scenario))
    sys.exit(1 if rule else 0)


def _lanes(scenario: Scenario, policy: str) -> list[str]:
    record = run(scenario, policy)
    return [line for lane in record.lanes for line in _lane(lane)]


def _lane(lane: Lane) -> tuple[str, str]:
    truth, belief = (
        ", ".join(f"{at / SECOND:.3f} {state}" for at, state in steps) for steps in (lane.truth, lane.belief)
    )
    return f"{lane.backend:9} was {truth}", f"{'':9} taken for {belief}"
