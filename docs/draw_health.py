"""Draws docs/images/health.svg from healthlb.core.health.TABLE: `python docs/draw_health.py`.

The one rule: what is drawn is what is in the table. Places and routes of arrows stand here; that there is an arrow,
and what it is called, comes from the table. A row that the drawing would lack, or an arrow without a row, is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from healthlb.core import health
from healthlb.core.health import Action, Phase, Signal

IMAGE = Path(__file__).parent / "images" / "health.svg"

Row = tuple[Phase, Signal, Phase, Action]
Point = tuple[int, int]

SIZE = (1000, 560)
BOX = (172, 56)

PLACES: dict[Phase, Point] = {
    Phase.DISCONNECTED: (120, 290),
    Phase.WATCHING: (420, 150),
    Phase.SERVING: (420, 270),
    Phase.UNHEALTHY: (420, 390),
    Phase.RETRYING: (830, 150),
    Phase.UNCHECKED: (830, 270),
    Phase.UNSUPPORTED: (830, 390),
}
MEANINGS: dict[Phase, str] = {
    Phase.DISCONNECTED: "no connection",
    Phase.WATCHING: "no status yet",
    Phase.SERVING: "calls come here",
    Phase.UNHEALTHY: "any other status",
    Phase.RETRYING: "between two Watches",
    Phase.UNCHECKED: "calls come here",
    Phase.UNSUPPORTED: "no health service",
}
SAID: dict[Signal, str] = {
    Signal.CONNECTED: "connected",
    Signal.CONNECTED_UNCHECKED: "connected, service=None",
    Signal.LOST: "connection lost",
    Signal.SERVING: "SERVING",
    Signal.OTHER: "another status",
    Signal.UNIMPLEMENTED: "UNIMPLEMENTED",
    Signal.UNSUPPORTED: 'UNIMPLEMENTED, on_unimplemented="unhealthy"',
    Signal.ENDED: "any other end",
    Signal.NO_RESPONSE: "no answer in time",
    Signal.DUE: "the backoff is over",
}
DONE: dict[Action, str] = {
    Action.NOTHING: "",
    Action.START_WATCH: "open a Watch",
    Action.STOP_WATCH: "cancel the Watch",
    Action.RETRY_LATER: "wait",
    Action.STOP_AND_RETRY_LATER: "cancel the Watch, wait",
}


@dataclass(frozen=True)
class Group:
    """Phases that one frame encloses; an arrow from the frame stands for one from each of them."""

    title: str
    phases: frozenset[Phase]
    corner: Point
    size: Point


CONNECTED = Group("the connection is READY", frozenset(Phase) - {Phase.DISCONNECTED}, (290, 40), (690, 440))
STREAMING = Group("a Watch is open", frozenset(health.STREAMING), (314, 78), (212, 372))

Source = Phase | Group

# Where arrows run, and where their names stand.
ROUTES: dict[tuple[str, Signal, Phase], tuple[list[Point], Point, str]] = {
    ("DISCONNECTED", Signal.CONNECTED, Phase.WATCHING): ([(120, 262), (120, 150), (334, 150)], (126, 140), "start"),
    ("DISCONNECTED", Signal.CONNECTED_UNCHECKED, Phase.UNCHECKED): (
        [(120, 318), (120, 512), (960, 512), (960, 270), (916, 270)], (440, 504), "start"),
    ("the connection is READY", Signal.LOST, Phase.DISCONNECTED): ([(290, 290), (206, 290)], (248, 280), "middle"),
    ("a Watch is open", Signal.SERVING, Phase.SERVING): ([(350, 78), (350, 92)], (0, 0), "inside"),
    ("a Watch is open", Signal.OTHER, Phase.UNHEALTHY): ([(350, 78), (350, 92)], (0, 0), "inside"),
    ("a Watch is open", Signal.UNIMPLEMENTED, Phase.UNCHECKED): ([(526, 270), (744, 270)], (536, 262), "start"),
    ("a Watch is open", Signal.UNSUPPORTED, Phase.UNSUPPORTED): ([(526, 390), (744, 390)], (536, 382), "start"),
    ("a Watch is open", Signal.ENDED, Phase.RETRYING): ([(526, 172), (744, 172)], (536, 190), "start"),
    ("WATCHING", Signal.NO_RESPONSE, Phase.RETRYING): ([(506, 150), (744, 150)], (536, 144), "start"),
    ("RETRYING", Signal.DUE, Phase.WATCHING): ([(830, 122), (830, 104), (480, 104), (480, 122)], (536, 98), "start"),
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
