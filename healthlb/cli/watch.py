"""`healthlb watch`: follows the status of a service on one or more servers until it is interrupted.

The one rule: a server that is away is a line too, and is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from typing import Any

import click
import grpc

from healthlb.aio.health_client import HealthClient
from healthlb.cli.arguments import shown
from healthlb.cli.asking import client_arguments, tls_options
from healthlb.cli.plain import accepts_plain
from healthlb.control.health_target import request_for


@click.command("watch")
@click.argument("addresses", metavar="ADDR...", nargs=-1, required=True)
@click.option("--service", default="", help='The service to follow; the default "" is the whole server.')
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@accepts_plain
@tls_options
def watch(addresses: tuple[str, ...], service: str, as_json: bool, **tls: Any) -> None:
    """Follow the serving status of each ADDR live, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch_all(addresses, service, as_json, tls))


async def _watch_all(addresses: tuple[str, ...], service: str, as_json: bool, tls: dict[str, Any]) -> None:
    width = max(map(len, addresses))
    arguments = client_arguments(**tls)
    clients = [HealthClient(address, **arguments) for address in addresses]
    request_for(service)
    async with asyncio.TaskGroup() as group:
        for address, client in zip(addresses, clients, strict=True):
            group.create_task(_Lines(address, service, as_json, width).follow(client))


class _Lines:
    """One server's lines; what does not change is not repeated."""

    def __init__(self, address: str, service: str, as_json: bool, width: int) -> None:
        self._address = address
        self._service = service
        self._as_json = as_json
        self._width = width

    async def follow(self, client: HealthClient) -> None:
        async with client, client.watch(self._service, follow=True) as watching:
            async for status in watching:
                answer = watching.answer
                assert answer is not None
                if answer.number is None:
                    self._say("ENDED" if answer.code is grpc.StatusCode.OK else answer.code.name, answer.details)
                else:
                    self._say(status.name, "")

    def _say(self, status: str, details: str) -> None:
        now = datetime.datetime.now().astimezone()
        if self._as_json:
            record = {"time": now.isoformat(), "address": self._address, "service": self._service, "status": status}
            click.echo(json.dumps(record | ({"details": details} if details else {})))
        else:
            line = f"{now:%H:%M:%S} {self._address:<{self._width}} {status}"
            click.echo(shown(f"{line}  {details}" if details else line))
