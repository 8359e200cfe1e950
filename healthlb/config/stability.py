"""The options against restlessness: flap damping and slow start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from healthlb.config.bounds import check_number, to_ns
from healthlb.errors import ConfigError

# Beyond it the ceiling of a penalty is no number any more.
_MOST_HALF_LIVES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FlapDamping:
    """Keeps a subchannel out that comes and goes (RFC 2439, route flap damping).

    Each time it leaves READY its penalty grows by `penalty`; between, it halves every `half_life`. Above `suppress`
    the subchannel stays out, however healthy, until the penalty has fallen below `reuse`.

    Attributes:
        penalty: of one flap; above 0.
        half_life: seconds in which a penalty halves; above 0.
        suppress: the penalty above which a subchannel stays out; above `penalty`, so that a single flap never does
            that.
        reuse: the penalty below which it is back; above 0, below `suppress`.
        max_suppress: seconds; no suppression lasts longer after the last flap. At most 100 half-lives, and long enough
            for a penalty to fall from `suppress` to `reuse`, or there would never be a suppression.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    penalty: float = 1000.0
    half_life: float = 15.0
    suppress: float = 2000.0
    reuse: float = 750.0
    max_suppress: float = 60.0

    def __post_init__(self) -> None:
        check_number("FlapDamping.penalty", self.penalty, above=0)
        check_number("FlapDamping.half_life", self.half_life, above=0)
        check_number("FlapDamping.suppress", self.suppress, above=self.penalty)
        check_number("FlapDamping.reuse", self.reuse, above=0)
        if self.reuse >= self.suppress:
            raise ConfigError(
                f"FlapDamping.reuse must be below FlapDamping.suppress ({self.suppress:g}), not {self.reuse!r}"
            )
        check_number("FlapDamping.max_suppress", self.max_suppress, above=0, high=_MOST_HALF_LIVES * self.half_life)
        if self.ceiling <= self.suppress:
            least = self.half_life * math.log2(self.suppress / self.reuse)
            raise ConfigError(
                f"FlapDamping.max_suppress must be above {least:g}, in which a penalty falls from suppress to reuse, "
                f"not {self.max_suppress!r}"
            )

    @property
    def ceiling(self) -> float:
        """The largest penalty there can be: it takes `max_suppress` to fall from there to `reuse` (RFC 2439, 4.2)."""
        return float(self.reuse * 2.0 ** (self.max_suppress / self.half_life))

    @property
    def half_life_ns(self) -> int:
        """The half-life in nanoseconds."""
        return to_ns(self.half_life)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowStart:
    """Lets a subchannel's share grow that comes into a channel which already serves (Envoy's slow start).

    `t` seconds after it became READY its weight is its own times `max(min_weight, (t / window) ** (1 / aggression))`.

    Attributes:
        window: seconds until it has its full weight; above 0.
        aggression: the shape of the growth: 1 is linear, more is faster at first; above 0.
        min_weight: the share of its weight that it begins with; above 0, at most 1.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    window: float
    aggression: float = 1.0
    min_weight: float = 0.1

    def __post_init__(self) -> None:
        check_number("SlowStart.window", self.window, above=0)
        check_number("SlowStart.aggression", self.aggression, above=0)
        check_number("SlowStart.min_weight", self.min_weight, above=0, high=1)

    @property
    def window_ns(self) -> int:
        """The window in nanoseconds."""
        return to_ns(self.window)
