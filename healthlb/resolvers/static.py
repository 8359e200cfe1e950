"""A fixed list of endpoints.

The one rule: it is handed over once and never changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from healthlb.core.messages import Endpoint
from healthlb.resolvers.addresses import parse_endpoints
from healthlb.resolvers.base import Update
from healthlb.text import short


class StaticResolver:
    """Resolves to the same endpoints for ever.

    Args:
        endpoints: addresses or Endpoints, at least one; of equal addresses the first counts.

    Raises:
        ConfigError: the list is empty, or an entry is malformed.
    """

    def __init__(self, endpoints: Sequence[str | Endpoint]) -> None:
        self._endpoints = parse_endpoints(endpoints)

    def __repr__(self) -> str:
        return f"<StaticResolver {self}>"

    def __str__(self) -> str:
        return short([endpoint.address for endpoint in self._endpoints], 4)

    async def resolve(self, update: Update) -> None:
        """Call `update` once, then wait to be cancelled."""
        update(self._endpoints)
        await asyncio.Event().wait()
