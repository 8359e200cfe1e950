"""What keeps a subchannel out though it is healthy: silence, passive health, and damping.

The one rule: an immutable value. Whatever excludes a subchannel, or ceases to, sets another one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from healthlb.core.messages import SECOND


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a healthy subchannel is not READY.

    Attributes:
        silence: why its Watch alone is not believed, "" where it is.
        ejection: how long it lasts and why, as "30.0 s: 5 calls failed in a row"; "" for none.
        damping: in words, "" for none.
        is_on_probe: whether the ejection is over but for one call.
    """

    silence: str = ""
    ejection: str = ""
    damping: str = ""
    is_on_probe: bool = False

    @property
    def reason(self) -> str:
        """In words, "" where nothing excludes it."""
        if self.silence:
            return self.silence
        if self.ejection:
            return f"{'on probe after' if self.is_on_probe else 'ejected for'} {self.ejection}"
        return self.damping

    def ejected(self, duration: int, cause: str) -> Self:
        """Return what excludes it once it is ejected for `duration`, in nanoseconds."""
        return replace(self, ejection=f"{duration / SECOND:.1f} s: {cause}", is_on_probe=False)

    def on_probe(self) -> Self:
        """Return the same, but that one call may go there."""
        return replace(self, is_on_probe=True)

    def readmitted(self) -> Self:
        """Return what excludes it once the ejection is over."""
        return replace(self, ejection="", is_on_probe=False)

    def damped(self, reason: str) -> Self:
        """Return the same with damping for this reason, "" for none."""
        return replace(self, damping=reason)

    def silenced(self, reason: str) -> Self:
        """Return the same with this reason not to believe its Watch alone, "" for none."""
        return replace(self, silence=reason)
