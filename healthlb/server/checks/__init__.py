"""Checks of what servers usually depend on, for `Check(probe=...)`.

The one rule: each raises when its dependency is unhealthy, with a text that says what was found.
"""

from healthlb.server.checks.cpu import cpu_load
from healthlb.server.checks.database import database
from healthlb.server.checks.disk import disk_space
from healthlb.server.checks.grpc_service import grpc_service
from healthlb.server.checks.heartbeat import HeartbeatCheck
from healthlb.server.checks.http import http_get
from healthlb.server.checks.memory import memory
from healthlb.server.checks.tcp import tcp_connect
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
