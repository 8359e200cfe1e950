"""The options of a channel, written once: both faces, the core and the simulator's policies have them from here.

What only a real channel needs - credentials, channel arguments, compression, interceptors, listeners - is not among
them; nor is the picker, which the core knows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from healthlb.config.bounds import check_count, check_number
from healthlb.config.failover import Failover
from healthlb.config.health import HealthCheck
from healthlb.config.outliers import Outliers
from healthlb.config.overload import Overload
from healthlb.config.stability import SlowStart
from healthlb.errors import ConfigError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """How a channel follows health, chooses among its subchannels and makes its calls.

    Attributes:
        health: how health is followed.
        failover: what happens to a call whose attempt fails; None is one attempt.
        outliers: who is ejected for what its calls say; None is nobody.
        overload: how many calls may wait and be in flight; None is any number.
        panic_threshold: the share of healthy subchannels, 0 to 1, below which picks go to all that are connected;
            0 is never.
        drain: seconds after which calls end with UNAVAILABLE that are in flight on an address that has left the list
            or the subset, and is not back; at least 0. Idempotent ones may then be made elsewhere, as after any
            UNAVAILABLE. None is no limit: they run to their own ends.
        subset: to how many of the target's endpoints it connects, a `Subset`; None is all.
        slow_start: how the weight of a subchannel grows that comes in late, a `SlowStart`; None is at once. It needs
            a picker that reads weights.

    Raises:
        ConfigError: a value is of the wrong type or out of its bounds.
    """

    health: HealthCheck = field(default_factory=HealthCheck)
    failover: Failover | None = field(default_factory=Failover)
    outliers: Outliers | None = field(default_factory=Outliers)
    overload: Overload | None = field(default_factory=Overload)
    panic_threshold: float = 0.0
    drain: float | None = None
    subset: Subset | None = None
    slow_start: SlowStart | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.health, HealthCheck):
            raise ConfigError(f"health must be a HealthCheck, not {self.health!r}")
        check_failover(self.failover)
        _check_optional("outliers", self.outliers, Outliers)
        _check_optional("overload", self.overload, Overload)
        check_number("panic_threshold", self.panic_threshold, low=0, high=1)
        if self.drain is not None:
            check_number("drain", self.drain, low=0)
        _check_optional("subset", self.subset, Subset)
        _check_optional("slow_start", self.slow_start, SlowStart)


def check_failover(failover: object) -> Failover | None:
    """Return the failover policy.

    Raises:
        ConfigError: it is none.
    """
    _check_optional("failover", failover, Failover)
    return failover  # type: ignore[return-value]


def _check_optional(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise ConfigError(f"{name} must be {article} {kind.__name__} or None, not {value!r}")


class _Default(str):
    """A text that is a default."""

    __slots__ = ()


# The service of a channel that is given none: it can be told apart from the same text given by the caller, so that a
# service config's service wins over it.
DEFAULT_SERVICE: str = _Default("")
# What a channel has that is given nothing. A `failover` that is this very object was not given by the caller, so that
# a service config's retry policy wins over it.
DEFAULTS = ChannelConfig()
