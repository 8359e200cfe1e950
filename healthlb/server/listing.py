"""Health/List (gRFC A90): every service with its status, or RESOURCE_EXHAUSTED where there are too many.

The one rule: it works with every grpcio-health-checking, also those whose protobuf has no List yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_NAME = "grpc.health.v1.Health"
MOST_LISTED = 100
TOO_MANY = f"more than {MOST_LISTED} services; ask for each with Check"
HAS_LIST = hasattr(health_pb2, "HealthListResponse") and hasattr(health_pb2_grpc.HealthServicer, "List")


def list_response(statuses: Mapping[str, int]) -> Any:
    """Return a HealthListResponse, or its bytes where the installed protobuf does not know it."""
    if not HAS_LIST:
        return encode_list(statuses)
    entries = {name: health_pb2.HealthCheckResponse(status=status) for name, status in statuses.items()}
    return health_pb2.HealthListResponse(statuses=entries)


def encode_list(statuses: Mapping[str, int]) -> bytes:
    """Return a HealthListResponse as it goes over the wire: `map<string, HealthCheckResponse> statuses = 1`."""
    entries = (
        _field(1, name.encode()) + _field(2, health_pb2.HealthCheckResponse(status=status).SerializeToString())
        for name, status in statuses.items()
    )
    return b"".join(_field(1, entry) for entry in entries)


def add_servicer(servicer: Any, server: Any) -> None:
    """Register the health service, List included, with a `grpc.server` or a `grpc.aio.server`."""
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if not HAS_LIST:
        handlers: dict[str, Any] = {"List": grpc.unary_unary_rpc_method_handler(servicer.List)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
