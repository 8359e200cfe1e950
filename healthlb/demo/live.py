"""The demo as a picture that moves: a lane per backend.

Nothing is said by colour alone; every state has its sign and its word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from healthlb.core.messages import SECOND
from healthlb.demo.activity import CELL, CELLS, Cell
from healthlb.demo.frame import Frame, Lane, Mark, Note, Source, spelled

_BARS = "▁▂▃▄▅▆▇█"
FAULT_STYLE = "magenta"
REPAIR_STYLE = "green"


@dataclass(frozen=True, slots=True)
class Strip:
    """The last half minute of one lane as columns of text.

    Attributes:
        cells: the last complete half seconds, oldest first.
        current_cell: the number of the half second after these.
        marks: the lane's faults and repairs.
        merged: how many half seconds one column stands for.
        width: how many columns there are.
        full: how many calls in one column make a full bar; above 0.
    """

    cells: Sequence[Cell]
    current_cell: int
    marks: Sequence[Mark]
    merged: int
    width: int
    full: float

    def bars(self) -> Text:
        """One sign per column: a fault, a repair, an error, or the calls as a bar."""
        text = Text()
        signs = {mark.cell // self.merged: mark for mark in self.marks}
        for column, cell in self._columns():
            text.append(*self._sign(cell, signs.get(column)))
        text.pad_right(self.width - len(text))
        return text

    def labels(self) -> Text:
        """The names of faults and repairs below their signs, as far as there is room."""
        text = Text()
        first = self._first_column()
        for mark in self.marks:
            column = mark.cell // self.merged - first
            begin = max(0, min(column, self.width - len(mark.label)))
            if column >= 0 and begin >= len(text) + bool(text):
                text.pad_right(begin - len(text))
                text.append(mark.label, REPAIR_STYLE if mark.is_repair else FAULT_STYLE)
        return text

    def _sign(self, cell: Cell, mark: Mark | None) -> tuple[str, str]:
        if mark is not None and mark.is_repair:
            return "▲", REPAIR_STYLE
        if mark is not None:
            return "▼", "bold red" if cell.errors else FAULT_STYLE
        if cell.errors:
            return "✗", "bold red"
        if cell.answered:
            height = min(1.0, cell.answered / self.full)
            return _BARS[round(height * (len(_BARS) - 1))], "cyan"
        return "·", "bright_black"

    def _columns(self) -> list[tuple[int, Cell]]:
        # A column that is not complete yet would look like a drop.
        end = self.current_cell // self.merged
        oldest = self.current_cell - len(self.cells)
        columns = []
        for column in range(self._first_column(), end):
            begin = column * self.merged - oldest
            columns.append((column, sum(self.cells[begin : begin + self.merged], Cell())))
        return columns

    def _first_column(self) -> int:
        oldest = -(-(self.current_cell - len(self.cells)) // self.merged)
        return max(oldest, self.current_cell // self.merged - self.width)


_SIGNS = {
    "READY": ("●", "green"),
    "CONNECTING": ("◌", "yellow"),
    "IDLE": ("○", "bright_black"),
    "TRANSIENT_FAILURE": ("✖", "bold red"),
    "SHUTDOWN": ("✖", "bright_black"),
}
_STATE_WIDTH = len("✖ TRANSIENT_FAILURE")
_RATE_WIDTH = len(" 2000/s")
_ERRORS_WIDTH = len(" 999 errors")
_BORDER_WIDTH = 4
# The terminal writes this after the last line, and must not need a new one.
_ECHO_WIDTH = len("^C")
_VOICES = {Source.DEMO: "bright_black", Source.FAULT: FAULT_STYLE, Source.HEALTHLB: "cyan"}
_MOST_NOTES = 6
# Frame, clock, totals and the empty lines between them.
_FIXED_LINES = 8


def is_possible(console: Console) -> bool:
    """Whether this terminal can show it: it can move its cursor and print block characters."""
    return console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only


class LiveView:
    """Draws each frame over the last one, and takes it away at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(Text("starting the backends"), console=console, auto_refresh=False, transient=True)
        self._live.start()

    def note(self, note: Note) -> None:
        """Wait for the frame that contains it."""

    def refresh(self, frame: Frame) -> None:
        """Draw."""
        width, height = self._console.size
        self._live.update(drawn(frame, width - _ECHO_WIDTH, height), refresh=True)

    def close(self) -> None:
        """Take the last frame away."""
        self._live.stop()


def drawn(frame: Frame, width: int, height: int) -> RenderableType:
    """Lay a frame out for a terminal of this size.

    Where the height allows it, each lane has a second line, with the reason why it is out and the
    names of its faults.
    """
    is_tall = 2 * len(frame.lanes) + _MOST_NOTES + _FIXED_LINES <= height
    lanes = [line for index in range(len(frame.lanes)) for line in _lane(frame, index, width, is_tall)]
    room = max(0, min(_MOST_NOTES, height - len(lanes) - _FIXED_LINES))
    notes = [_note(note) for note in frame.notes[len(frame.notes) - room :]] if room else []
    blanks = [Text()] * (room - len(notes))
    return Panel(
        Group(_clock(frame), Text(), *lanes, Text(), _totals(frame), Text(), *notes, *blanks),
        title="[bold]healthlb demo[/]",
        subtitle="[bright_black]Ctrl-C ends it[/]",
        border_style="bright_black",
        width=width,
    )


def _clock(frame: Frame) -> Table:
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    shown = min(frame.elapsed, frame.duration)
    upcoming = Text.assemble(("next ", "bright_black"), (frame.upcoming, FAULT_STYLE))
    grid.add_row(
        f"{shown:.1f} of {frame.duration:g} s",
        ProgressBar(frame.duration, shown, complete_style="cyan", finished_style="green"),
        upcoming,
    )
    return grid


def _lane(frame: Frame, index: int, width: int, is_tall: bool) -> list[Text]:
    lane = frame.lanes[index]
    head_width = max(len(other.address) for other in frame.lanes) + 2 + _STATE_WIDTH
    strip = _strip(frame, index, width - _BORDER_WIDTH - head_width - 2 - _RATE_WIDTH - _ERRORS_WIDTH)
    line = _head(lane, head_width)
    line.append("  ").append_text(strip.bars())
    line.append(f"{lane.rate}/s".rjust(_RATE_WIDTH)).append_text(_errors(lane))
    if not is_tall:
        return [line]
    below = Text("" if lane.state == "READY" else lane.reason, style="red")
    below.truncate(head_width, overflow="ellipsis", pad=True)
    return [line, below.append("  ").append_text(strip.labels())]


def _head(lane: Lane, width: int) -> Text:
    sign, style = _SIGNS[lane.state]
    head = Text.assemble((lane.address, "bold"), "  ", (f"{sign} {lane.state}", style))
    head.pad_right(width - len(head))
    return head


def _strip(frame: Frame, index: int, room: int) -> Strip:
    # A whole second per column where the half minute does not fit otherwise.
    merged = 1 if room >= CELLS else 2
    # The share of each while one other is out, so that the bars rise visibly then.
    full = frame.asked_rate / (len(frame.lanes) - 1) * merged * CELL / SECOND
    return Strip(
        cells=frame.lanes[index].strip,
        current_cell=frame.current_cell,
        marks=[mark for mark in frame.marks if mark.lane == index],
        merged=merged,
        width=max(1, min(room, CELLS // merged)),
        full=full,
    )


def _errors(lane: Lane) -> Text:
    if not lane.errors:
        return Text("no errors".rjust(_ERRORS_WIDTH), style="bright_black")
    return Text(f"{lane.errors} error{'s' * (lane.errors > 1)}".rjust(_ERRORS_WIDTH), style="bold red")


def _totals(frame: Frame) -> Text:
    return Text.assemble(
        "calls ",
        (f"{frame.calls:,}", "bold"),
        "   errors ",
        (f"{frame.errors:,}", "bold red" if frame.errors else "bold"),
        "   calls/s ",
        (f"{frame.rate}", "bold"),
        "   p50 ",
        (spelled(frame.p50), "bold"),
        "   READY ",
        (f"{frame.ready} of {len(frame.lanes)}", "bold"),
    )


def _note(note: Note) -> Text:
    return Text.assemble(
        (f"{note.at:6.1f} s  ", "bright_black"),
        (f"{note.source.value:<9}", _VOICES[note.source]),
        note.text,
        no_wrap=True,
        overflow="ellipsis",
    )
