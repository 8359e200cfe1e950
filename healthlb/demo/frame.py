"""What there is to see at one moment.

A frame is a value, complete in itself; the views only lay it out.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from healthlb.demo.activity import Cell
from healthlb.demo.schedule import FaultKind

FAULT_NAMES = {FaultKind.NOT_SERVING: "NOT_SERVING", FaultKind.KILL: "kill -9", FaultKind.HANG: "SIGSTOP"}
REPAIR_NAMES = {FaultKind.NOT_SERVING: "SERVING again", FaultKind.KILL: "restart", FaultKind.HANG: "SIGCONT"}


class Source(enum.Enum):
    """Who says something."""

    DEMO = "demo"
    FAULT = "fault"
    HEALTHLB = "healthlb"


@dataclass(frozen=True, slots=True)
class Note:
    """A line worth reading.

    Attributes:
        at: seconds after the traffic began.
        source: who says it.
        text: one line.
    """

    at: float
    source: Source
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A fault or a repair on a lane.

    Attributes:
        lane: the backend's index.
        cell: the half second it lies in, counted from the start.
        label: what was done.
        is_repair: whether it ends a fault.
    """

    lane: int
    cell: int
    label: str
    is_repair: bool


@dataclass(frozen=True, slots=True)
class Lane:
    """One backend as the client sees it.

    Attributes:
        address: of the backend.
        state: the subchannel's connectivity state, by name.
        reason: why it is in that state.
        strip: the last half seconds, oldest first.
        rate: calls in the last second.
        calls: since the start.
        errors: since the start.
    """

    address: str
    state: str
    reason: str
    strip: tuple[Cell, ...]
    rate: int
    calls: int
    errors: int


@dataclass(frozen=True, slots=True)
class Frame:
    """The whole demo at one moment; times in seconds.

    Attributes:
        elapsed: since the traffic began.
        duration: of the whole run.
        asked_rate: calls per second as asked for.
        seed: of the schedule.
        lanes: by backend.
        marks: every fault and repair so far.
        current_cell: the half second that is not complete yet.
        calls: since the start.
        errors: since the start.
        p50: median time of the last 1,000 answered calls, or None.
        upcoming: what the schedule does next, and when.
        notes: everything said so far, oldest first.
    """

    elapsed: float
    duration: float
    asked_rate: float
    seed: int
    lanes: tuple[Lane, ...]
    marks: tuple[Mark, ...]
    current_cell: int
    calls: int
    errors: int
    p50: float | None
    upcoming: str
    notes: tuple[Note, ...]

    @property
    def rate(self) -> int:
        """Calls to all backends in the last second."""
        return sum(lane.rate for lane in self.lanes)

    @property
    def ready(self) -> int:
        """How many subchannels are READY."""
        return sum(lane.state == "READY" for lane in self.lanes)


class View(Protocol):
    """Where a running demo is shown."""

    def note(self, note: Note) -> None:
        """Something was said; called before the frame that contains it."""

    def refresh(self, frame: Frame) -> None:
        """Show this; called about ten times a second."""

    def close(self) -> None:
        """The run is over."""


def spelled(seconds: float | None) -> str:
    """A duration as one reads it: `1.3 ms`, `2.41 s`, `-` for none."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"
