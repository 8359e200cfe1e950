"""The confusion matrix: what backends were against what clients took them for, by time.

The matrix is a table, since its numbers are the picture; shades only help the eye to the large ones.
"""

from __future__ import annotations

from healthlb.simulation.report import palette
from healthlb.simulation.report.figure import Figure
from healthlb.simulation.report.markup import Markup, join, tag
from healthlb.simulation.report.scale import DASH, share
from healthlb.simulation.report.steps import verdict
from healthlb.simulation.world.record import BELIEFS, TRUTHS, RunRecord

_SIGNS = {"wrong": "✕", "missed": "○", "": ""}


def matrix(record: RunRecord, name: str) -> Figure:
    """Return the confusion matrix of a run as a figure that is a table."""
    return Figure(name=name, title="Truth and belief", says=_says(record), table=_table(record))


def _table(record: RunRecord) -> Markup:
    cells = record.confusion
    whole = sum(cells.values())
    truths = _known([truth for truth, _ in cells], TRUTHS)
    beliefs = _known([belief for _, belief in cells], BELIEFS)
    if not whole:
        return tag("p", "No time was counted.")
    corner = tag("th", "Backend was ↓ · client believed →", scope="col")
    head = tag("tr", corner, join(tag("th", palette.belief(one).says, scope="col") for one in beliefs))
    body = join(
        tag(
            "tr", tag("th", palette.truth(truth).says, scope="row"),
            join(_cell(truth, belief, cells.get((truth, belief), 0) / whole) for belief in beliefs),
        )
        for truth in truths
    )  # fmt: skip
    caption = "Share of the time of all pairs of client and backend, after the warm-up"
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", body), class_="matrix")
    return tag("div", table, class_="scrolls", tabindex=0, role="region", aria_label=caption)


def _cell(truth: str, belief: str, part: float) -> Markup:
    if not part:
        return tag("td", DASH, class_="none")
    kind = verdict(truth, belief)
    ground = {"wrong": palette.VERMILLION, "missed": palette.YELLOW, "": palette.SKY}[kind]
    # A small share is still to be seen: shades go by the root.
    shade = f"background:color-mix(in srgb,{ground} {round(8 + 52 * part**0.5)}%,transparent)"
    sign = tag("span", _SIGNS[kind], class_="sign") if kind else None
    return tag("td", sign, share(part), style=shade, class_=kind or "agree")


def _known(found: list[str], order: tuple[str, ...]) -> list[str]:
    return [state for state in order if state in found] + sorted(set(found) - set(order))


def _says(record: RunRecord) -> str:
    whole = sum(record.confusion.values())
    if not whole:
        return "No time was counted."
    parts = {"wrong": 0, "missed": 0, "": 0}
    for (truth, belief), held in record.confusion.items():
        parts[verdict(truth, belief)] += held
    return (
        f"For all clients and backends: belief and truth agreed {share(parts[''] / whole)} of the time. "
        f"{_SIGNS['wrong']} taken for READY without serving: {share(parts['wrong'] / whole)}. "
        f"{_SIGNS['missed']} serving without getting calls: {share(parts['missed'] / whole)}."
    )
