"""How long to wait before something is tried again."""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.config.bounds import (
    check_number,
    to_ns,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff with jitter; the defaults are gRPC's connection backoff.

    Unlike grpc-go and C-core, the first delay is jittered too, so that clients whose Watches
    fail together do not come back together.

    Attributes:
        initial: the first delay, in seconds; above 0.
        multiplier: the growth from one delay to the next; at least 1.
        jitter: the share by which a delay varies either way; 0 to 1.
        maximum: no delay is longer than this before jitter, in seconds; at least `initial`.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    initial: float = 1.0
    multiplier: float = 1.6
    jitter: float = 0.2
    maximum: float = 120.0

    def __post_init__(self) -> None:
        check_number("Backoff.initial", self.initial, above=0)
        check_number("Backoff.multiplier", self.multiplier, low=1)
        check_number("Backoff.jitter", self.jitter, low=0, high=1)
        check_number("Backoff.maximum", self.maximum, low=self.initial)

    @property
    def initial_ns(self) -> int:
        """The first delay in nanoseconds."""
        return to_ns(self.initial)

    @property
    def maximum_ns(self) -> int:
        """The longest delay in nanoseconds."""
        return to_ns(self.maximum)
