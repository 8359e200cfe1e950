"""How evenly attempts were spread, how often connections and Watches began, and what was left of the retry budgets.

Unevenness that dice would show too is no fault of a picker, so the band that dice stay in is drawn.
"""

from __future__ import annotations

import math

from healthlb.simulation.report import lines
from healthlb.simulation.report.axes import BOTTOM, TOP, time_axis, value_axis, warm_up
from healthlb.simulation.report.figure import Figure, Key
from healthlb.simulation.report.markup import Table, join
from healthlb.simulation.report.palette import BLUE, VERMILLION, Look
from healthlb.simulation.report.scale import DASH, SECOND, linear, plain, seconds, share
from healthlb.simulation.report.timeline import Timeline, timeline
from healthlb.simulation.report.traffic import ROWS, span_of
from healthlb.simulation.world.record import RunRecord

_SOLID, _DASHED = (BLUE, ""), (VERMILLION, "5 3")
# A retry is allowed while more than half of the tokens are left (gRFC A6).
_RETRIES_STOP = 0.5


def noise(backends: int, mean: float) -> float:
    """Return the max/mean that independent throws stay below: 1 + sqrt(2 ln N / m), for m attempts on each of N."""
    return 1 + math.sqrt(2 * math.log(backends) / mean) if backends > 1 and mean > 0 else 1.0


def imbalances(record: RunRecord, times: Timeline) -> list[tuple[float, float] | None]:
    """Return max/mean and the top of the noise band for each column, None where nothing was sent."""
    counts = [times.sums(values) for values in record.bins.picks.values()]
    found: list[tuple[float, float] | None] = []
    for column in zip(*counts, strict=True):
        mean = sum(column) / len(column)
        found.append((max(column) / mean, noise(len(column), mean)) if mean else None)
    return found or [None] * (len(times.edges) - 1)


def imbalance(record: RunRecord, name: str, left: int) -> Figure:
    """Return the figure of max/mean attempts per backend, with its noise band."""
    times = timeline(record, at_least=SECOND, most=80)
    found = imbalances(record, times)
    values, tops = [pair and pair[0] for pair in found], [pair and pair[1] for pair in found]
    up = linear([value for value in [*values, *tops] if value is not None], low=1.0, count=3)
    bottom, axis = TOP + 110, times.axis
    place = {"top": TOP, "height": bottom - TOP}
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, plain, unit="max / mean", left=left),
        lines.band(times.edges, [1.0] * len(tops), tops, axis, up, name="sampling noise", **place),
        lines.line(times.edges, values, axis, up, look=_SOLID, name="max/mean", **place),
        warm_up(axis, record.warmup / SECOND, TOP, bottom),
    ])  # fmt: skip
    return Figure(
        name=name, title="Load imbalance", says=_imbalance_says(record, found, times), marks=marks,
        height=bottom + BOTTOM, left=left,
        keys=(Key("max / mean of attempts", line=_SOLID), Key("what chance alone does", Look("var(--band)", "", ""))),
        numbers=_imbalance_table(record),
    )  # fmt: skip


def _imbalance_says(record: RunRecord, found: list[tuple[float, float] | None], times: Timeline) -> str:
    known = [pair for pair in found if pair is not None]
    if not known:
        return "No attempt was sent."
    outside = sum(value > top for value, top in known)
    length = seconds(times.each * times.bin / SECOND)
    return (
        f"The busiest backend's attempts over the average of all {len(record.bins.picks)}, in steps of {length}. The "
        f"band is what thrown dice stay in, 1 + √(2 ln N / m) for m attempts per backend; {outside} of {len(known)} "
        "steps are above it. While backends are out the others get more, which counts as imbalance too."
    )


def _imbalance_table(record: RunRecord) -> Table:
    times = timeline(record, at_least=SECOND, most=ROWS)
    rows = tuple(
        (span_of(times, index), *((plain(pair[0]), plain(pair[1])) if pair else (DASH, DASH)))
        for index, pair in enumerate(imbalances(record, times))
    )
    return Table("Load imbalance", ("Time", "Max / mean", "Chance alone"), rows)


def starts(record: RunRecord, name: str, left: int) -> Figure:
    """Return the figure of connections and Watches begun per bin; a column shows its worst, as herds are short."""
    times = timeline(record)
    connects, watches = times.highest(record.bins.connects), times.highest(record.bins.watch_starts)
    up = linear([value for value in [*connects, *watches] if value is not None], count=3)
    bottom, axis = TOP + 100, times.axis
    place = {"top": TOP, "height": bottom - TOP}
    width = seconds(record.bins.width / SECOND)
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, plain, unit=f"begun per {width}", left=left),
        lines.line(times.edges, connects, axis, up, look=_SOLID, name="connections", **place),
        lines.line(times.edges, watches, axis, up, look=_DASHED, name="Watches", **place),
    ])  # fmt: skip
    most = (max(counts, default=0) for counts in (record.bins.connects, record.bins.watch_starts))
    says = (
        f"{plain(sum(record.bins.connects))} connections and {plain(sum(record.bins.watch_starts))} Watches were begun "
        f"by all clients, at most {' and '.join(map(str, most))} within {width}."
    )
    return Figure(
        name=name, title="Connections and Watches", says=says, marks=marks, height=bottom + BOTTOM, left=left,
        keys=(Key("connections begun", line=_SOLID), Key("Watches begun", line=_DASHED)), numbers=_starts_table(record),
    )  # fmt: skip


def _starts_table(record: RunRecord) -> Table:
    times = timeline(record, most=ROWS)
    columns = zip(times.sums(record.bins.connects), times.sums(record.bins.watch_starts), strict=True)
    rows = tuple((span_of(times, index), *map(str, pair)) for index, pair in enumerate(columns))
    return Table("Begun in that time, by all clients", ("Time", "Connections", "Watches"), rows)


def tokens(record: RunRecord, name: str, left: int) -> Figure:
    """Return the figure of the emptiest retry budget."""
    times = timeline(record)
    values = times.lowest(record.bins.tokens)
    least = min(record.bins.tokens, default=1.0)
    up, bottom, axis = linear([1.0], count=2), TOP + 80, times.axis
    place = {"top": TOP, "height": bottom - TOP}
    limit: list[float | None] = [_RETRIES_STOP] * len(values)
    marks = join([
        time_axis(axis, TOP, bottom), value_axis(up, TOP, bottom, share, unit="tokens left", left=left),
        lines.line(times.edges, limit, axis, up, look=("var(--grey)", "2 3"), name="retries stop here", **place),
        lines.line(times.edges, values, axis, up, look=_SOLID, name="least of any client", **place),
    ])  # fmt: skip
    stopped = (
        "Retries were never stopped by it." if least > _RETRIES_STOP else "At half and below retries were withheld."
    )
    return Figure(
        name=name, title="Retry tokens", marks=marks, height=bottom + BOTTOM, left=left,
        says=f"The emptiest budget of any client; the least was {share(least)}. {stopped}",
        keys=(Key("least of any client", line=_SOLID), Key("retries stop here", line=("var(--grey)", "2 3"))),
        numbers=_token_table(record),
    )  # fmt: skip


def _token_table(record: RunRecord) -> Table:
    times = timeline(record, most=ROWS)
    rows = tuple(
        (span_of(times, index), DASH if value is None else share(value))
        for index, value in enumerate(times.lowest(record.bins.tokens))
    )
    return Table("The least that was left of any client's retry budget", ("Time", "Tokens left"), rows)
