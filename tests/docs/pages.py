"""The pages of the documentation as data: their blocks, tables, links and hidden remarks.

Comments in a page steer how its blocks are tested. None of them shows when the page is read.

- `<!-- test` ... `-->`: Python that runs here, unseen, with `stage` at hand.
- `<!-- output -->` before a text block: what was printed since the last one.
- `<!-- file: NAME -->` before a block: it becomes this file instead of running here.
- `<!-- append: NAME -->` before a block: it is added to the end of this file.
- `<!-- session -->` before a console block: what stands after each `$` is typed, and must print what follows it,
  up to numbers; `<!-- session: to the digit -->`, with its numbers, but for those of CPU time.
- `<!-- start -->` before a shell block: each line is a command that runs until `stage.stop()` ends it.
- `<!-- syntax only: REASON -->` before a Python block: it is compiled, not run.
- `<!-- run: NAME -->` before a shell block: a command that CI extracts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_PIECE = re.compile(
    r"<!-- test\n(?P<hidden>.*?)-->|<!-- (?P<remark>[^\n]*?) -->|^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
_FENCED = re.compile(r"^```.*?^```|<!--.*?-->", re.DOTALL | re.MULTILINE)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^()\s]+)\)|(?:src|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block, or hidden Python.

    Attributes:
        page: where it stands.
        line: of its first line of text, from 1.
        language: of the fence; "hidden" for hidden Python.
        text: without the fences.
        remark: the comment right before it, or "".
    """

    page: Path
    line: int
    language: str
    text: str
    remark: str

    @property
    def padded(self) -> str:
        """The text on the lines where the page has it, so that a traceback points into the page."""
        return "\n" * (self.line - 1) + self.text


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    source = page.read_text()
    found = []
    remark, remark_end = "", -1
    for piece in _PIECE.finditer(source):
        if piece["remark"] is not None:
            remark, remark_end = piece["remark"], piece.end()
            continue
        kind = "hidden" if piece["hidden"] is not None else "text"
        language = "hidden" if kind == "hidden" else piece["language"]
        line = source.count("\n", 0, piece.start(kind)) + 1
        is_next = remark_end >= 0 and not source[remark_end : piece.start()].strip()
        found.append(Block(page, line, language, piece[kind], remark if is_next else ""))
    return found


def prose(page: Path) -> str:
    """Return a page without its blocks and comments."""
    return _FENCED.sub("", page.read_text())


def inline_codes(page: Path) -> list[str]:
    """Return what stands between single backticks."""
    return _INLINE_CODE.findall(prose(page))


def table_rows(page: Path) -> list[list[str]]:
    """Return the cells of every row of every table."""
    lines = [line.strip() for line in prose(page).splitlines()]
    rows = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("-: ")]


def links(page: Path) -> list[str]:
    """Return the targets of all links and pictures."""
    return [first or second for first, second in _LINK.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
