"""The server's half: a health service that tells clients the truth."""

from healthlb.server.limits import WatchLimits
from healthlb.server.servicer import HealthServicer

__all__ = ["HealthServicer", "WatchLimits"]
