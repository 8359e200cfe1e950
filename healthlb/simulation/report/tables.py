"""Tables: the same numbers as a figure's, for whoever reads them or cannot see the figure.

The one rule: a table says in its caption what it holds, and every cell has a header that a screen reader can name.
"""

from __future__ import annotations

from dataclasses import dataclass

from healthlb.simulation.report.markup import Child, Markup, join, tag


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
