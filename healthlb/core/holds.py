"""What keeps a subchannel out though it is healthy: passive health, and damping.

The one rule: an immutable value. Who holds a subchannel out gives it another one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Holds:
    """Why a healthy subchannel is not READY.

    Attributes:
        ejection: in words, "" for none.
        damping: in words, "" for none.
        is_on_probe: whether the ejection is over but for one call.
    """

    ejection: str = ""
    damping: str = ""
    is_on_probe: bool = False

    @property
    def reason(self) -> str:
        """In words, "" where nothing holds it out."""
        return self.ejection or self.damping

    def ejected(self, reason: str) -> Self:
        """Return what holds it out once it is ejected."""
        return replace(self, ejection=reason, is_on_probe=False)

    def on_probe(self) -> Self:
        """Return what holds it out but for one call."""
        return replace(self, ejection=self.ejection.replace("ejected for", "on probe after"), is_on_probe=True)

    def readmitted(self) -> Self:
        """Return what holds it out once the ejection is over."""
        return replace(self, ejection="", is_on_probe=False)

    def damped(self, reason: str) -> Self:
        """Return what holds it out for its flaps, "" for no longer."""
        return replace(self, damping=reason)
