"""An address that gets a subchannel of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address that gets a subchannel of its own.

    Attributes:
        address: what grpcio can connect to: `host:port`, `[::1]:port` or `unix:/path`.
        weight: its share relative to the others, for pickers that use weights; above 0.
        locality: a zone name, or None.
        attributes: anything a picker of the user's own wants to know.
    """

    address: str
    weight: float = 1.0
    locality: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Endpoint):
            return NotImplemented
        if (self.address, self.weight, self.locality) != (other.address, other.weight, other.locality):
            return False
        try:
            return self.attributes is other.attributes or bool(self.attributes == other.attributes)
        except Exception:  # The values are the user's: arrays, for one, cannot be compared as a whole.
            return False
