"""A stand-in for the channel: one native grpcio channel per address, with gRFC A17 of its own."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from healthlb.core.messages import ConnectivityState, StateChange

SERVICE_CONFIG = json.dumps(
    {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "demo"}}
)
OPTIONS = (
    ("grpc.service_config", SERVICE_CONFIG),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass
class Status:
    address: str
    state: grpc.ChannelConnectivity
    reason: str = ""


def is_lost(error: grpc.RpcError) -> bool:
    """Whether the backend went away, before the call came to it or while it was there; the demo's may be made again."""
    return error.code() is grpc.StatusCode.UNAVAILABLE


class StandIn:
    """Sends calls in turn to the addresses whose channel is READY."""

    def __init__(self, addresses: Sequence[str], is_blind: bool = False) -> None:
        self._is_blind = is_blind
        self._listeners: list[Callable[[Any], None]] = []
        self._statuses = [Status(address, grpc.ChannelConnectivity.IDLE) for address in addresses]
        self._channels = [grpc.insecure_channel(address, OPTIONS) for address in addresses]
        self._turn = itertools.count()
        for index, channel in enumerate(self._channels):
            channel.subscribe(lambda state, index=index: self._changed(index, state), try_to_connect=True)

    def unary_unary(self, method: str) -> Callable[..., Any]:
        stubs = [channel.unary_unary(method) for channel in self._channels]

        def call(request: bytes, timeout: float) -> Any:
            ready = [
                place
                for place, status in enumerate(self._statuses)
                if self._is_blind or status.state is grpc.ChannelConnectivity.READY
            ]
            index = ready[next(self._turn) % len(ready)]
            try:
                return stubs[index](request, timeout=timeout)
            except grpc.RpcError as error:
                is_safe = "Connection refused" in error.details() if self._is_blind else is_lost(error)
                if not is_safe:
                    raise
                if self._is_blind:
                    return stubs[ready[next(self._turn) % len(ready)]](request, timeout=timeout)
                others = [other for other in ready if other != index]
                return stubs[others[next(self._turn) % len(others)]](request, timeout=timeout)

        return call

    def wait_until_ready(self, timeout: float | None = None, min_ready: int = 1) -> None:
        deadline = threading.Event()
        for _ in range(int((timeout or 0) * 100)):
            if sum(status.state is grpc.ChannelConnectivity.READY for status in self._statuses) >= min_ready:
                return
            deadline.wait(0.01)
        raise TimeoutError("not ready")

    def subchannels(self) -> Sequence[Status]:
        return self._statuses

    def add_listener(self, fn: Callable[[Any], None]) -> None:
        self._listeners.append(fn)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()

    def _changed(self, index: int, state: grpc.ChannelConnectivity) -> None:
        status = self._statuses[index]
        old, status.state = status.state, state
        status.reason = "" if state is grpc.ChannelConnectivity.READY else "backend unhealthy"
        change = StateChange(
            time.monotonic_ns(),
            index,
            status.address,
            ConnectivityState[old.name],
            ConnectivityState[state.name],
            status.reason,
        )
        for listener in self._listeners:
            listener(change)
