"""Where the attempts went: each backend's share under each policy.

Every backend is a dot of its own. A mean or a maximum would hide who it was.
"""

from __future__ import annotations

from collections.abc import Mapping

from healthlb.simulation.report.figure import Figure, margin_for, shortened
from healthlb.simulation.report.markup import Markup, Table, join, percent, tag
from healthlb.simulation.report.palette import LINES
from healthlb.simulation.report.scale import Linear, linear, share
from healthlb.simulation.world.record import RunRecord

_ROW, _TOP = 34, 26
# A share is far from even if it is off by so much of it.
_FAR = 0.25


def shares(runs: Mapping[str, RunRecord], name: str) -> Figure | None:
    """Return the figure of all shares; None where there are less than two backends or no attempts."""
    found = {policy: shares_of(run) for policy, run in runs.items()}
    names = list(next(iter(found.values())))
    if len(names) < 2 or not all(sum(parts.values()) for parts in found.values()):
        return None
    even = 1 / len(names)
    across = linear([*(part for parts in found.values() for part in parts.values()), even], count=6)
    bottom, left = _TOP + _ROW * len(found), margin_for(list(found))
    rows = (
        _row(policy, parts, across, _TOP + _ROW * (index + 0.5), left, LINES[index % len(LINES)][0])
        for index, (policy, parts) in enumerate(found.items())
    )
    return Figure(
        name=name, title="Where the attempts went", says=_says(found, even), left=left, height=bottom + 26,
        marks=join([_axis(across, even, bottom, left), *rows]), numbers=_table(found, names),
    )  # fmt: skip


def shares_of(run: RunRecord) -> dict[str, float]:
    """Return each backend's share of all attempts of a run, after its warm-up."""
    first = -(-run.warmup // run.bins.width)
    sent = {name: sum(counts[first:]) for name, counts in run.bins.picks.items()}
    whole = sum(sent.values())
    return {name: count / whole if whole else 0.0 for name, count in sent.items()}


def _axis(across: Linear, even: float, bottom: float, left: int) -> Markup:
    marks = [tag("text", "share of all attempts", x=-left, y=14, class_="unit")]
    for index, tick in enumerate(across.ticks):
        x = percent(across.place(tick))
        odd = "tick odd" if index % 2 else "tick"
        marks.append(tag("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="grid"))
        marks.append(tag("text", share(tick), x=x, y=bottom + 16, class_=odd, text_anchor="middle"))
    x = percent(across.place(even))
    marks.append(tag("line", tag("title", "an even share"), x1=x, x2=x, y1=_TOP, y2=bottom, class_="zero"))
    return tag("g", join(marks), class_="axis x")


def _row(policy: str, parts: dict[str, float], across: Linear, y: float, left: int, colour: str) -> Markup:
    dots = (
        tag(
            "circle", tag("title", f"{name}: {share(part)}"), cx=percent(across.place(part)), cy=y, r=5, class_="dot",
            style=f"fill:{colour}", fill_opacity=0.6,
        )
        for name, part in parts.items()
    )  # fmt: skip
    labels = (_label(name, across.place(parts[name]), y) for name in _apart(parts))
    title = tag("text", shortened(policy, left), x=-10, y=y + 4, class_="label", text_anchor="end")
    return tag("g", tag("title", policy), title, *dots, *labels, class_="row")


def _apart(parts: dict[str, float]) -> list[str]:
    """Return whom to name: who gets most and who gets least, each if that is far from an even share."""
    even = 1 / len(parts)
    most, least = (choose(parts, key=lambda name: parts[name]) for choose in (max, min))
    return [most] * (parts[most] > (1 + _FAR) * even) + [least] * (parts[least] < (1 - _FAR) * even)


def _label(name: str, place: float, y: float) -> Markup:
    # It keeps clear of its dot on the side that has room.
    anchor, away = ("end", -9) if place > 0.85 else ("start", 9)
    return tag("text", shortened(name, 118), x=percent(place), dx=away, y=y - 8, class_="tick", text_anchor=anchor)


def _says(found: Mapping[str, dict[str, float]], even: float) -> str:
    words = []
    for policy, parts in found.items():
        named = (f"{name} with {share(parts[name])}" for name in _apart(parts))
        words.append(f"{policy}: {', '.join(named) or 'about even'}")
    return (
        f"Each dot is a backend; the upright line is an even share, {share(even)}. Named is who has far more or less. "
        f"{'; '.join(words)}."
    )


def _table(found: Mapping[str, dict[str, float]], names: list[str]) -> Table:
    rows = tuple((name, *(share(parts.get(name, 0.0)) for parts in found.values())) for name in names)
    return Table("Share of all attempts after the warm-up", ("Backend", *found), rows)
