"""The group `healthlb simulate`.

A command is imported when it is asked for, so that each starts with what it needs alone.
"""

from __future__ import annotations

import importlib

import click

# The command's name, and the module that has it under the name `command`.
COMMANDS: dict[str, str] = {
    "list": "healthlb.simulation.commands.listing",
    "run": "healthlb.simulation.commands.run",
    "compare": "healthlb.simulation.commands.compare",
    "sweep": "healthlb.simulation.commands.sweep",
    "fuzz": "healthlb.simulation.commands.fuzz",
    "replay": "healthlb.simulation.commands.replay",
    "validate": "healthlb.simulation.commands.validate",
    "calibrate": "healthlb.simulation.commands.calibrate",
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command


@click.group(cls=LazyGroup)
def simulate() -> None:
    """Try settings against flapping, hanging, lying and overloaded backends, on virtual time."""
