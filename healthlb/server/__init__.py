"""The server's half: a health service that tells clients the truth.

The servicer and the lame duck of a `grpc.aio.server` are in `healthlb.server.aio`; the rest serves both.
"""

from healthlb.server import checks
from healthlb.server.check import Check, CheckResult
from healthlb.server.lifecycle import serve_until_signal
from healthlb.server.limits import WatchLimits
from healthlb.server.manager import HealthManager
from healthlb.server.servicer import HealthServicer

__all__ = ["Check", "CheckResult", "HealthManager", "HealthServicer", "WatchLimits", "checks", "serve_until_signal"]
