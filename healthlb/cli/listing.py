"""`healthlb list`: every service of a server with its status (Health/List, gRFC A90)."""

from __future__ import annotations

import json
from typing import Any

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.cli.asking import open_channel, tls_options
from healthlb.core.messages import ServingStatus


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
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.List(health_pb2.HealthListRequest(), timeout=timeout)
        except grpc.RpcError as error:
            failed: Any = error
            click.echo(f"{address}: {failed.code().name}: {failed.details()}", err=True)
            raise SystemExit(3) from error
    return {name: _name(answer.statuses[name].status) for name in sorted(answer.statuses)}


def _name(status: int) -> str:
    return ServingStatus(status).name if status in list(ServingStatus) else str(status)
