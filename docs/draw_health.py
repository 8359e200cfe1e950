"""Draws docs/images/health.svg from healthlb.core.subchannel.health.TABLE: `python docs/draw_health.py`.

The one rule: what is drawn is what is in the table. Places and routes of arrows stand here; that there is an arrow,
and what it is called, comes from the table. A row that the drawing would lack, or an arrow without a row, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from healthlb.core.subchannel import health
from healthlb.core.subchannel.health import Action, Phase, Signal

IMAGE = Path(__file__).parent / "images" / "health.svg"

Row = tuple[Phase, Signal, Phase, Action]
Point = tuple[int, int]

SIZE = (1760, 834)
BOX = (184, 58)

PLACES: dict[Phase, Point] = {
    Phase.DISCONNECTED: (116, 300),
    Phase.WATCHING: (590, 176),
    Phase.ASKING: (590, 686),
    Phase.SERVING: (590, 270),
    Phase.FALLING: (590, 374),
    Phase.RISING: (590, 488),
    Phase.UNHEALTHY: (590, 592),
    Phase.RETRYING: (1440, 176),
    Phase.UNCHECKED: (1440, 290),
    Phase.RENEWING: (1440, 420),
    Phase.REWATCHING: (900, 420),
    Phase.UNSUPPORTED: (1440, 592),
}
SAID: dict[Signal, str] = {
    Signal.CONNECTED: "connected",
    Signal.CONNECTED_UNCHECKED: "connected, and service=None",
    Signal.POLLED: "connected, and watch=False",
    Signal.WATCHLESS: 'UNIMPLEMENTED and "check": ask Check',
    Signal.LOST: "connection lost",
    Signal.SERVING: "SERVING",
    Signal.OTHER: "another status",
    Signal.RISING: "too few SERVING in a row",
    Signal.FALLING: "too few others in a row",
    Signal.UNIMPLEMENTED: "UNIMPLEMENTED",
    Signal.UNSUPPORTED: 'UNIMPLEMENTED and "unhealthy"',
    Signal.ENDED: "any other end",
    Signal.INTERRUPTED: "an end that says nothing of health",
    Signal.FLOODED: "too many statuses: pause",
    Signal.NO_RESPONSE: "no answer in time",
    Signal.DUE: "the backoff is over",
}
DONE: dict[Action, str] = {
    Action.NOTHING: "",
    Action.START_WATCH: "open a Watch",
    Action.STOP_WATCH: "cancel the Watch",
    Action.RETRY_LATER: "wait",
    Action.RETRY_SOON: "wait, 1 s at most",
    Action.STOP_AND_RETRY_LATER: "cancel the Watch, wait",
    Action.STOP_AND_PAUSE: "",
}


@dataclass(frozen=True)
class Group:
    """Phases that one frame encloses; an arrow from the frame stands for one from each of them."""

    title: str
    phases: frozenset[Phase]
    corner: Point
    size: Point


CONNECTED = Group("the connection is READY", frozenset(Phase) - {Phase.DISCONNECTED}, (342, 40), (1368, 730))
STREAMING = Group("a Watch is open, or Check is asked", frozenset(health.STREAMING), (364, 84), (686, 658))

Source = Phase | Group


@dataclass(frozen=True)
class Route:
    """Where an arrow runs, and where its name stands."""

    points: tuple[Point, ...]
    label: Point
    anchor: str = "start"


ROUTES: dict[tuple[str, Signal, Phase], Route] = {
    ("DISCONNECTED", Signal.CONNECTED, Phase.WATCHING): Route(((116, 271), (116, 176), (498, 176)), (124, 168)),
    ("DISCONNECTED", Signal.CONNECTED_UNCHECKED, Phase.UNCHECKED): Route(
        ((116, 329), (116, 794), (1730, 794), (1730, 290), (1532, 290)), (360, 786)
    ),
    ("DISCONNECTED", Signal.POLLED, Phase.ASKING): Route(((80, 329), (80, 704), (498, 704)), (124, 696)),
    (STREAMING.title, Signal.WATCHLESS, Phase.ASKING): Route(((364, 668), (498, 668)), (372, 644)),
    (CONNECTED.title, Signal.LOST, Phase.DISCONNECTED): Route(((342, 300), (208, 300)), (275, 292), "middle"),
    (STREAMING.title, Signal.SERVING, Phase.SERVING): Route(((364, 270), (498, 270)), (372, 262)),
    (STREAMING.title, Signal.OTHER, Phase.UNHEALTHY): Route(((364, 592), (498, 592)), (372, 584)),
    (STREAMING.title, Signal.UNIMPLEMENTED, Phase.UNCHECKED): Route(((1050, 290), (1348, 290)), (1060, 282)),
    (STREAMING.title, Signal.UNSUPPORTED, Phase.UNSUPPORTED): Route(((1050, 592), (1348, 592)), (1060, 584)),
    (STREAMING.title, Signal.ENDED, Phase.RETRYING): Route(((1050, 198), (1348, 198)), (1060, 191)),
    ("SERVING", Signal.FALLING, Phase.FALLING): Route(((590, 299), (590, 345)), (600, 326)),
    ("REWATCHING", Signal.FALLING, Phase.FALLING): Route(((808, 430), (752, 430), (752, 384), (682, 384)), (756, 464)),
    ("SERVING", Signal.INTERRUPTED, Phase.RENEWING): Route(
        ((682, 282), (770, 282), (770, 352), (1440, 352), (1440, 391)), (1060, 345)
    ),
    ("SERVING", Signal.FLOODED, Phase.RENEWING): Route(
        ((682, 292), (760, 292), (760, 330), (1480, 330), (1480, 391)), (800, 325)
    ),
    ("FALLING", Signal.FLOODED, Phase.RENEWING): Route(((682, 374), (1400, 374), (1400, 391)), (1200, 388)),
    ("UNHEALTHY", Signal.FLOODED, Phase.RETRYING): Route(
        ((650, 621), (650, 650), (1590, 650), (1590, 166), (1532, 166)), (1060, 643)
    ),
    ("RISING", Signal.FLOODED, Phase.RETRYING): Route(
        ((682, 506), (790, 506), (790, 530), (1620, 530), (1620, 156), (1532, 156)), (1060, 523)
    ),
    ("REWATCHING", Signal.INTERRUPTED, Phase.RENEWING): Route(((992, 412), (1348, 412)), (1060, 405)),
    ("RENEWING", Signal.DUE, Phase.REWATCHING): Route(((1440, 449), (1440, 490), (900, 490), (900, 449)), (1060, 483)),
    ("RENEWING", Signal.NO_RESPONSE, Phase.RETRYING): Route(
        ((1532, 420), (1560, 420), (1560, 186), (1532, 186)), (1568, 260)
    ),
    ("REWATCHING", Signal.NO_RESPONSE, Phase.RETRYING): Route(
        ((900, 391), (900, 230), (1400, 230), (1400, 205)), (1060, 224)
    ),
    ("UNHEALTHY", Signal.RISING, Phase.RISING): Route(((590, 563), (590, 517)), (600, 544)),
    ("WATCHING", Signal.RISING, Phase.RISING): Route(
        ((682, 186), (730, 186), (730, 488), (682, 488)), (722, 436), "end"
    ),
    ("ASKING", Signal.RISING, Phase.RISING): Route(((682, 686), (730, 686), (730, 488), (682, 488)), (722, 676), "end"),
    ("WATCHING", Signal.NO_RESPONSE, Phase.RETRYING): Route(((682, 158), (1348, 158)), (1060, 151)),
    ("RETRYING", Signal.DUE, Phase.WATCHING): Route(((1440, 147), (1440, 116), (590, 116), (590, 147)), (1060, 109)),
}


def rows() -> set[Row]:
    """The table, row by row."""
    return {(source, signal, *target) for (source, signal), target in health.TABLE.items()}


def arrows() -> Iterator[tuple[Source, Signal, Phase, set[Row]]]:
    """The table with rows drawn together that say the same of all phases in a frame: first the larger frame."""
    left = rows()
    for group in (CONNECTED, STREAMING):
        for signal in Signal:
            for target in Phase:
                same = {row for row in left if row[0] in group.phases and row[1:3] == (signal, target)}
                if {row[0] for row in same} == group.phases:
                    left -= same
                    yield group, signal, target, same
    for row in sorted(left, key=lambda row: (row[0].value, row[1].value)):
        yield row[0], row[1], row[2], {row}


def drawing() -> str:
    """Return the picture.

    Raises:
        KeyError: the table says what has no place, no name or no route here.
        ValueError: there is a route that the table knows nothing of, or a row that is not drawn.
    """
    drawn = list(arrows())
    if set().union(*(same for *_, same in drawn)) != rows():
        raise ValueError("a row of the table is not drawn")
    parts = [_frame(CONNECTED), _frame(STREAMING)]
    routes = dict(ROUTES)
    for source, signal, target, same in drawn:
        name = source.title if isinstance(source, Group) else source.name
        parts.append(_arrow(routes.pop((name, signal, target)), _words(signal, same)))
    if routes:
        raise ValueError(f"not in the table: {sorted(routes)}")
    parts += [_box(phase) for phase in Phase]
    parts.append(_text((20, 818), _NOTE, "note", "start"))
    width, height = SIZE
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'{_STYLE}<rect width="{width}" height="{height}" fill="white"/>\n{body}\n</svg>\n'
    )


_NOTE = (
    "READY also takes a connection for calls. CONNECTING shows as TRANSIENT_FAILURE where the subchannel was that "
    "before, or cannot connect."
)
_STYLE = """<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"
orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker></defs>
<style>
text { font: 13px sans-serif; fill: #222 }
.name { font: bold 14px sans-serif }
.done { font-style: italic; fill: #666 }
.note, .title { fill: #666 }
path.way { fill: none; stroke: #444; stroke-width: 1.4; marker-end: url(#tip) }
rect.box { stroke: #444; stroke-width: 1.4 }
rect.frame { fill: none; stroke: #999; stroke-dasharray: 5 4 }
</style>
"""
_READY, _OUT, _UNDECIDED = ("READY", "#d5efd8"), ("TRANSIENT_FAILURE", "#f6d6d3"), ("CONNECTING", "#f3efd2")


def _seen(phase: Phase) -> tuple[str, str]:
    """What pickers see in this phase, and its colour."""
    if phase in health.HEALTHY:
        return _READY
    return _OUT if phase in health.UNHEALTHY else _UNDECIDED


def _words(signal: Signal, same: set[Row]) -> list[str]:
    done = sorted({DONE[action] for *_, action in same} - {""})
    return [SAID[signal], *done]


def _text(at: Point, text: str, kind: str, anchor: str) -> str:
    x, y = at
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _frame(group: Group) -> str:
    (x, y), (width, height) = group.corner, group.size
    frame = f'<rect class="frame" x="{x}" y="{y}" width="{width}" height="{height}" rx="10"/>'
    return frame + _text((x + 12, y + 20), group.title, "title", "start")


def _box(phase: Phase) -> str:
    (x, y), (width, height) = PLACES[phase], BOX
    state, colour = _seen(phase)
    box = (
        f'<rect class="box" x="{x - width // 2}" y="{y - height // 2}" width="{width}" height="{height}" rx="8" '
        f'fill="{colour}"/>'
    )
    return box + _text((x, y - 4), phase.name, "name", "middle") + _text((x, y + 16), state, "state", "middle")


def _arrow(route: Route, words: list[str]) -> str:
    way = " L".join(f"{x} {y}" for x, y in route.points)
    x, y = route.label
    said, *done = words
    lines = [_text((x, y), said, "said", route.anchor)]
    lines += [_text((x, y + 24), text, "done", route.anchor) for text in done]
    return f'<path class="way" d="M{way}"/>{"".join(lines)}'


if __name__ == "__main__":
    IMAGE.write_text(drawing())
