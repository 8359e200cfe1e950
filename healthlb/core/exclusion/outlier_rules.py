"""The rules that compare subchannels over an interval (gRFC A50), as functions of numbers.

The one rule: pure; a rule says who is an outlier, not whether there is room to eject it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from healthlb.config.outliers import FailurePercentage, SuccessRate
from healthlb.core.messages import SECOND

# What is late may be in line behind others, of which some are answered. One that is silent for so long answers nothing.
_SILENT_FOR = SECOND // 2
# A backend is in time with up to this share of late calls, or with fewer than so many.
_FEW_LATE = 0.02
_SOME_LATE = 3
# Consecutive failures are no chance if they are unlikelier than this, given how often the others fail.
_CHANCE = 0.001


@dataclass(frozen=True, slots=True)
class CallCounts:
    """What one subchannel's calls came to in an interval.

    Attributes:
        sub: its number.
        calls: that ended, cancelled ones excepted.
        failures: those of them that count against it.
        lates: those of the failures for which nothing came in time.
        busy: seconds that calls spent on it, all together.
    """

    sub: int
    calls: int
    failures: int
    lates: int = 0
    busy: float = 0.0


def by_success_rate(tallies: Sequence[CallCounts], rule: SuccessRate) -> list[tuple[int, str]]:
    """Return who succeeds much less often than the mean, and the words for it (gRFC A50)."""
    enough = [tally for tally in tallies if tally.calls >= rule.request_volume]
    if len(enough) < rule.minimum_hosts:
        return []
    rates = [1 - tally.failures / tally.calls for tally in enough]
    # Of the population: of a sample, one in five could never be 1.9 deviations out.
    lowest = statistics.fmean(rates) - statistics.pstdev(rates) * rule.stdev_factor / 1000
    return [
        (tally.sub, f"{rate:.0%} of {tally.calls} calls succeeded, the mean is {statistics.fmean(rates):.0%}")
        for tally, rate in zip(enough, rates, strict=True)
        if rate < lowest
    ]


def by_failure_percentage(tallies: Sequence[CallCounts], rule: FailurePercentage) -> list[tuple[int, str]]:
    """Return who fails more than a fixed share of its calls, and the words for it (gRFC A50)."""
    enough = [tally for tally in tallies if tally.calls >= rule.request_volume]
    if len(enough) < rule.minimum_hosts:
        return []
    return [
        (tally.sub, f"{tally.failures} of {tally.calls} calls failed")
        for tally in enough
        if 100 * tally.failures > rule.threshold * tally.calls
    ]


def by_latency(tallies: Sequence[CallCounts], factor: float, floor: float, volume: int = 20) -> list[tuple[int, str]]:
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


@dataclass(frozen=True, slots=True)
class Others:
    """What all other subchannels' calls came to.

    Attributes:
        calls: that ended, cancelled ones excepted.
        failures: those of them that count against a backend.
        in_time: how many subchannels answered nearly all of their calls in time.
        late: how many did not.
    """

    calls: int
    failures: int
    in_time: int
    late: int


def is_in_time(calls: int, lates: int, most: float = _FEW_LATE) -> bool:
    """Whether a backend with so many calls, at most the share `most` of which may be late, can do more work."""
    return lates < _SOME_LATE or lates <= most * calls


def is_no_chance(failures: int, others: Others, *, of_late: bool) -> bool:
    """Whether consecutive failures say more than that all fail now and then.

    Args:
        failures: how many in a row.
        others: if none had any calls, hard failures speak for themselves and late ones do not.
        of_late: whether there are so many only for calls that were late. Then most others must be in time: those that
            are busy themselves could not do the work of one more that is out.
    """
    if not others.calls:
        return not of_late
    if of_late and others.late > others.in_time:
        return False
    # One more than there were, as few calls say little; a fleet that fails nothing leaves no room for chance.
    rate = (others.failures + 1) / (others.calls + 1) if others.failures else 0.0
    return others.calls * rate**failures <= _CHANCE


def is_silence(silent_for: int) -> bool:
    """Whether calls that were late say that nothing answers, rather than that others were before them.

    Args:
        silent_for: nanoseconds since the last answer, or since the connection.
    """
    return silent_for >= _SILENT_FOR


def without_lates(tallies: Sequence[CallCounts]) -> list[CallCounts]:
    """Return the tallies as they count: late calls speak against one that is mostly late where most others are in time.

    Late now and then is what is busy, and late like the others is the deadline's fault.
    """
    late = sum(not is_in_time(tally.calls, tally.lates) for tally in tallies)
    # Whoever is mostly late is one of these.
    are_others_in_time = 2 * (late - 1) <= len(tallies) - 1
    return [
        tally
        if are_others_in_time and 2 * tally.lates > tally.calls
        else CallCounts(tally.sub, tally.calls, tally.failures - tally.lates, 0, tally.busy)
        for tally in tallies
    ]


def words(failures: int, lates: int) -> str:
    """Return the reason of an ejection for consecutive failures."""
    if not lates:
        return f"{failures} calls failed in a row"
    return f"{failures} calls failed in a row, {lates} of them without an answer in time"


def mean_busy(in_flight: float, samples: int, seconds: float) -> float:
    """Return the seconds that calls spent on a subchannel, from how many were in flight at each look."""
    return in_flight / samples * seconds if samples else math.nan
