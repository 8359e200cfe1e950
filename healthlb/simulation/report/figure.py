"""A figure: a title, a sentence on how to read it, a picture, its legend and its numbers.

A picture is as wide as the page lets it be and its letters stay as large as they are. So places across
are shares of the width, places down are pixels, and what stands beside the picture stands in its margins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from healthlb.simulation.report.markup import Markup, Table, join, number, tag
from healthlb.simulation.report.palette import Look, every_look, fill, patterns
from healthlb.simulation.report.style import PICTURE

LEFT, RIGHT = 62, 18
STRETCH = 1000
# What a letter of a drawn legend takes, and a group's heading; viewers have other fonts, so it is more than most need.
_LETTER = 6.9
_GROUP = 130
# A taller picture does not fit on a printed page and may be cut.
_PAGE = 700


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend.

    Attributes:
        says: what it stands for.
        look: a filled patch, if it is one.
        line: colour and dashes, if it is a line.
        group: a heading that it shares with its neighbours, or "".
    """

    says: str
    look: Look | None = None
    line: tuple[str, str] | None = None
    group: str = ""

    def swatch(self) -> Markup:
        """Return 18 by 12 pixels that look like what is meant."""
        if self.line is not None:
            colour, dashes = self.line
            return tag("path", d="M0 6H18", class_="line", style=f"stroke:{colour}", stroke_dasharray=dashes or None)
        assert self.look is not None
        return tag("rect", width=18, height=12, class_="swatch", style=f"fill:{fill(self.look)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What is shown of one thing.

    Attributes:
        name: of letters, digits and hyphens; the ids of its parts begin with it.
        title: what is shown.
        says: how to read it, and what it says in this case.
        marks: the picture; None for a figure that is a table.
        height: of the picture, in pixels.
        left: the margin for labels, in pixels.
        keys: the legend.
        numbers: what is drawn, as a table for who asks for it.
        table: what is shown instead of a picture.
    """

    name: str
    title: str
    says: str
    marks: Markup | None = None
    height: int = 0
    left: int = LEFT
    keys: tuple[Key, ...] = ()
    numbers: Table | None = None
    table: Markup | None = None

    def markup(self) -> Markup:
        """Return the figure as a part of a page that holds all patterns."""
        long = "long" if self.height > _PAGE else None
        caption = tag("figcaption", tag("h3", self.title), tag("p", self.says))
        return tag("figure", caption, self._legend(), self._inline(), self._table(), id=self.name, class_=long)

    def _inline(self) -> Markup | None:
        if not self.marks:
            return None
        margins = f"padding:0 {RIGHT}px 0 {self.left}px;height:{self.height}px"
        return tag(
            "svg", self._words(), self.marks, class_="plot", role="img", style=margins, height=self.height,
            aria_labelledby=f"{self.name}-title {self.name}-says",
        )  # fmt: skip

    def _words(self) -> Markup:
        title = tag("title", self.title, id=f"{self.name}-title")
        return join([title, tag("desc", self.says, id=f"{self.name}-says")])

    def _legend(self) -> Markup | None:
        if not self.keys:
            return None
        lists = []
        for group, keys in groupby(self.keys, key=lambda key: key.group):
            heading = tag("li", group, class_="group") if group else None
            items = (
                tag("li", tag("svg", key.swatch(), width=18, height=12, aria_hidden="true"), key.says) for key in keys
            )
            lists.append(tag("ul", heading, join(items), class_="legend"))
        return join(lists)

    def _table(self) -> Markup | None:
        if self.numbers is None:
            return self.table
        return tag("details", tag("summary", "The numbers"), self.numbers.markup())

    def standalone(self, width: int = 960) -> Markup:
        """Return the picture, with its title and legend, as an SVG document on light ground.

        Args:
            width: of the document, in pixels.
        """
        legend, below = self._drawn_legend(width)
        top = 34 + below
        height = top + self.height + 8
        picture = tag(
            "svg", self.marks, x=self.left + 12, y=top, width=width - self.left - RIGHT - 24, height=self.height,
            overflow="visible",
        )  # fmt: skip
        return tag(
            "svg", self._words(), tag("style", Markup(PICTURE)), patterns(every_look()),
            tag("rect", width="100%", height="100%", class_="ground"),
            tag("text", self.title, x=12, y=22, class_="title"), legend, picture,
            xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
            aria_labelledby=f"{self.name}-title {self.name}-says",
        )  # fmt: skip

    def _drawn_legend(self, width: int) -> tuple[Markup, int]:
        entries, y = [], 16.0
        for group, keys in groupby(self.keys, key=lambda key: key.group):
            x, y = 12.0 + _GROUP * bool(group), y + 20
            if group:
                entries.append(tag("text", group, x=12, y=y + 10, class_="unit"))
            for key in keys:
                room = 24 + _LETTER * len(key.says) + 18
                if x + room > width and x > 12 + _GROUP:
                    x, y = 12.0 + _GROUP * bool(group), y + 20
                label = tag("text", key.says, x=24, y=10)
                entries.append(tag("g", key.swatch(), label, transform=f"translate({number(x)} {number(y)})"))
                x += room
        return join(entries), int(y) - 36 + 26 if entries else 0


def stretched(top: float, height: float, *marks: Markup) -> Markup:
    """Return marks whose places across are thousandths of the width, however wide that is."""
    return tag(
        "svg", *marks, y=top, width="100%", height=height, viewBox=f"0 0 {STRETCH} {number(height)}",
        preserveAspectRatio="none", overflow="visible",
    )  # fmt: skip


def shortened(name: str, left: int) -> str:
    """Return a name that fits into a margin of `left` pixels: its end tells it from others, so its middle goes."""
    room = max(5, int((left - 12) / 7.5))
    return name if len(name) <= room else f"{name[: room // 3]}…{name[len(name) - (room - room // 3 - 1) :]}"


def margin_for(names: Sequence[str]) -> int:
    """Return the margin that the labels of these names need, within reason."""
    return max(LEFT, min(118, int(18 + 7.5 * max(map(len, names), default=0))))
