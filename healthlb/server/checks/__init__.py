"""Checks of what servers usually depend on, for `Check(probe=...)`.

The one rule: each raises when its dependency is unhealthy, with a text that says what was found.
"""

from healthlb.server.checks.database import database
from healthlb.server.checks.grpc_service import grpc_service
from healthlb.server.checks.heartbeat import HeartbeatCheck
from healthlb.server.checks.machine import cpu_load, disk_space, memory
from healthlb.server.checks.network import http_get, tcp_connect
from healthlb.server.checks.unhealthy import Unhealthy

__all__ = [
    "HeartbeatCheck",
    "Unhealthy",
    "cpu_load",
    "database",
    "disk_space",
    "grpc_service",
    "http_get",
    "memory",
    "tcp_connect",
]
