"""Whether another gRPC service is SERVING."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from healthlb.config import check_number
from healthlb.server.checks.unhealthy import Unhealthy

# grpcio's own backoff grows to 2 minutes, so long a dependency that is back would count as down.
_OPTIONS = {"grpc.initial_reconnect_backoff_ms": 200, "grpc.max_reconnect_backoff_ms": 1000}


def grpc_service(
    target: str | grpc.Channel,
    service: str = "",
    timeout: float = 3.0,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Callable[[], None]:
    """Return a check that calls Health/Check.

    Args:
        target: an address, to which one connection is kept; or a channel, a HealthAwareChannel for instance.
        service: the name asked for; `""` is the whole server.
        timeout: seconds; above 0.
        credentials: None is plaintext.
        options: channel arguments; the reconnect backoff is 0.2 to 1 second unless they say otherwise.

    Raises:
        ConfigError: a value is out of its bounds.
    """
    check_number("timeout", timeout, above=0)
    opened: list[Any] = []

    def check() -> None:
        # The first run opens the channel: one that was made before a fork would not work after it.
        if not opened:
            opened.append(health_pb2_grpc.HealthStub(_open(target, credentials, options)))
        try:
            answer = opened[0].Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            failed: Any = error
            raise Unhealthy(f"{failed.code().name}: {failed.details()}") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            raise Unhealthy(f"{service or 'the server'} is {name}")

    return check


def _open(
    target: str | grpc.Channel, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, Any]]
) -> grpc.Channel:
    if not isinstance(target, str):
        return target
    arguments = tuple((_OPTIONS | dict(options)).items())
    if credentials is None:
        return grpc.insecure_channel(target, arguments)
    return grpc.secure_channel(target, credentials, arguments)
