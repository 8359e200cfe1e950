"""Exponential backoff with jitter, in integer nanoseconds, on the `backoff` library's generator."""

from __future__ import annotations

from collections.abc import Iterator

from backoff import expo

from healthlb.config import Backoff
from healthlb.core.random_streams import Draws


class BackoffDelays:
    """The successive delays of one retry loop (gRPC connection backoff).

    Args:
        policy: the bounds.
        rng: the stream that the jitter is drawn from.
        initial: the first delay in nanoseconds, None for the policy's.
    """

    __slots__ = ("_delays", "_initial", "_policy", "_rng")

    def __init__(self, policy: Backoff, rng: Draws, initial: int | None = None) -> None:
        self._initial = initial
        self._policy = policy
        self._rng = rng
        self._delays: Iterator[float] | None = None

    def reset(self) -> None:
        """Start again from the initial delay."""
        self._delays = None

    def next(self) -> int:
        """Return the next delay in nanoseconds, jittered from the first on."""
        policy = self._policy
        if self._delays is None:
            # Only here: most connections are never lost, and those that are begin anew each time.
            self._delays = expo(policy.multiplier, self._initial or policy.initial_ns, policy.maximum_ns)
            next(self._delays)
        return jittered(next(self._delays), policy.jitter, self._rng)


def jittered(delay: float, jitter: float, rng: Draws) -> int:
    """Return `delay` varied by up to the share `jitter` either way; never 0, or a timer would be due for ever."""
    return max(1, round(delay * (1 + jitter * (2 * rng.random() - 1))))
