"""Which of many endpoints a client connects to (gRFC A68, random subsetting).

The one rule: one backend that comes or goes changes at most one entry of a client's subset, whatever the order of the
list, and clients with different seeds choose independently.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from hashlib import blake2b

from healthlb.core.messages import Endpoint


def choose(endpoints: Sequence[Endpoint], size: int, seed: int) -> tuple[Endpoint, ...]:
    """Return `size` of the endpoints, or all where there are no more, in the order they came (rendezvous hashing)."""
    if len(endpoints) <= size:
        return tuple(endpoints)
    key = seed.to_bytes(16, "big", signed=True)

    def rank(endpoint: Endpoint) -> tuple[bytes, str]:
        return blake2b(endpoint.address.encode(), digest_size=8, key=key).digest(), endpoint.address

    chosen = {endpoint.address for endpoint in heapq.nsmallest(size, endpoints, key=rank)}
    return tuple(endpoint for endpoint in endpoints if endpoint.address in chosen)
