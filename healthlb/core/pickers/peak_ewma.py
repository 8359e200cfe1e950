"""The quicker and less busy of two READY subchannels drawn at random (Finagle's and Linkerd's `peak_ewma`).

What a subchannel costs is its latency times the calls that would then be on it. The latency is a moving average that
forgets by time (a call counts 1/e after `decay`), but takes in a slower call at its peak at once: it is quick to
step back and slow to trust. It fades while a subchannel is not called, so that the slow one is tried again.

Two costs that fade alike compare alike at any time, so a cost is kept as its logarithm with the time of the last call
added in units of `decay`: a pick needs neither a clock nor an exponential.

Errors do not make a backend look quick (a sinkhole): a failed call counts as one that took `failure_seconds`, or twice
as long as those before it, and no other status than OK ever lowers the average. One that was cancelled took at least
as long as it had. A subchannel that has never answered is tried with one call at a time (Finagle's penalty).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from healthlb.config import check_number
from healthlb.core.load import Load, Subchannel
from healthlb.core.pickers.contract import CallEnd, CallInfo, PickerFactory
from healthlb.core.random_streams import Streams
from healthlb.core.states import Code

_SECOND = 1_000_000_000
_SHORTEST = 1e-6
_UNKNOWN = -math.inf
_PENALTY = 1e12
_LONGEST_FAILURE = 60.0
_LOGARITHMS = [math.log(number) for number in range(1, 1025)]


class Candidate:
    """A subchannel and its latency.

    Attributes:
        sub: the subchannel.
        load: its counters.
        level: the logarithm of the faded latency, as far as it tells candidates apart; minus infinity without any.
    """

    __slots__ = ("_at", "_average", "level", "load", "sub")

    def __init__(self, sub: Subchannel) -> None:
        self.sub: Subchannel = sub
        self.load: Load = sub.load
        self.level: float = _UNKNOWN
        self._average = 0.0
        self._at = 0

    def succeeded(self, seconds: float, at: int, decay: float) -> None:
        """Take in how long a call took that ended with OK at `at`."""
        if seconds > self._average:
            self._set(seconds, at, decay)
        else:
            fading = self._fading(at, decay)
            self._set(self._average * fading + seconds * (1 - fading), at, decay)

    def failed(self, seconds: float, at: int, decay: float) -> None:
        """Take in a failure that counts as so long, and as twice the average, but for what is absurd."""
        faded = self._average * self._fading(at, decay)
        self._set(max(seconds, faded, min(2 * faded, _LONGEST_FAILURE)), at, decay)

    def lasted(self, seconds: float, at: int, decay: float) -> None:
        """Take in that a call took so long at least."""
        self._set(max(seconds, self._average * self._fading(at, decay)), at, decay)

    def _fading(self, at: int, decay: float) -> float:
        return math.exp(-max(0, at - self._at) / _SECOND / decay)

    def _set(self, average: float, at: int, decay: float) -> None:
        self._average = average
        self._at = max(at, self._at)
        self.level = math.log(max(self._average, _SHORTEST)) + self._at / _SECOND / decay

    @property
    def cost(self) -> float:
        """The logarithm of the latency times the calls that would be on it with one more."""
        pending = self.load.in_flight
        if self.level == _UNKNOWN:
            return _PENALTY + pending if pending else _UNKNOWN
        return self.level + (_LOGARITHMS[pending] if pending < 1024 else math.log(pending + 1))


class PeakEwma(PickerFactory):
    """The factory: it owns the random stream, and the latencies of those that stay READY.

    Args:
        decay: seconds after which a call counts 1/e; above 0, Finagle's 10 by default.
        failure_seconds: what a failed call counts as at least, in seconds; at least 0.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    needs_call = False
    reads_weight = False
    needs_latency = True

    def __init__(self, *, decay: float = 10.0, failure_seconds: float = 1.0) -> None:
        check_number("PeakEwma.decay", decay, above=0)
        check_number("PeakEwma.failure_seconds", failure_seconds, low=0)
        self._decay = decay
        self._failure_seconds = failure_seconds
        self._rng = Streams(0).stream("peak_ewma")
        self._candidates: dict[Subchannel, Candidate] = {}

    def seed(self, rng: random.Random) -> None:
        """Draw from this stream from now on."""
        self._rng = rng

    def build(self, ready: Sequence[Subchannel]) -> PeakEwmaPicker:
        """Return a picker over `ready`."""
        known = self._candidates
        self._candidates = {sub: known.get(sub) or Candidate(sub) for sub in ready}
        return PeakEwmaPicker(tuple(self._candidates.values()), self._rng)

    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        """Take in how long an attempt took."""
        candidate = self._candidates.get(sub)
        if candidate is None:
            return
        if end.is_failure:
            candidate.failed(max(end.seconds or 0.0, self._failure_seconds), end.at, self._decay)
        elif end.seconds is not None and end.code is Code.OK:
            candidate.succeeded(end.seconds, end.at, self._decay)
        elif end.seconds is not None:
            candidate.lasted(end.seconds, end.at, self._decay)


class PeakEwmaPicker:
    """Compares two, never the same one twice."""

    __slots__ = ("_candidates", "_random", "_size")

    def __init__(self, candidates: tuple[Candidate, ...], rng: random.Random) -> None:
        self._candidates = candidates
        self._size = len(candidates)
        self._random = rng.random

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the one of two that costs less, the first of them where they are even."""
        candidates, size = self._candidates, self._size
        if call.exclude:
            candidates = tuple(one for one in candidates if one.sub.id not in call.exclude) or candidates
            size = len(candidates)
        if size < 2:
            return candidates[0].sub if candidates else None
        place = int(self._random() * size)
        other = int(self._random() * (size - 1))
        first = candidates[place]
        second = candidates[other if other < place else other + 1]
        if first.load.in_flight or second.load.in_flight:
            return (second if second.cost < first.cost else first).sub
        return (second if second.level < first.level else first).sub
