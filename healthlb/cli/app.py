"""The `healthlb` command group.

The one rule: a command's module is imported here, and its work lives elsewhere.
"""

from __future__ import annotations

from importlib import metadata

import click

from healthlb.cli.demo.command import demo


def _version() -> str:
    try:
        return metadata.version("healthlb")
    except metadata.PackageNotFoundError:
        return "(not installed)"


@click.group()
@click.version_option(_version(), prog_name="healthlb")
def cli() -> None:
    """Client-side load balancing for gRPC that follows the health of every backend."""


cli.add_command(demo)
