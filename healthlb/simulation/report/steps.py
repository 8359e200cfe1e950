"""Step functions of states: what held from when to when, what disagreed, and what share of the time it did.

A state is right or wrong only against the other side. READY of a backend that does not serve is wrong; to
be left out while serving is missed; whoever is not in the client's list or subset is neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from healthlb.simulation.world.record import Lane, Steps

SERVES = frozenset({"up", "slow"})
GETS_CALLS = frozenset({"READY", "probe"})


@dataclass(frozen=True, slots=True)
class Span:
    """A state and the nanoseconds in which it held.

    Attributes:
        start: its beginning.
        end: its end, after `start`.
        state: what held.
    """

    start: int
    end: int
    state: str


def spans(steps: Steps, end: int) -> list[Span]:
    """Return the spans of a step function up to `end`; equal neighbours are one."""
    found: list[Span] = []
    ends = [time for time, _ in steps[1:]] + [end]
    for (start, state), until in zip(steps, ends, strict=True):
        start, until = max(start, 0), min(until, end)
        if until <= start:
            continue
        if found and found[-1].state == state and found[-1].end == start:
            start = found.pop().start
        found.append(Span(start, until, state))
    return found


def pairs(first: Iterable[Span], second: Iterable[Span]) -> Iterator[tuple[int, int, str, str]]:
    """Yield each span of time in which neither changes, with both states."""
    ours, theirs = iter(first), iter(second)
    left, right = next(ours, None), next(theirs, None)
    while left is not None and right is not None:
        start, end = max(left.start, right.start), min(left.end, right.end)
        if end > start:
            yield start, end, left.state, right.state
        if left.end <= right.end:
            left = next(ours, None)
        else:
            right = next(theirs, None)


def verdict(truth: str, belief: str) -> str:
    """Return "wrong" (taken for READY, does not serve), "missed" (serves, gets no calls) or "" (they agree)."""
    if belief == "absent":
        return ""
    if truth in SERVES:
        return "" if belief in GETS_CALLS else "missed"
    return "wrong" if belief in GETS_CALLS else ""


def disagreements(lane: Lane, end: int) -> list[Span]:
    """Return when truth and belief of a lane disagreed, and how."""
    found: list[Span] = []
    for start, until, was, believed in pairs(spans(lane.truth, end), spans(lane.belief, end)):
        kind = verdict(was, believed)
        if found and kind == found[-1].state and found[-1].end == start:
            found[-1] = Span(found[-1].start, until, kind)
        elif kind:
            found.append(Span(start, until, kind))
    return found


def total(found: Iterable[Span], *states: str) -> int:
    """Return for how many nanoseconds any of the states held."""
    return sum(span.end - span.start for span in found if span.state in states)


def columns(found: Iterable[Span], end: int, count: int) -> list[dict[str, float]]:
    """Return for each of `count` equal columns which share of it each state held."""
    width = end / count
    shares: list[dict[str, float]] = [{} for _ in range(count)]
    for span in found:
        first, last = int(span.start / width), min(count - 1, int(span.end / width))
        for index in range(first, last + 1):
            held = min(span.end, (index + 1) * width) - max(span.start, index * width)
            if held > 0:
                shares[index][span.state] = shares[index].get(span.state, 0.0) + held / width
    return shares
