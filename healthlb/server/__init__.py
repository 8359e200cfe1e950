"""The server's half: a health service that tells clients the truth.

The servicer and the lame duck of a `grpc.aio.server` are in `healthlb.server.aio`; the rest serves both.
"""

try:
    import grpc_health.v1  # noqa: F401 - here, so that one sentence says what is missing
except ModuleNotFoundError as error:
    text = 'healthlb.server needs grpcio-health-checking: install "healthlb[server]"'
    raise ModuleNotFoundError(text, name=error.name) from error

from healthlb.server import checks
from healthlb.server.check import Check, CheckResult
from healthlb.server.lifecycle import serve_until_signal
from healthlb.server.limits import WatchLimits
from healthlb.server.manager import HealthManager
from healthlb.server.servicer import HealthServicer

__all__ = ["Check", "CheckResult", "HealthManager", "HealthServicer", "WatchLimits", "checks", "serve_until_signal"]
