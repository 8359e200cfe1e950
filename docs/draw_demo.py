"""Draws docs/images/demo.svg from a real run: `python docs/draw_demo.py`.

The picture is a moment of `healthlb demo` at its default settings, drawn by the demo's own view.
"""

from __future__ import annotations

import re
import threading
from html import unescape
from io import StringIO
from pathlib import Path

from rich.console import Console

from healthlb.demo.demo import Settings, run_demo
from healthlb.demo.frame import Frame, Note
from healthlb.demo.live import drawn

IMAGE = Path(__file__).parent / "images" / "demo.svg"
WIDTH, HEIGHT = 126, 24
SINCE = 12.0
_CHARACTER = 12.2
_TEXT = re.compile(r'x="([\d.]+)" (y="[\d.]+") textLength="[\d.]+"([^>]*)>((?:&#160;)*)(.*?)((?:&#160;)*)</text>')


class Keeper:
    """Keeps the last frame that shows a backend out after calls have gone elsewhere for a while."""

    def __init__(self) -> None:
        self.frame: Frame | None = None

    def note(self, note: Note) -> None:
        """The frame has it."""

    def refresh(self, frame: Frame) -> None:
        """Keep it if it tells the story."""
        last = frame.marks[-1] if frame.marks else None
        is_out = last is not None and not last.is_repair and frame.lanes[last.lane].rate == 0
        if frame.elapsed > SINCE and is_out:
            self.frame = frame

    def close(self) -> None:
        """Nothing to close."""


def _moved(text: re.Match[str]) -> str:
    """Put a text where its first letter stands: not every viewer keeps spaces at the ends."""
    x, y, rest, before, letters, _ = text.groups()
    start = float(x) + _CHARACTER * before.count(";")
    length = _CHARACTER * len(unescape(letters))
    return f'x="{start:.1f}" {y} textLength="{length:.1f}"{rest}>{letters}</text>'


def main() -> None:
    """Run the demo and write the picture."""
    keeper = Keeper()
    run_demo(Settings(), keeper, threading.Event())
    assert keeper.frame is not None, "no backend was out long enough"
    console = Console(record=True, file=StringIO(), width=WIDTH, height=HEIGHT, force_terminal=True, highlight=False)
    console.print(drawn(keeper.frame, WIDTH, HEIGHT))
    svg = console.export_svg(title="healthlb demo", unique_id="demo")
    # The fonts would be fetched from elsewhere; the reader's own monospaced one does.
    svg = re.sub(r"\s*@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    svg = _TEXT.sub(_moved, svg)
    IMAGE.write_text(svg)
    print(f"wrote {IMAGE}")


if __name__ == "__main__":
    main()
