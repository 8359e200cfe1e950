"""`healthlb watch`: follows the status of a service on one or more servers until it is interrupted.

A server that is away is a line too, and is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
from typing import Any

import click
import grpc

from healthlb.aio.health_client import HealthClient
from healthlb.cli.arguments import shown
from healthlb.cli.checked import accepts_plain
from healthlb.cli.server_options import client_arguments, client_options
from healthlb.health_client.target import request_for
from healthlb.text import add_remedy


@click.command("watch")
@click.argument("addresses", metavar="ADDR...", nargs=-1, required=True)
@click.option("--service", default="", help='The service to follow; the default "" is the whole server.')
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@accepts_plain
@client_options
def watch(addresses: tuple[str, ...], service: str, as_json: bool, **reach: Any) -> None:
    """Follow the serving status of each ADDR live, until Ctrl-C."""
    # What the client would log stands in the lines.
    logging.getLogger("healthlb").addHandler(logging.NullHandler())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch_all(addresses, service, as_json, reach))


async def _watch_all(addresses: tuple[str, ...], service: str, as_json: bool, reach: dict[str, Any]) -> None:
    width = max(map(len, addresses))
    arguments = client_arguments(**reach)
    clients = [_Client(address, **arguments) for address in addresses]
    request_for(service)
    async with asyncio.TaskGroup() as group:
        for address, client in zip(addresses, clients, strict=True):
            group.create_task(_Lines(address, service, as_json, width=width).follow(client))


class _Client(HealthClient):
    """A health client whose advice names options of commands."""

    _wording = "COMMAND"


class _Lines:
    """One server's lines; what does not change is not repeated."""

    def __init__(self, address: str, service: str, as_json: bool, *, width: int) -> None:
        self._address = address
        self._service = service
        self._as_json = as_json
        self._width = width

    async def follow(self, client: HealthClient) -> None:
        """Print a line for each change of status, until cancelled; closes the client."""
        async with client, client.watch(self._service, follow=True) as watching:
            async for status in watching:
                answer = watching.answer
                assert answer is not None
                name = status.name
                if answer.number is None:
                    name = "ENDED" if answer.code is grpc.StatusCode.OK else answer.code.name
                self._say(name, answer.details, answer.remedy)

    def _say(self, status: str, details: str, remedy: str) -> None:
        now = datetime.datetime.now().astimezone()
        if self._as_json:
            record = {"time": now.isoformat(), "address": self._address, "service": self._service, "status": status}
            told = {"details": details, "remedy": remedy}
            click.echo(json.dumps(record | {name: text for name, text in told.items() if text}))
        else:
            line = f"{now:%H:%M:%S} {self._address:<{self._width}} {status}"
            said = add_remedy(details, remedy)
            click.echo(shown(f"{line}  {said}" if said else line))
