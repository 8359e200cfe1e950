"""The states, statuses and codes of gRPC, by the numbers of its protocols."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING


class ConnectivityState(enum.Enum):
    """gRPC's connectivity states, with the integers C-core gives them."""

    if not TYPE_CHECKING:  # pragma: no branch
        # Each member is one object: hashing its identity is faster than hashing its name.
        __hash__ = object.__hash__

    IDLE = 0
    CONNECTING = 1
    READY = 2
    TRANSIENT_FAILURE = 3
    SHUTDOWN = 4


class ServingStatus(enum.IntEnum):
    """The statuses of `grpc.health.v1`; any other number counts as not serving."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def serving_name(status: int) -> str:
    """Return a serving status in words."""
    try:
        return ServingStatus(status).name
    except ValueError:
        return f"serving status {status}"


class Code(enum.IntEnum):
    """The gRPC status codes, by the numbers of the protocol."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16
