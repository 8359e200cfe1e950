"""The option to use only some of the endpoints of a target.

The one rule is that of `healthlb.config`: a value is checked where it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.config.bounds import (
    check_count,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subset:
    """To how many of a target's endpoints a channel connects (gRFC A68, random subsetting).

    Attributes:
        size: at least 1. Where the resolver gives no more, all are used. The SRE book has 20 to 100 for large fleets.
        seed: clients with equal seeds choose alike; None chooses a random one for each channel. Any whole number of
            64 bits, signed.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    size: int
    seed: int | None = None

    def __post_init__(self) -> None:
        check_count("Subset.size", self.size, low=1)
        if self.seed is not None:
            check_count("Subset.seed", self.seed, low=-(2**63), high=2**63 - 1)
