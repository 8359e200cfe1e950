"""The rules that compare subchannels over an interval (gRFC A50), as functions of numbers.

The one rule: pure; a rule says who is an outlier, not whether there is room to eject it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from healthlb.config_outliers import FailurePercentage, SuccessRate

# A row of failures is no chance if it is unlikelier than this, given how often the others fail.
_CHANCE = 0.001


@dataclass(frozen=True, slots=True)
class Tally:
    """What one subchannel's calls came to in an interval.

    Attributes:
        sub: its number.
        calls: that ended, cancelled ones excepted.
        strikes: those of them that speak against it.
        lates: those of the strikes for which nothing came in time.
        busy: seconds that calls spent on it, all together.
    """

    sub: int
    calls: int
    strikes: int
    lates: int = 0
    busy: float = 0.0


def by_success_rate(tallies: Sequence[Tally], rule: SuccessRate) -> list[tuple[int, str]]:
    """Return who succeeds much less often than the mean, and the words for it (gRFC A50)."""
    enough = [tally for tally in tallies if tally.calls >= rule.request_volume]
    if len(enough) < rule.minimum_hosts:
        return []
    rates = [1 - tally.strikes / tally.calls for tally in enough]
    # Of the population: of a sample, one in five could never be 1.9 deviations out.
    lowest = statistics.fmean(rates) - statistics.pstdev(rates) * rule.stdev_factor / 1000
    return [
        (tally.sub, f"{rate:.0%} of {tally.calls} calls succeeded, the mean is {statistics.fmean(rates):.0%}")
        for tally, rate in zip(enough, rates, strict=True)
        if rate < lowest
    ]


def by_failure_percentage(tallies: Sequence[Tally], rule: FailurePercentage) -> list[tuple[int, str]]:
    """Return who fails more than a fixed share of its calls, and the words for it (gRFC A50)."""
    enough = [tally for tally in tallies if tally.calls >= rule.request_volume]
    if len(enough) < rule.minimum_hosts:
        return []
    return [
        (tally.sub, f"{tally.strikes} of {tally.calls} calls failed")
        for tally in enough
        if 100 * tally.strikes > rule.threshold * tally.calls
    ]


def by_latency(tallies: Sequence[Tally], factor: float, floor: float, volume: int = 20) -> list[tuple[int, str]]:
    """Return who keeps calls much longer than the median, and the words for it.

    The time a call takes is by Little's law the time that calls spent there divided by their number, so that no call
    has to be timed.
    """
    enough = {tally.sub: tally.busy / tally.calls for tally in tallies if tally.calls >= volume}
    if len(enough) < 3:
        return []
    median = statistics.median(enough.values())
    return [
        (sub, f"calls took {took:.2g} s, the median is {median:.2g} s")
        for sub, took in enough.items()
        if took > max(factor * median, floor)
    ]


def is_no_chance(row: int, others: Tally, *, of_late: bool) -> bool:
    """Whether a row of failures says more than that all fail now and then.

    Args:
        row: how many.
        others: the calls of all others; if none had any, hard failures speak for themselves and late ones do not.
        of_late: whether the row owes its length to calls that were late.
    """
    if not others.calls:
        return not of_late
    return (others.strikes / others.calls) ** row <= _CHANCE


def without_lates(tallies: Sequence[Tally]) -> list[Tally]:
    """Return the tallies as they count: where most are late, it is the deadline's fault."""
    calls, lates = sum(t.calls for t in tallies), sum(t.lates for t in tallies)
    if 2 * lates <= calls:
        return list(tallies)
    return [Tally(t.sub, t.calls, t.strikes - t.lates, 0, t.busy) for t in tallies]


def words(row: int, lates: int) -> str:
    """Say what a row of failures was."""
    if not lates:
        return f"{row} calls failed in a row"
    return f"{row} calls failed in a row, {lates} of them without an answer in time"


def mean_busy(in_flight: float, samples: int, seconds: float) -> float:
    """Return the seconds that calls spent on a subchannel, from how many were in flight at each look."""
    return in_flight / samples * seconds if samples else math.nan
