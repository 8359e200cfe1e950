"""The channels that programs are run on: plain grpcio's, and ours in four forms."""

from __future__ import annotations

import json
import socket
from typing import Any

import grpc
import grpc.aio

import healthlb
from healthlb import Failover, Overload, RetryBudget
from tests.differential.peer import PATIENCE, Server

PLAIN = "plain"
RETRYING = "retrying"  # plain, with the retryPolicy that our failover is compared with
LOCAL_POOL = ("grpc.use_local_subchannel_pool", 1)
HEDGING_DELAY = 0.05

_BUDGET = RetryBudget(min_per_second=10_000.0)
FAILOVERS: dict[str, dict[str, Any]] = {
    "none": {"failover": None},
    "defaults": {},
    "idempotent": {"failover": Failover(idempotent=True, budget=_BUDGET)},
    "hedged": {"failover": Failover(idempotent=True, budget=_BUDGET, hedging_delay=HEDGING_DELAY)},
}
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.005s",
    "maxBackoff": "0.005s",
    "backoffMultiplier": 1,
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_SERVICE_CONFIG = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": _RETRY_POLICY}]})


class Subject:
    """Makes the channels of one run.

    Args:
        server: whom they call.
        face: "sync" or "aio".
        kind: `PLAIN`, `RETRYING`, or a form of ours.
        shared: connected channels that outlive the run, by kind; filled here.
    """

    def __init__(self, server: Server, face: str, kind: str, shared: dict[Any, Any]) -> None:
        """Make none yet."""
        self._server, self._face, self._kind, self._shared = server, face, kind, shared
        self.opened: list[Any] = []

    def open(self, *, fresh: bool = False, tls: bool = False, dead: bool = False, **arguments: Any) -> Any:
        """Return a channel of the sync face.

        Args:
            fresh: one that was never used, instead of one that is connected.
            tls: encrypted.
            dead: to an address where nobody listens.
            arguments: `options`, `compression` and `interceptors`, of a channel of its own; and `most`, calls that ours
                lets be in flight.
        """
        key = (self._kind, tls)
        if not (fresh or dead or arguments):
            if key not in self._shared:
                self._shared[key] = self._make(tls, False, {})
                grpc.channel_ready_future(self._shared[key]).result(PATIENCE)
            return self._shared[key]
        channel = self._make(tls, dead, arguments)
        self.opened.append(channel)
        if not fresh and not dead:
            grpc.channel_ready_future(channel).result(PATIENCE)
        return channel

    async def aopen(self, *, fresh: bool = False, tls: bool = False, dead: bool = False, **arguments: Any) -> Any:
        """Return a channel of the asyncio face; see `open`."""
        key = (self._kind, tls)
        if not (fresh or dead or arguments):
            if key not in self._shared:
                self._shared[key] = self._make(tls, False, {})
                await self._shared[key].channel_ready()
            return self._shared[key]
        channel = self._make(tls, dead, arguments)
        self.opened.append(channel)
        if not fresh and not dead:
            await channel.channel_ready()
        return channel

    def close(self) -> None:
        """Close what was opened for this run."""
        for channel in self.opened:
            channel.close()

    async def aclose(self) -> None:
        """Close what was opened for this run."""
        for channel in self.opened:
            await channel.close()

    def _make(self, tls: bool, dead: bool, arguments: dict[str, Any]) -> Any:
        address = _dead_address() if dead else self._server.tls_address if tls else self._server.address
        secret = self._server.credentials if tls else None
        options = [LOCAL_POOL, *arguments.pop("options", ())]
        interceptors = arguments.pop("interceptors", ())
        if self._kind == RETRYING:
            options.append(("grpc.service_config", _SERVICE_CONFIG))
        most = arguments.pop("most", None)
        plain = self._kind in (PLAIN, RETRYING)
        if most is not None and not plain:
            arguments["overload"] = Overload(max_in_flight=most)
        if self._face == "aio":
            make = self._plain_aio if plain else self._ours_aio
            return make(address, secret, options=options, interceptors=interceptors, **arguments)
        channel = (self._plain_sync if plain else self._ours_sync)(address, secret, options=options, **arguments)
        return grpc.intercept_channel(channel, *interceptors) if interceptors else channel

    def _plain_sync(self, address: str, secret: Any, **arguments: Any) -> Any:
        if secret is None:
            return grpc.insecure_channel(address, **arguments)
        return grpc.secure_channel(address, secret, **arguments)

    def _plain_aio(self, address: str, secret: Any, **arguments: Any) -> Any:
        if secret is None:
            return grpc.aio.insecure_channel(address, **arguments)
        return grpc.aio.secure_channel(address, secret, **arguments)

    def _ours_sync(self, address: str, secret: Any, **arguments: Any) -> Any:
        return healthlb.HealthAwareChannel([address], credentials=secret, **arguments, **FAILOVERS[self._kind])

    def _ours_aio(self, address: str, secret: Any, **arguments: Any) -> Any:
        return healthlb.aio.HealthAwareChannel([address], credentials=secret, **arguments, **FAILOVERS[self._kind])


def _dead_address() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{held.getsockname()[1]}"


def reference(form: str) -> str:
    """Return the plain kind that a form of ours is compared with."""
    return PLAIN if form in ("none", "defaults") else RETRYING
