"""The demo as lines of text, for logs and CI: one per second and one per event.

There is no escape code, no line that is written over, nothing but ASCII of our own.
"""

from __future__ import annotations

from collections.abc import Callable

from healthlb.demo.frame import Frame, Note, spelled


class PlainView:
    """Writes lines."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._next_second = 1

    def note(self, note: Note) -> None:
        """Write the note."""
        self._write(note_line(note))

    def refresh(self, frame: Frame) -> None:
        """Write the totals if a second has passed since the last time."""
        if frame.elapsed < self._next_second:
            return
        self._next_second = int(frame.elapsed) + 1
        self._write(totals_line(frame))

    def close(self) -> None:
        """There is nothing to clean up."""


class SilentView:
    """Shows nothing, for `--json`."""

    def note(self, note: Note) -> None:
        """Pass over it."""

    def refresh(self, frame: Frame) -> None:
        """Pass over it."""

    def close(self) -> None:
        """There is nothing to clean up."""


def note_line(note: Note) -> str:
    """The note as one line."""
    return f"{note.at:6.1f} s  {note.source.value + ':':<9} {note.text}"


def totals_line(frame: Frame) -> str:
    """The second as one line; the rates per backend are in the order of the first line."""
    rates = " ".join(str(lane.rate) for lane in frame.lanes)
    return (
        f"{frame.elapsed:6.1f} s  calls {frame.calls}  errors {frame.errors}  {frame.rate}/s [{rates}]"
        f"  p50 {spelled(frame.p50)}  READY {frame.ready}/{len(frame.lanes)}"
    )
