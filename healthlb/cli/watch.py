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
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.cli.asking import open_channel, tls_options
from healthlb.core.messages import ServingStatus

_PAUSES = (0.2, 0.5, 1.0, 2.0)  # Seconds between Watches that failed.


@click.command("watch")
@click.argument("addresses", metavar="ADDR...", nargs=-1, required=True)
@click.option("--service", default="", help='The service to follow; the default "" is the whole server.')
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@tls_options
def watch(addresses: tuple[str, ...], service: str, as_json: bool, **tls: Any) -> None:
    """Follow the serving status of each ADDR live, until Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch_all(addresses, service, as_json, tls))


async def _watch_all(addresses: tuple[str, ...], service: str, as_json: bool, tls: dict[str, Any]) -> None:
    width = max(map(len, addresses))
    async with asyncio.TaskGroup() as group:
        for address in addresses:
            channel = open_channel(grpc.aio, address, **tls)
            group.create_task(_Follower(address, service, as_json, width).follow(channel))


class _Follower:
    """One server's lines; what does not change is not repeated."""

    def __init__(self, address: str, service: str, as_json: bool, width: int) -> None:
        self._address = address
        self._service = service
        self._as_json = as_json
        self._width = width
        self._last: tuple[str, str] | None = None

    async def follow(self, channel: Any) -> None:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        failures = 0
        async with channel:
            while True:
                try:
                    async for message in stub.Watch(health_pb2.HealthCheckRequest(service=self._service)):
                        failures = 0
                        self._say(_name(message.status), "")
                    self._say("ENDED", "the server ended the Watch with OK")
                except grpc.aio.AioRpcError as error:
                    self._say(error.code().name, error.details() or "")
                await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1

    def _say(self, status: str, details: str) -> None:
        # The details of a failed connection change with every try; its code says when that matters.
        if self._last is not None and self._last[0] == status:
            return
        self._last = (status, details)
        now = datetime.datetime.now().astimezone()
        if self._as_json:
            record = {"time": now.isoformat(), "address": self._address, "service": self._service, "status": status}
            click.echo(json.dumps(record | ({"details": details} if details else {})))
        else:
            line = f"{now:%H:%M:%S} {self._address:<{self._width}} {status}"
            click.echo(f"{line}  {' '.join(details.split())}" if details else line)


def _name(status: int) -> str:
    return ServingStatus(status).name if status in list(ServingStatus) else str(status)
