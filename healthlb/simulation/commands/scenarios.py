"""What the commands that run a scenario have in common: finding it, and the options that change it.

A file that is wrong ends a command with exit code 2, as wrong arguments do; 1 is for checks that fail.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from healthlb.cli.checked import SEED, plain_option
from healthlb.errors import ConfigError
from healthlb.files import read_text
from healthlb.simulation.commands.run_files import write_results
from healthlb.simulation.commands.run_progress import watched
from healthlb.simulation.running import Outcome, changed, chosen, run_all
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario.scenario import Scenario
from healthlb.simulation.scenario_files.scenario_file import find_scenario, parse_scenario, read_content

INTERRUPTED = 130
F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType):  # type: ignore[type-arg]
    """A time on the command line, as "60s", in nanoseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the nanoseconds."""
        try:
            return value if isinstance(value, int) else parse_duration("it", value, low=1)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


_OPTIONS = (
    click.argument("scenario", metavar="NAME|FILE"),
    click.option("--seed", type=SEED, help="Another seed than the file's."),
    click.option("--reps", type=click.IntRange(1, 100_000), help="How often, each time with other random streams."),
    click.option("--until", type=Duration(), metavar="TIME", help="Let no calls arrive after this time, as 60s."),
    click.option("--trace", type=click.IntRange(0, 3), help="1 facts and faults, 2 every call too, 3 as text."),
    click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Write files into a folder."),
    click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to this file."),
    plain_option,
)


def with_options(command: F) -> F:
    """Give a command the arguments that name a scenario and change it."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says.

    Attributes:
        scenario: a name of the catalogue, or a file.
        seed: another one than the file's, or None.
        reps: other replications than the file's, or None.
        until: nanoseconds after which no calls arrive, or None.
        trace: how much is traced, or None.
        output: the folder for files, or None.
        html: the file for a report, or None.
        plain: whether progress is told in lines, on a terminal too.
    """

    scenario: str
    seed: int | None
    reps: int | None
    until: int | None
    trace: int | None
    output: Path | None
    html: Path | None
    plain: bool

    def load(self) -> tuple[Scenario, Mapping[str, Any]]:
        """Return the scenario as changed by the options, and the file's content.

        Raises:
            click.UsageError: there is no such scenario, or it is wrong.
        """
        try:
            path = find_scenario(self.scenario)
            content = read_content(path)
            made = parse_scenario(content, str(path))
            return changed(made, seed=self.seed, replications=self.reps, until=self.until), content
        except ConfigError as error:
            raise click.UsageError(str(error)) from error

    def run(
        self, scenario: Scenario, content: Mapping[str, Any], policies: Sequence[str], *, trace: int = 0
    ) -> Outcome:
        """Run it, show how it goes, and write the files that are asked for.

        Args:
            scenario: what to run.
            content: of its file.
            policies: some of its policies; none are all.
            trace: how much is traced where the command line does not say, 0 to 3; 2 at least where files are written.
        """
        try:
            names = chosen(scenario, policies)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error
        if self.trace is not None:
            trace = self.trace
        elif self.output is not None:
            trace = 2
        with watched(Console(stderr=True), is_plain=self.plain) as tell:
            outcome = run_all(scenario, names, trace=trace, tell=tell)
        if self.output is not None:
            write_results(self.output, outcome, content)
        if self.html is not None:
            _write_report(self.html, outcome, find_scenario(self.scenario))
        return outcome


def _write_report(file: Path, outcome: Outcome, scenario: Path) -> None:
    if not outcome.records:
        return
    # Most runs want none.
    from healthlb.simulation.report import render_outcome

    page = render_outcome(outcome, text=read_text(scenario))
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--html: {error}") from error
    click.echo(f"report: {file}", err=True)
