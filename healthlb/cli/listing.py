"""`healthlb list`: every service of a server with its status (Health/List, gRFC A90)."""

from __future__ import annotations

import json
from typing import Any

import click
import grpc

from healthlb.cli.arguments import shown
from healthlb.cli.checked import Number, accepts_plain
from healthlb.cli.server_options import client_arguments, client_options
from healthlb.errors import InvalidResponse
from healthlb.health_client.answer import failed_with
from healthlb.sync.health_client import HealthClient
from healthlb.text import printable


@click.command("list")
@click.argument("address", metavar="ADDR")
@click.option("--timeout", default=5.0, show_default=True, type=Number(0, 86_400, min_open=True), help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@accepts_plain
@client_options
def list_services(address: str, timeout: float, as_json: bool, **reach: Any) -> None:
    """List the services of ADDR with their statuses. Exit code 3: the call failed."""
    statuses = _ask(address, timeout, reach)
    if as_json:
        click.echo(json.dumps(statuses))
        return
    # A name is the server's to choose: raw, it could look like a line of its own.
    shown = {printable(name) or '""': status for name, status in statuses.items()}
    width = max([len('""'), *map(len, shown)])
    for name, status in shown.items():
        click.echo(f"{name:<{width}}  {status}")


class _Client(HealthClient):
    """A health client whose advice names options of commands."""

    _wording = "COMMAND"


def _ask(address: str, timeout: float, reach: dict[str, Any]) -> dict[str, str]:
    with _Client(address, **client_arguments(**reach)) as client:
        try:
            statuses = client.list(timeout)
        except (grpc.RpcError, InvalidResponse) as error:
            text = error if isinstance(error, InvalidResponse) else failed_with("", error, "List")
            click.echo(shown(f"{address}: {text}"), err=True)
            raise SystemExit(3) from error
    return {name: statuses[name].name for name in sorted(statuses)}
