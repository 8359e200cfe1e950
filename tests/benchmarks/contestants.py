"""The channels that are compared.

The one rule: each has the options a user would give it, and nothing is tuned for the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
import grpc.aio

import healthlb
import healthlb.aio

HEALTHLB, NATIVE, RETRYING, PLAIN = "healthlb", "native", "retrying", "plain"
# healthlb once more: what the two differ by is the noise of the method.
AGAIN = "again"
CONTESTANTS = (HEALTHLB, NATIVE, RETRYING, PLAIN)
UNARY = "/test.Echo/Unary"
SERVER_STREAM = "/test.Echo/ServerStream"
BIDI = "/test.Echo/Bidi"

# Where the environment names a proxy, healthlb ignores it: so must the others.
_NO_PROXY = ("grpc.enable_http_proxy", 0)
# Without this, native's `:authority` is the whole list of addresses, which servers refuse from some 700 on.
_AUTHORITY = ("grpc.default_authority", "localhost")
_ROUND_ROBIN = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}
_RETRY_POLICY = {
    "maxAttempts": 3,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
RETRYING_CONFIG = _ROUND_ROBIN | {"methodConfig": [{"name": [{}], "retryPolicy": _RETRY_POLICY}]}


def native_target(addresses: Sequence[str]) -> str:
    """Return the target that makes grpcio open a subchannel for each of these IPv4 addresses."""
    return f"ipv4:{','.join(addresses)}"


def _native_options(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [("grpc.service_config", json.dumps(config)), _NO_PROXY, _AUTHORITY]


def open_sync(contestant: str, addresses: Sequence[str]) -> grpc.Channel:
    """Open a contestant's sync channel."""
    match contestant:
        case "healthlb" | "again":
            return healthlb.HealthAwareChannel(addresses)
        case "native":
            return grpc.insecure_channel(native_target(addresses), options=_native_options(_ROUND_ROBIN))
        case "retrying":
            return grpc.insecure_channel(native_target(addresses), options=_native_options(RETRYING_CONFIG))
        case _:
            return grpc.insecure_channel(addresses[0], options=[_NO_PROXY])


def open_aio(contestant: str, addresses: Sequence[str]) -> grpc.aio.Channel:
    """Open a contestant's aio channel; on the loop."""
    match contestant:
        case "healthlb" | "again":
            return healthlb.aio.HealthAwareChannel(addresses)
        case "native":
            return grpc.aio.insecure_channel(native_target(addresses), options=_native_options(_ROUND_ROBIN))
        case "retrying":
            return grpc.aio.insecure_channel(native_target(addresses), options=_native_options(RETRYING_CONFIG))
        case _:
            return grpc.aio.insecure_channel(addresses[0], options=[_NO_PROXY])
