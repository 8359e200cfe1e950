"""Check and List on an event loop, for both servicers."""

from __future__ import annotations

from typing import Any

import grpc

from healthlb.server.listing import MOST_LISTED, TOO_MANY, list_response
from healthlb.server.registry import Registry
from healthlb.server.streams import response


async def check(registry: Registry, request: Any, context: Any) -> Any:
    """Answer with the status; NOT_FOUND for a name that was never set."""
    status = registry.get(request.service)
    if status is None:
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return response(int(status or 0))


async def list_all(registry: Registry, context: Any) -> Any:
    """Answer with all statuses; RESOURCE_EXHAUSTED for more than 100 services (gRFC A90)."""
    statuses = registry.statuses()
    if len(statuses) > MOST_LISTED:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_MANY)
    return list_response(statuses)
