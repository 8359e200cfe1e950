"""Markup as a value: elements are made by functions, and text becomes markup only by being escaped.

A plain `str` is text and is escaped wherever it is put; only what `tag` made is markup. So no name,
whatever is in it, can be anything but a name.

A `Table` has the same numbers as a figure, for whoever reads them or cannot see the figure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

# XML allows these as the only control characters; a page may hold no others, escaped or not.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_EMPTY = frozenset({"meta", "link", "br", "hr", "col"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | int | float | None
Attribute = str | int | float | bool | None


def text(value: object) -> Markup:
    """Return `value` as text that can stand between tags and in attributes; markup stays what it is."""
    if isinstance(value, Markup):
        return value
    return Markup(escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value))))


def number(value: float) -> str:
    """Return a coordinate, in as few letters as two decimals take."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return "0" if shown == "-0" else shown


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: markup stays, text is escaped, None is left out.
        attributes: `class_` is `class`, other underscores become hyphens; None and False are left out, True has its
            name as its value.
    """
    shown = "".join(f' {_attribute(key)}="{_value(key, value)}"' for key, value in attributes.items() if _is_set(value))
    inside = "".join(text(child) for child in children if child is not None)
    if name in _EMPTY:
        return Markup(f"<{name}{shown}/>")
    return Markup(f"<{name}{shown}></{name}>" if not inside else f"<{name}{shown}>{inside}</{name}>")


def join(parts: Iterable[Child], between: str = "") -> Markup:
    """Return the parts one after the other, escaped where they are text."""
    return Markup(text(between).join(text(part) for part in parts if part is not None))


def percent(share: float) -> str:
    """Return a share of the width or height as SVG and CSS want it; three decimals are a fiftieth of a pixel."""
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"


def _attribute(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _is_set(value: Attribute) -> bool:
    return value is not None and value is not False


def _value(key: str, value: Attribute) -> str:
    if value is True:
        return _attribute(key)
    return text(number(value) if isinstance(value, int | float) else value)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under headings.

    Attributes:
        caption: what the table holds.
        headings: one for each column; the first names what the rows are.
        rows: their cells; the first of each is the row's heading.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Child, ...], ...]

    def markup(self, *, class_: str = "numbers") -> Markup:
        """Return the table, in a box that scrolls by itself where the page is narrow."""
        head = tag("tr", join(tag("th", heading, scope="col") for heading in self.headings))
        body = join(_row(row) for row in self.rows)
        table = tag("table", tag("caption", self.caption), tag("thead", head), tag("tbody", body), class_=class_)
        return tag("div", table, class_="scrolls", tabindex=0, role="region", aria_label=self.caption)


def _row(cells: tuple[Child, ...]) -> Markup:
    first, *others = cells
    return tag("tr", tag("th", first, scope="row"), join(tag("td", cell) for cell in others))
