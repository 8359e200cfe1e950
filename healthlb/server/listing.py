"""Health/List (gRFC A90): every service with its status, or RESOURCE_EXHAUSTED where there are too many.

The one rule: it works with every grpcio-health-checking, also those whose protobuf has no List yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE_NAME = "grpc.health.v1.Health"
LIST = f"/{SERVICE_NAME}/List"
MOST_LISTED = 100
TOO_MANY = f"more than {MOST_LISTED} services; ask for each with Check"
_NO_LIST = "the answer is not a HealthListResponse"
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


def decode_list(message: bytes) -> dict[str, int]:
    """Return the statuses of a HealthListResponse as it came over the wire.

    Raises:
        ValueError: it is none.
    """
    statuses = {}
    for number, entry in _fields(message):
        if number == 1:
            parts = dict(_fields(entry))
            try:
                response = health_pb2.HealthCheckResponse.FromString(parts.get(2, b""))
            except DecodeError as error:
                raise ValueError(_NO_LIST) from error
            statuses[parts.get(1, b"").decode()] = response.status
    return statuses


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


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the length-delimited fields of a message; List has no others."""
    place = 0
    while place < len(message):
        tag, place = _read_varint(message, place)
        size, place = _read_varint(message, place)
        if tag & 7 != 2 or place + size > len(message):
            raise ValueError(_NO_LIST)
        yield tag >> 3, message[place : place + size]
        place += size


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message):
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError(_NO_LIST)
