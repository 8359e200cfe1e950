"""The `healthlb` command group.

A command's module is imported here, and its work lives elsewhere.
"""

from __future__ import annotations

from importlib import metadata

import click

from healthlb.cli.checked import CheckedGroup
from healthlb.cli.listing import list_services
from healthlb.cli.watch import watch
from healthlb.demo.command import demo
from healthlb.simulation.commands.command import simulate


def _version() -> str:
    try:
        return metadata.version("healthlb")
    except metadata.PackageNotFoundError:
        return "(not installed)"


@click.group(cls=CheckedGroup)
@click.version_option(_version(), prog_name="healthlb")
def cli() -> None:
    """Client-side load balancing for gRPC that follows the health of every backend."""


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def probe(arguments: tuple[str, ...]) -> None:
    """Ask one server for its health once; the flags and exit codes of grpc_health_probe."""
    from healthlb.cli import probe as prober

    raise SystemExit(prober.main(arguments))


cli.add_command(demo)
cli.add_command(list_services)
cli.add_command(simulate)
cli.add_command(watch)
