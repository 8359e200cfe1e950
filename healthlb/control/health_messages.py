"""The messages of `grpc.health.v1` that a client sends and reads, without generated code."""

from __future__ import annotations

from healthlb.core.wire import encode_varint, read_fields

PING = "/healthlb.v1.Liveness/Ping"
CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
WATCH = "/grpc.health.v1.Health/Watch"

_NAME_TAG = b"\x0a"  # Field 1, length-delimited.


def encode_request(service: str) -> bytes:
    """Return a HealthCheckRequest: `string service = 1`."""
    name = service.encode()
    return _NAME_TAG + encode_varint(len(name)) + name if name else b""


def decode_response(message: object) -> int:
    """Return the status in a HealthCheckResponse: `ServingStatus status = 1`, 0 (UNKNOWN) where it is absent.

    Numbers that are not defined come back as they are.

    Raises:
        ValueError: it is no such message.
    """
    status = 0
    try:
        for number, value in read_fields(_as_bytes(message)):
            if number == 1 and isinstance(value, int):
                status = _enum(value)
    except ValueError as error:
        raise ValueError(f"not a HealthCheckResponse: {error}") from error
    return status


def decode_list(message: object) -> dict[str, int]:
    """Return the statuses in a HealthListResponse by name: `map<string, HealthCheckResponse> statuses = 1`.

    Raises:
        ValueError: it is no such message.
    """
    statuses: dict[str, int] = {}
    try:
        for number, entry in read_fields(_as_bytes(message)):
            if number == 1 and isinstance(entry, bytes):
                parts = dict(read_fields(entry))
                name, response = parts.get(1, b""), parts.get(2, b"")
                if isinstance(name, bytes) and isinstance(response, bytes):
                    statuses[name.decode()] = decode_response(response)
    except ValueError as error:
        raise ValueError(f"the answer is not a HealthListResponse: {error}") from error
    return statuses


def _as_bytes(message: object) -> bytes:
    """Return a message as it goes over the wire: channels that are fakes, as grpcio-testing's, hand over objects."""
    if isinstance(message, bytes):
        return message
    try:
        return bytes(message.SerializeToString())  # type: ignore[attr-defined]
    except AttributeError:
        raise ValueError(f"bytes expected, not {type(message).__name__}") from None


def _enum(value: int) -> int:
    """Return the lower 32 bits as a signed number, as protobuf reads an enum."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
