"""The server's half: a health service that tells clients the truth.

The servicer and the lame duck of a `grpc.aio.server` are in `healthlb.server.aio`; the rest serves both.
"""

try:
    import grpc_health.v1.health_pb2  # noqa: F401 - here, so that one sentence says what is missing
except ModuleNotFoundError as _error:
    _text = 'healthlb.server needs grpcio-health-checking: install "healthlb[server]"'
    raise ModuleNotFoundError(_text, name=_error.name) from _error
except TypeError as _error:
    # Of protobuf, which takes no second definition of a name: the process has a health.proto of its own.
    _text = (
        "healthlb.server needs grpcio-health-checking, which cannot be loaded next to another compiled health.proto of "
        f"the package grpc.health.v1: import grpc_health.v1 in its place ({_error})"
    )
    raise ImportError(_text, name="grpc_health.v1.health_pb2") from _error

from healthlb.server import checks
from healthlb.server.check import Check, CheckResult
from healthlb.server.lifecycle import serve_until_signal
from healthlb.server.limits import WatchLimits
from healthlb.server.manager import HealthManager
from healthlb.server.servicer import HealthServicer

__all__ = ["Check", "CheckResult", "HealthManager", "HealthServicer", "WatchLimits", "checks", "serve_until_signal"]
