"""`healthlb list`: every service of a server with its status (Health/List, gRFC A90)."""

from __future__ import annotations

import json
from typing import Any

import click
import grpc

from healthlb.cli.asking import open_channel, tls_options
from healthlb.core.messages import ServingStatus
from healthlb.server.listing import LIST, decode_list


@click.command("list")
@click.argument("address", metavar="ADDR")
@click.option("--timeout", default=5.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="Seconds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@tls_options
def list_services(address: str, timeout: float, as_json: bool, **tls: Any) -> None:
    """List the services of ADDR with their statuses. Exit code 3: the call failed."""
    statuses = _ask(address, timeout, tls)
    if as_json:
        click.echo(json.dumps(statuses))
        return
    width = max([len('""'), *map(len, statuses)])
    for name, status in statuses.items():
        shown = name or '""'
        click.echo(f"{shown:<{width}}  {status}")


def _ask(address: str, timeout: float, tls: dict[str, Any]) -> dict[str, str]:
    with open_channel(grpc, address, **tls) as channel:
        try:
            statuses = decode_list(channel.unary_unary(LIST)(b"", timeout=timeout))
        except grpc.RpcError as error:
            failed: Any = error
            click.echo(f"{address}: {failed.code().name}: {failed.details()}", err=True)
            raise SystemExit(3) from error
        except ValueError as error:
            click.echo(f"{address}: {error}", err=True)
            raise SystemExit(3) from error
    return {name: _name(statuses[name]) for name in sorted(statuses)}


def _name(status: int) -> str:
    return ServingStatus(status).name if status in list(ServingStatus) else str(status)
