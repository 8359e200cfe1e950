"""An event loop that stands still: what its timers say then is no news of the backends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

import healthlb
import healthlb.aio
from healthlb.core.facts import HeartbeatLoss


class Thoughtful(health.HealthServicer):
    """Takes a while for a Check, so that one is often under way."""

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        time.sleep(0.25)
        return super().Check(request, context)


@pytest.fixture
def addresses() -> Iterator[list[str]]:
    servers = [grpc.server(futures.ThreadPoolExecutor(8)) for _ in range(4)]
    for server in servers:
        servicer = Thoughtful()
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    ports = [server.add_insecure_port("127.0.0.1:0") for server in servers]
    for server in servers:
        server.start()
    yield [f"127.0.0.1:{port}" for port in ports]
    for server in servers:
        server.stop(None)


async def test_it_takes_no_backend_out(addresses: list[str]) -> None:
    facts: list[object] = []
    heartbeat = healthlb.Heartbeat(interval=1.0, timeout=1.0)
    async with healthlb.aio.HealthAwareChannel(addresses, health=healthlb.HealthCheck(heartbeat=heartbeat)) as channel:
        await channel.wait_until_ready(timeout=20, min_ready=4)
        channel.add_listener(facts.append)
        for place in range(5):
            # At different moments between two Checks.
            await asyncio.sleep(1.0 + 0.05 * place)
            time.sleep(1.4)
        await asyncio.sleep(0.5)
        states = [sub.state for sub in channel.subchannels()]

    assert [fact for fact in facts if isinstance(fact, HeartbeatLoss)] == []
    assert states == [grpc.ChannelConnectivity.READY] * 4
