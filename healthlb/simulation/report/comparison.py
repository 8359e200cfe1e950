"""Two policies side by side: the differences in what matters, each with its 95 % interval.

Policies are compared on the same calls: replication i of one is set against replication i of the other, and the
confidence is that of the differences, which is far narrower than that of either. A difference whose interval holds zero
is called unclear, however large it looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from healthlb.simulation.checks.estimates import Estimate
from healthlb.simulation.report.figure import Figure, Key
from healthlb.simulation.report.markup import Markup, Table, join, percent, tag
from healthlb.simulation.report.metrics import COMPARED, is_of_survivors, lost, metric, written
from healthlb.simulation.report.palette import BLUE, GREEN, VERMILLION, Look
from healthlb.simulation.report.scale import MINUS, Linear, linear
from healthlb.simulation.world.record import RunRecord


@dataclass(frozen=True, slots=True)
class Difference:
    """How two policies differ in one metric.

    Attributes:
        metric: its name.
        base: of the first policy.
        other: of the second.
        change: second less first, pair by pair.
    """

    metric: str
    base: Estimate
    other: Estimate
    change: Estimate

    @property
    def is_clear(self) -> bool:
        """Whether zero is outside the interval."""
        return abs(self.change.mean) > self.change.half_width()


def by_policy(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the records of each policy in the order of their replications; policies in the order they come in."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(record.policy, []).append(record)
    return {policy: sorted(runs, key=lambda run: run.replication) for policy, runs in found.items()}


def differences(base: Sequence[RunRecord], other: Sequence[RunRecord], metrics: Sequence[str]) -> list[Difference]:
    """Return the difference in each metric that both sides have, over the replications that both sides have."""
    ours, theirs = _metrics(base), _metrics(other)
    both = [replication for replication in ours if replication in theirs]
    found = []
    for name in metrics:
        first = [ours[one][name] for one in both if name in ours[one] and name in theirs[one]]
        second = [theirs[one][name] for one in both if name in ours[one] and name in theirs[one]]
        if first and all(map(math.isfinite, [*first, *second])):
            change = Estimate.of_differences(first, second)
            found.append(Difference(name, Estimate.of(first), Estimate.of(second), change))
    return found


def _metrics(records: Sequence[RunRecord]) -> dict[int, Mapping[str, float]]:
    return {record.replication: record.metrics for record in records}


_ROW, _TOP, _LEFT = 28, 26, 150
# A change beyond these is drawn at the edge, with its number in the table.
_LEAST, _MOST = -100.0, 100.0
_SURVIVORS = "of fewer calls"
_LOOKS = {
    _SURVIVORS: "var(--grey)", "better": GREEN, "worse": VERMILLION, "differs": BLUE, "unclear": "var(--grey)",
    "single run": "var(--grey)",
}  # fmt: skip


def compared(base: Sequence[RunRecord], other: Sequence[RunRecord], name: str) -> Figure:
    """Return how the second policy's runs differ from the first's."""
    first, second = base[0].policy, other[0].policy
    found = _judged_all(base, other)
    drawn = [one for one in found if one.difference.base.mean]
    pairs = len({run.replication for run in base} & {run.replication for run in other})
    kinds = [kind for kind in _LOOKS if any(one.kind == kind for one in drawn)]
    return Figure(
        name=name, title=f"{second} against {first}", says=_says(first, second, found, pairs), left=_LEFT,
        marks=_marks(drawn), height=_TOP + len(drawn) * _ROW + 26 if drawn else 0,
        keys=tuple(Key(kind, Look(_LOOKS[kind], "", kind)) for kind in kinds),
        table=_table(first, second, found).markup(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """A difference, and what it amounts to.

    Attributes:
        difference: in one metric.
        kind: of `judged`.
    """

    difference: Difference
    kind: str


def _judged_all(base: Sequence[RunRecord], other: Sequence[RunRecord]) -> list[Judged]:
    more_lost = lost(other) - lost(base)
    return [Judged(one, judged(one, more_lost)) for one in differences(base, other, COMPARED)]


def judged(one: Difference, more_lost: float = 0.0) -> str:
    """Return what a difference amounts to.

    Args:
        one: the difference.
        more_lost: the share of calls that the second policy loses beyond those that the first does.

    Returns:
        "better", "worse", "differs" (neither way is better), "unclear", "single run", or "of fewer calls" for a
        latency that only looks better since its policy loses more of the calls.
    """
    if one.change.count < 2:
        return "single run"
    if not one.is_clear:
        return "unclear"
    better = metric(one.metric).better
    if not better:
        return "differs"
    is_better = one.change.mean * better > 0
    if is_of_survivors(one.metric, more_lost if is_better else -more_lost):
        return _SURVIVORS
    return "better" if is_better else "worse"


def _marks(drawn: Sequence[Judged]) -> Markup:
    if not drawn:
        return Markup("")
    ends = [value for one in drawn for value in _interval(one.difference)]
    scale = linear([max(_LEAST, min(_MOST, value)) for value in ends] + [-10.0, 10.0], low=None, count=6)
    bottom = _TOP + len(drawn) * _ROW
    rows = (_row(one, scale, _TOP + index * _ROW + _ROW / 2) for index, one in enumerate(drawn))
    return join([_axis(scale, bottom), *rows])


def _axis(scale: Linear, bottom: float) -> Markup:
    marks = [tag("text", "relative difference", x=-_LEFT, y=14, class_="unit")]
    for index, tick in enumerate(scale.ticks):
        x = percent(scale.place(tick))
        marks.append(tag("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="zero" if tick == 0 else "grid"))
        sign = "+" if tick > 0 else ""
        words = f"{sign}{tick:g} %".replace("-", MINUS)
        odd = "tick odd" if index % 2 and tick else "tick"
        marks.append(tag("text", words, x=x, y=bottom + 16, class_=odd, text_anchor="middle"))
    return tag("g", join(marks), class_="axis x")


def _interval(one: Difference) -> tuple[float, float, float]:
    scale = 100 / abs(one.base.mean)
    half = one.change.half_width() if one.change.count > 1 else 0.0
    return (one.change.mean - half) * scale, one.change.mean * scale, (one.change.mean + half) * scale


def _row(judged: Judged, scale: Linear, y: float) -> Markup:
    one, kind = judged.difference, judged.kind
    low, middle, high = map(scale.place, _interval(one))
    words = f"{metric(one.metric).says}: {_signed(one)}, {kind}"
    return tag(
        "g", tag("title", words),
        tag("text", metric(one.metric).says, x=-10, y=y + 4, class_="label", text_anchor="end"),
        tag(
            "line", x1=percent(low), x2=percent(high), y1=y, y2=y, class_="whisker",
            style=f"stroke:{_LOOKS[kind]}",
        ),
        *_ends(one, y), _dot(one, middle, y, _LOOKS[kind]), class_=f"change {kind}",
    )  # fmt: skip


def _dot(one: Difference, place: float, y: float, colour: str) -> Markup:
    """The middle; where that lies beyond the edge, how far, in figures and with no dot that would say where."""
    change = _interval(one)[1]
    if _LEAST <= change <= _MOST:
        return tag("circle", cx=percent(place), cy=y, r=5, class_="dot", style=f"fill:{colour}")
    is_right = change > _MOST
    words = f"+{change:,.0f} % ▶" if is_right else f"◀ {change:,.0f} %".replace("-", MINUS)
    anchor = "end" if is_right else "start"
    return tag(
        "text", words, x=percent(place), y=y + 4, class_="beyond far", text_anchor=anchor, style=f"fill:{colour}"
    )


def _ends(one: Difference, y: float) -> list[Markup]:
    """Arrows at the edges, for intervals that go on beyond them while their middle does not."""
    low, change, high = _interval(one)
    found = (("◂", "0%", low < _LEAST <= change), ("▸", "100%", change <= _MOST < high))
    return [
        tag("text", sign, x=x, y=y + 4, class_="beyond", text_anchor="middle") for sign, x, is_out in found if is_out
    ]


def _signed(one: Difference) -> str:
    sign = "+" if one.change.mean > 0 else ""
    return sign + written(one.metric, one.change)


def _table(first: str, second: str, found: Sequence[Judged]) -> Table:
    rows = tuple(
        (
            metric(one.metric).says,
            written(one.metric, one.base),
            written(one.metric, one.other),
            _signed(one),
            kind,
        )
        for one, kind in ((each.difference, each.kind) for each in found)
    )
    headings = ("Metric", first, second, "Difference ± 95 %", "Verdict")
    return Table(f"{second} minus {first}, means over replications with 95 % intervals", headings, rows)


def _says(first: str, second: str, found: Sequence[Judged], pairs: int) -> str:
    if pairs < 2:
        return f"{second} minus {first}, on the same calls. Of a single replication no confidence is known: run more."
    kinds = ("better", "worse", _SURVIVORS)
    parts = {kind: [metric(one.difference.metric).says for one in found if one.kind == kind] for kind in kinds}
    better, worse, fewer = (", ".join(parts[kind]) for kind in kinds)
    words = (
        f"{second} minus {first} in {pairs} replications of the same calls, with 95 % intervals of the paired "
        f"differences. Clearly better: {better or 'nothing'}. Clearly worse: {worse or 'nothing'}."
    )
    return f"{words} No better, since the policy that looks it loses more of the calls: {fewer}." if fewer else words
