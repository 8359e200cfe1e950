"""The options of overload protection: how many calls may wait, for how long, and how many may be in flight."""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.config.bounds import check_count, check_number, to_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """Caps on the calls of a channel and all its views; a call above one ends at once with RESOURCE_EXHAUSTED.

    They hold for calls with `wait_for_ready` too, as circuit breakers do in gRPC's xDS and in Envoy. Attempts after
    the first and hedges count like calls of their own; a hedge that finds no room is not sent.

    Attributes:
        max_waiting: calls that may wait for a READY subchannel at a time, None for any number; at least 0. Linkerd's
            10,000 by default.
        max_wait: seconds that a call may wait, None, the default, for its deadline only; above 0. Linkerd has 3 s;
            gRPC has no such bound, and a call without deadline waits for ever.
        max_in_flight: calls that may be under way on all subchannels together, None, the default, for any number; at
            least 1. Envoy and gRPC's xDS have 1,024.
        max_in_flight_per_subchannel: likewise on each one; at least 1. A subchannel with so many is not picked, and a
            call ends only where all are like that.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    max_waiting: int | None = 10_000
    max_wait: float | None = None
    max_in_flight: int | None = None
    max_in_flight_per_subchannel: int | None = None

    def __post_init__(self) -> None:
        if self.max_waiting is not None:
            check_count("Overload.max_waiting", self.max_waiting, low=0)
        if self.max_wait is not None:
            check_number("Overload.max_wait", self.max_wait, above=0)
        for name in ("max_in_flight", "max_in_flight_per_subchannel"):
            if getattr(self, name) is not None:
                check_count(f"Overload.{name}", getattr(self, name), low=1)

    @property
    def max_wait_ns(self) -> int | None:
        """The longest wait in nanoseconds."""
        return None if self.max_wait is None else to_ns(self.max_wait)


NO_CAPS = Overload(max_waiting=None)
