"""The names of `healthlb.server` for a `grpc.aio.server`."""

from healthlb.server.aio_servicer import HealthServicer
from healthlb.server.lifecycle import serve_until_signal_aio as serve_until_signal

__all__ = ["HealthServicer", "serve_until_signal"]
