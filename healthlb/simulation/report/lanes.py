"""Lanes: for each backend what it was, under it what the client believed, and how many attempts it got.

Well is pale above and below. So wherever the two halves of a lane differ, truth and belief did, and a
dark or grey line between them says which way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from healthlb.simulation.report import palette, steps
from healthlb.simulation.report.axes import BOTTOM, time_axis, warm_up
from healthlb.simulation.report.bars import Pencil
from healthlb.simulation.report.figure import STRETCH, Figure, Key, shortened, stretched
from healthlb.simulation.report.markup import Markup, Table, join, number, tag
from healthlb.simulation.report.palette import BLUE, Look
from healthlb.simulation.report.scale import SECOND, plain, seconds, share
from healthlb.simulation.report.steps import Span
from healthlb.simulation.report.timeline import Timeline, timeline
from healthlb.simulation.world.record import Lane, RunRecord

_LEAST_CURVE = 8


def picks(rates: tuple[float, ...], times: Timeline, y: float, height: int, most: float) -> Markup | None:
    """Return how many attempts a backend got, to be drawn under its lane: a curve where there is room, else shades.

    All lanes of a figure have the same scale, so that they can be compared.

    Args:
        rates: a second, for each column.
        times: the columns.
        y: where they are drawn, in pixels.
        height: how tall, in pixels.
        most: the highest rate of all lanes; None is returned where it is 0.
    """
    if most <= 0:
        return None
    draw = _curve if height >= _LEAST_CURVE else _density
    return stretched(y, height, draw([rate / most for rate in rates], times, height))


def _curve(rates: list[float], times: Timeline, height: int) -> Markup:
    path = [f"M0 {height}"]
    for index, rate in enumerate(rates):
        path.append(f"V{number(height * (1 - rate))}H{number(STRETCH * times.axis.place(times.edges[index + 1]))}")
    return tag("path", d="".join(path) + f"V{height}z", class_="picks")


def _density(rates: list[float], times: Timeline, height: int) -> Markup:
    """A curve of three pixels says nothing: shades do, in steps of a fifth."""
    paths: dict[int, list[str]] = {}
    for index, rate in enumerate(rates):
        left, right = (number(STRETCH * times.axis.place(edge)) for edge in times.edges[index : index + 2])
        if rate > 0:
            paths.setdefault(math.ceil(5 * rate), []).append(f"M{left} 0H{right}V{height}H{left}z")
    shades = (tag("path", d="".join(paths[level]), class_="picks", opacity=level / 5) for level in sorted(paths))
    return join(shades)


# So many boxes are drawn one by one; of more, columns show what share of each a state held.
MOST_BOXES = 2400
_MOST_TITLES = 400
_APART = {
    "wrong": Look("var(--ink)", "", "taken for READY, but does not serve"),
    "missed": Look("var(--grey)", "", "serves, but gets no calls"),
}


@dataclass(frozen=True, slots=True)
class Rows:
    """How tall the parts of a lane are, in pixels."""

    bar: int
    strip: int
    picks: int
    gap: int
    label: str

    @property
    def height(self) -> int:
        """Of a lane and the gap below it."""
        return 2 * self.bar + self.strip + self.picks + self.gap


def rows_for(count: int) -> Rows:
    """Return how tall lanes are drawn when there are `count` of them."""
    if count <= 16:
        return Rows(10, 3, 10, 14, "label")
    return Rows(6, 2, 4, 6, "label") if count <= 40 else Rows(4, 1, 3, 5, "label small")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One lane, cut into spans."""

    lane: Lane
    truth: list[Span]
    belief: list[Span]
    apart: list[Span]
    picks: tuple[float, ...]


def lanes(record: RunRecord, name: str, left: int) -> Figure:
    """Return the figure of all lanes of a run."""
    times = timeline(record)
    drawn = [_cut(lane, record, times) for lane in record.lanes]
    rows = rows_for(len(drawn))
    top = 20 if len(drawn) > 16 else 6
    bottom = top + len(drawn) * rows.height
    return Figure(
        name=name, title="What each backend was, and what one client took it for", says=_says(record, drawn),
        marks=_marks(record, drawn, _Canvas(name, rows, times, left), top) if drawn else None,
        height=bottom + BOTTOM, left=left, keys=_keys(record, drawn) if drawn else (), numbers=_table(record, drawn),
    )  # fmt: skip


def _cut(lane: Lane, record: RunRecord, times: Timeline) -> _Drawn:
    picks = times.rates(record.bins.picks.get(lane.backend, ()))
    truth, belief = steps.spans(lane.truth, times.end), steps.spans(lane.belief, times.end)
    return _Drawn(lane, truth, belief, steps.disagreements(lane, times.end), picks)


@dataclass(frozen=True, slots=True)
class _Canvas:
    """What all lanes of a figure share."""

    name: str
    rows: Rows
    times: Timeline
    left: int


def _marks(record: RunRecord, drawn: list[_Drawn], canvas: _Canvas, top: int) -> Markup:
    boxes = sum(len(one.truth) + len(one.belief) + len(one.apart) for one in drawn)
    times, height = canvas.times, canvas.rows.height
    count = None if boxes <= MOST_BOXES else max(60, min(240, 6000 // len(drawn)))
    pencils = (
        Pencil(f"{canvas.name}-{index}", times.end, count, has_titles=boxes <= _MOST_TITLES)
        for index in range(len(drawn))
    )
    most = max((rate for one in drawn for rate in one.picks), default=0.0)
    bottom = top + len(drawn) * height
    parts = [time_axis(times.axis, top, bottom), warm_up(times.axis, record.warmup / SECOND, top, bottom)]
    for index, (one, pencil) in enumerate(zip(drawn, pencils, strict=True)):
        parts.append(_lane(one, canvas, pencil, top + index * height, most))
    return join(parts)


def _lane(one: _Drawn, canvas: _Canvas, pencil: Pencil, top: float, most: float) -> Markup:
    rows = canvas.rows
    y = top + rows.gap / 2
    middle = y + rows.bar + rows.strip / 2
    below = y + 2 * rows.bar + rows.strip
    name = shortened(one.lane.backend, canvas.left)
    return tag(
        "g", tag("title", one.lane.backend),
        tag("text", name, x=-10, y=middle + 4, class_=rows.label, text_anchor="end"),
        pencil.bar("truth", one.truth, palette.truth, y, rows.bar),
        pencil.bar("apart", one.apart, _APART.__getitem__, y + rows.bar, rows.strip),
        pencil.bar("belief", one.belief, palette.belief, y + rows.bar + rows.strip, rows.bar),
        picks(one.picks, canvas.times, below, rows.picks, most), class_="lane", data_backend=one.lane.backend,
    )  # fmt: skip


def _keys(record: RunRecord, drawn: list[_Drawn]) -> tuple[Key, ...]:
    truths = {span.state for one in drawn for span in one.truth}
    beliefs = {span.state for one in drawn for span in one.belief}
    kinds = {span.state for one in drawn for span in one.apart}
    above, below, between = "above, the backend", "below, for the first client alone", "between, they differ"
    keys = [Key("up", palette.truth("up"), group=above)]
    keys += [Key(look.says, look, group=above) for look in map(palette.truth, _order(truths, palette.TRUTH))]
    keys += [Key("READY", palette.belief("READY"), group=below)]
    keys += [Key(look.says, look, group=below) for look in map(palette.belief, _order(beliefs, palette.BELIEF))]
    keys += [Key(look.says, look, group=between) for kind, look in _APART.items() if kind in kinds]
    return (*keys, Key("attempts it got", Look(BLUE, "", ""), group=f"under each lane, from {_clients(record)}"))


def _clients(record: RunRecord) -> str:
    count = int(record.metrics.get("clients", 0))
    return f"all {count} clients" if count > 1 else "it" if count == 1 else "all clients"


def _order(states: set[str], known: Mapping[str, Look]) -> list[str]:
    places = {name: place for place, name in enumerate(known)}
    return sorted(states - {"up", "READY", "absent"}, key=lambda state: (places.get(state, len(places)), state))


def _says(record: RunRecord, drawn: list[_Drawn]) -> str:
    if not drawn:
        return "The run has no backends."
    faulty = sum(any(span.state != "up" for span in one.truth) for one in drawn)
    wrong = sum(steps.total(one.apart, "wrong") for one in drawn)
    missed = sum(steps.total(one.apart, "missed") for one in drawn)
    backends = "The one backend" if len(drawn) == 1 else f"{faulty} of {len(drawn)} backends"
    was = f"{backends} was not up all the time." if faulty == 1 else f"{backends} were not up all the time."
    if not faulty:
        was = (
            "The one backend was up all the time."
            if len(drawn) == 1
            else f"All {len(drawn)} backends were up all the time."
        )
    return (
        f"In each lane: above what the backend was, below what the first client took it for, then the attempts it got "
        f"from {_clients(record)}. {was} Summed over backends, one was taken for READY that did not serve for "
        f"{seconds(wrong / SECOND)}, and one that served got no calls for {seconds(missed / SECOND)}."
    )


def _table(record: RunRecord, drawn: list[_Drawn]) -> Table:
    end = max(timeline(record).end, 1)
    sent = {name: sum(counts) for name, counts in record.bins.picks.items()}
    everything = max(sum(sent.values()), 1)
    rows = tuple(
        (
            one.lane.backend, share(steps.total(one.truth, *steps.SERVES) / end),
            share(steps.total(one.belief, *steps.GETS_CALLS) / end), seconds(steps.total(one.apart, "wrong") / SECOND),
            seconds(steps.total(one.apart, "missed") / SECOND), str(max(0, len(one.belief) - 1)),
            plain(sent.get(one.lane.backend, 0)), share(sent.get(one.lane.backend, 0) / everything),
        )
        for one in drawn
    )  # fmt: skip
    headings = (
        "Backend", "Served", "Taken for READY", "READY but not serving", "Serving but left out", "Changes of belief",
        "Attempts", "Share",
    )  # fmt: skip
    return Table("Each backend over the whole run", headings, rows)
