"""What a check may ask of one run: who was picked, what failed when, what was believed of whom.

Every function reads the run's record and nothing else, so a check can be made again long after the run.
Windows of time are whole bins of 100 ms: `since` is in it and `until` is not. Without a window it is the time from the
end of the warm-up on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from healthlb.simulation.checks.expression import ExpressionError
from healthlb.simulation.engine.histogram import Histogram
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.world.record import BELIEFS, TRUTHS, Lane, RunRecord, Steps

Time = str | float
_SECOND = 1e9
# A backend that is one of these can serve; what it answers is another matter.
_SERVES = ("up", "slow", "failing")
SERIES = ("arrivals", "ok", "attempts", "connects", "watch_starts")


@dataclass(frozen=True, slots=True)
class Function:
    """A function of checks.

    Attributes:
        call: takes the record, and the arguments.
        takes: what the arguments are, of "backends" (a glob), "truth", "belief", "code", "series", "time", "number",
            "metric" and "policy".
        says: what it returns, for the reference.
        least: how many arguments it needs.
    """

    call: Callable[..., float]
    takes: tuple[str, ...]
    says: str
    least: int


def nanoseconds(time: Time) -> int:
    """Return a time of a check, as "5s" or a number of seconds."""
    return parse_duration("a time", time)


def _window(record: RunRecord, since: Time | None, until: Time | None) -> slice:
    width = record.bins.width
    first = record.warmup if since is None else nanoseconds(since)
    last = None if until is None else -(-nanoseconds(until) // width)
    return slice(-(-first // width), last)


def _sum(record: RunRecord, series: Iterable[Sequence[float]], since: Time | None, until: Time | None) -> float:
    window = _window(record, since, until)
    return float(sum(sum(values[window]) for values in series))


def matching(backends: str, names: Iterable[str]) -> list[str]:
    """Return the names that a glob means.

    Raises:
        ExpressionError: it means none.
    """
    found = [name for name in names if fnmatchcase(name, backends)]
    if not found:
        raise ExpressionError(f"no backend is called {backends!r}")
    return found


def _lanes(record: RunRecord, backends: str) -> list[Lane]:
    wanted = set(matching(backends, (lane.backend for lane in record.lanes)))
    return [lane for lane in record.lanes if lane.backend in wanted]


# --- calls -----------------------------------------------------------------------------------------


def picks(record: RunRecord, backends: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the attempts that were sent to them."""
    names = matching(backends, (lane.backend for lane in record.lanes))
    return _sum(record, (record.bins.picks.get(name, ()) for name in names), since, until)


def share(record: RunRecord, backends: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the share of all attempts that were sent to them."""
    return picks(record, backends, since, until) / picks(record, "*", since, until)


def requests_in(record: RunRecord, since: Time, until: Time) -> float:
    """Return the calls that began in a window."""
    return _sum(record, [record.bins.arrivals], since, until)


def ok_in(record: RunRecord, since: Time, until: Time) -> float:
    """Return the calls that ended well in a window."""
    return _sum(record, [record.bins.ok], since, until)


def errors_in(record: RunRecord, since: Time, until: Time) -> float:
    """Return the calls that ended otherwise in a window."""
    return _sum(record, record.bins.errors.values(), since, until)


def errors_by(record: RunRecord, code: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the calls that ended with this status."""
    return _sum(record, [record.bins.errors.get(code, ())], since, until)


def percentile(record: RunRecord, part: float, since: Time | None = None, until: Time | None = None) -> float:
    """Return the latency that this part of the good calls did not exceed, in seconds; windows are of whole seconds."""
    if not 0 <= part <= 1:
        raise ExpressionError(f"a percentile must be 0 to 1, not {part:g}")
    if since is None:
        return record.latency.quantile(part) / _SECOND
    first = int(nanoseconds(since) // _SECOND)
    last = None if until is None else int(-(-nanoseconds(until) // _SECOND))
    merged = Histogram()
    for latency in record.bins.latency[first:last]:
        merged.merge(latency)
    return merged.quantile(part) / _SECOND


def peak(record: RunRecord, series: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the most of these in 100 ms."""
    values = _series(record, series)[_window(record, since, _end(record, series, until))]
    return float(max(values, default=0))


def count(record: RunRecord, series: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return how many of these there were."""
    return _sum(record, [_series(record, series)], since, _end(record, series, until))


def _end(record: RunRecord, series: str, until: Time | None) -> Time | None:
    """Calls end after the last has begun; what connections do then is nobody's concern."""
    return record.duration / _SECOND if until is None and series in ("connects", "watch_starts") else until


def _series(record: RunRecord, name: str) -> Sequence[int]:
    if name not in SERIES:
        raise ExpressionError(f"a series must be one of {', '.join(SERIES)}, not {name!r}")
    values: Sequence[int] = getattr(record.bins, name)
    return values


def tokens(record: RunRecord, since: Time | None = None, until: Time | None = None) -> float:
    """Return the least that was left of any client's retry budget, as a share."""
    return min(record.bins.tokens[_window(record, since, until)], default=1.0)


# --- truth and belief --------------------------------------------------------------------------------


def was(record: RunRecord, backends: str, truth: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the share of the time in which they were this, over all of them."""
    _among(truth, TRUTHS)
    return _share_of_time(record, [lane.truth for lane in _lanes(record, backends)], truth, since, until)


def believed(
    record: RunRecord, backends: str, belief: str, since: Time | None = None, until: Time | None = None
) -> float:
    """Return the share of the time in which they were taken for this: by all clients, in a window by the first."""
    _among(belief, BELIEFS)
    if since is None and record.confusion_of:
        times = [record.confusion_of[name] for name in matching(backends, record.confusion_of)]
        return _part(times, lambda pair: pair[1] == belief)
    return _share_of_time(record, [lane.belief for lane in _lanes(record, backends)], belief, since, until)


def confused(record: RunRecord, truth: str, belief: str) -> float:
    """Return the share of the time in which a backend was this and a client took it for that, over all pairs."""
    _among(truth, TRUTHS)
    _among(belief, BELIEFS)
    return _part([record.confusion], lambda pair: pair == (truth, belief))


def _part(times: Sequence[Mapping[tuple[str, str], int]], is_meant: Callable[[tuple[str, str]], bool]) -> float:
    total = sum(sum(time.values()) for time in times)
    return sum(length for time in times for pair, length in time.items() if is_meant(pair)) / total


def _among(state: str, states: Sequence[str]) -> None:
    if state not in states:
        raise ExpressionError(f"a state must be one of {', '.join(states)}, not {state!r}")


def _share_of_time(
    record: RunRecord, lanes: Sequence[Steps], state: str, since: Time | None, until: Time | None
) -> float:
    first, last = _bounds(record, since, until)
    spent = sum(end - begin for steps in lanes for begin, end, now in _spans(steps, first, last) if now == state)
    return spent / ((last - first) * len(lanes))


def _bounds(record: RunRecord, since: Time | None, until: Time | None) -> tuple[int, int]:
    first = record.warmup if since is None else nanoseconds(since)
    last = record.duration if until is None else nanoseconds(until)
    if first >= last:
        raise ExpressionError("a window of time must end after it begins")
    return first, last


def _spans(steps: Steps, first: int, last: int) -> Iterator[tuple[int, int, str]]:
    """Yield the pieces of a step function within a window."""
    ends = [*(begin for begin, _ in steps[1:]), last]
    for (begin, state), end in zip(steps, ends, strict=True):
        if max(begin, first) < min(end, last):
            yield max(begin, first), min(end, last), state


def down_in(record: RunRecord, backends: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the seconds in which they could not serve, summed over them."""
    first, last = _bounds(record, since, until)
    spans = (span for lane in _lanes(record, backends) for span in _spans(lane.truth, first, last))
    return sum(end - begin for begin, end, state in spans if state not in _SERVES) / _SECOND


def out_in(record: RunRecord, backends: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return the seconds in which the first client did not take them for READY, summed over them."""
    first, last = _bounds(record, since, until)
    spans = (span for lane in _lanes(record, backends) for span in _spans(lane.belief, first, last))
    return sum(end - begin for begin, end, state in spans if state != "READY") / _SECOND


def became(record: RunRecord, backends: str, truth: str, since: Time | None = None, until: Time | None = None) -> float:
    """Return how often they became this."""
    _among(truth, TRUTHS)
    return _entries(record, [lane.truth for lane in _lanes(record, backends)], truth, since, until)


def taken_for(
    record: RunRecord, backends: str, belief: str, since: Time | None = None, until: Time | None = None
) -> float:
    """Return how often the first client began to take them for this."""
    _among(belief, BELIEFS)
    return _entries(record, [lane.belief for lane in _lanes(record, backends)], belief, since, until)


def _entries(record: RunRecord, lanes: Sequence[Steps], state: str, since: Time | None, until: Time | None) -> float:
    first, last = _bounds(record, since, until)
    return float(sum(now == state and first <= time < last for steps in lanes for time, now in steps))


def at_once(record: RunRecord, belief: str) -> float:
    """Return how many backends at most the first client took for this at the same time, in the whole run."""
    _among(belief, BELIEFS)
    changes: list[tuple[int, int]] = []
    for lane in record.lanes:
        was_so = False
        for time, now in lane.belief:
            if (now == belief) != was_so:
                was_so = now == belief
                changes.append((time, 1 if was_so else -1))
    # Of one instant, those that leave go first.
    level = most = 0
    for _, change in sorted(changes):
        level += change
        most = max(most, level)
    return float(most)


def lag(record: RunRecord, backends: str) -> float:
    """Return the longest time in which the first client took one for READY that could not serve, in seconds."""
    return _longest(record, backends, lambda truth, belief: truth not in _SERVES and belief == "READY")


def return_lag(record: RunRecord, backends: str) -> float:
    """Return the longest time in which the first client did not take one for READY that was up, in seconds."""
    return _longest(record, backends, lambda truth, belief: truth == "up" and belief != "READY")


def _longest(record: RunRecord, backends: str, is_meant: Callable[[str, str], bool]) -> float:
    longest = 0
    for lane in _lanes(record, backends):
        begun: int | None = None
        for time, truth, belief in _pairs(lane, record.duration):
            if is_meant(truth, belief):
                begun = time if begun is None else begun
                continue
            if begun is not None and begun >= record.warmup:
                longest = max(longest, time - begun)
            begun = None
    return longest / _SECOND


def _pairs(lane: Lane, last: int) -> Iterator[tuple[int, str, str]]:
    """Yield what a backend was and was taken for at each change, and once more at the end."""
    changes = [(time, which, state) for which, steps in enumerate((lane.truth, lane.belief)) for time, state in steps]
    changes.sort(key=lambda change: change[:2])
    now = [lane.truth[0][1], lane.belief[0][1]]
    for place, (time, which, state) in enumerate(changes):
        if time >= last:
            break
        now[which] = state
        if place + 1 == len(changes) or changes[place + 1][0] > time:
            yield time, now[0], now[1]
    yield last, "", ""


_WINDOW = ("time", "time")
FUNCTIONS: Mapping[str, Function] = {
    "share": Function(share, ("backends", *_WINDOW), "the share of all attempts that went to them", 1),
    "picks": Function(picks, ("backends", *_WINDOW), "attempts that went to them", 1),
    "requests_in": Function(requests_in, _WINDOW, "calls that began in a window", 2),
    "ok_in": Function(ok_in, _WINDOW, "calls that ended well in a window", 2),
    "errors_in": Function(errors_in, _WINDOW, "calls that ended otherwise in a window", 2),
    "errors_by": Function(errors_by, ("code", *_WINDOW), "calls that ended with this status", 1),
    "p": Function(percentile, ("number", *_WINDOW), "a percentile of the latency, in seconds; 0.99 is p99", 1),
    "count": Function(count, ("series", *_WINDOW), "how many there were", 1),
    "peak": Function(peak, ("series", *_WINDOW), "the most in 100 ms", 1),
    "tokens": Function(tokens, _WINDOW, "the least left of any retry budget, as a share", 0),
    "was": Function(was, ("backends", "truth", *_WINDOW), "the share of the time in which they were this", 2),
    "believed": Function(
        believed, ("backends", "belief", *_WINDOW), "the share of the time in which they were taken for this", 2
    ),
    "confused": Function(
        confused, ("truth", "belief"), "the share of the time in which one was this and was taken for that", 2
    ),
    "down_in": Function(down_in, ("backends", *_WINDOW), "seconds in which they could not serve", 1),
    "out_in": Function(out_in, ("backends", *_WINDOW), "seconds in which the first client did not call them", 1),
    "became": Function(became, ("backends", "truth", *_WINDOW), "how often they became this", 2),
    "taken_for": Function(
        taken_for, ("backends", "belief", *_WINDOW), "how often the first client began to take them for this", 2
    ),
    "at_once": Function(at_once, ("belief",), "the most backends that the first client took for this at once", 1),
    "lag": Function(lag, ("backends",), "the longest time one was believed READY that could not serve", 1),
    "return_lag": Function(return_lag, ("backends",), "the longest time one was not believed READY that was up", 1),
}
