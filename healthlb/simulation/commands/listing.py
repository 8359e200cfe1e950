"""`healthlb simulate list`: the scenarios that are shipped.

It reads names, titles and tags, and runs nothing.
"""

from __future__ import annotations

from typing import Any

import click

from healthlb.cli.checked import accepts_plain
from healthlb.errors import ConfigError
from healthlb.simulation.commands.values import aligned
from healthlb.simulation.scenario_files.scenario_file import catalogue, read_content


@click.command("list")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only those with this tag; may be given again.")
@accepts_plain
def command(tags: tuple[str, ...]) -> None:
    """List the scenarios that are shipped; `run` and `compare` take their names."""
    try:
        contents = {name: read_content(path) for name, path in catalogue().items()}
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    wanted = {name: content for name, content in contents.items() if set(tags) <= set(content.get("tags", ()))}
    if not wanted:
        known = sorted({tag for content in contents.values() for tag in content.get("tags", ())})
        raise click.UsageError(f"no scenario has all of these tags; there are {', '.join(known) or 'none'}")
    for line in aligned([_row(name, content) for name, content in wanted.items()], left=3):
        click.echo(line)


def _row(name: str, content: dict[str, Any]) -> list[str]:
    tags = ", ".join(content.get("tags", ()))
    return [name, f"[{tags}]" if tags else "", str(content.get("title", ""))]
