"""Heat maps of sweeps: one cell for each pair of parameters, with the boundary that theory predicts drawn over.

Cells are of equal size whatever the parameters' steps are, so a boundary is put into the grid by
interpolation between the centres of its cells.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from healthlb.simulation.report.figure import STRETCH, Figure, stretched
from healthlb.simulation.report.markup import Markup, Table, join, number, percent, tag
from healthlb.simulation.report.palette import GONE, fill
from healthlb.simulation.report.scale import DASH, plain

# Cividis at ten places (Nunez, Anderton and Renslow 2018): even in lightness, the same to colour-blind readers.
_CIVIDIS = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120), (165, 156, 116),
    (195, 179, 105), (225, 204, 85), (254, 232, 56),
)  # fmt: skip


def colour(place: float) -> tuple[int, int, int]:
    """Return the colour of a place from 0 (dark) to 1 (light): more is lighter, even on a black-and-white printer."""
    at = min(max(place, 0.0), 1.0) * (len(_CIVIDIS) - 1)
    index = min(int(at), len(_CIVIDIS) - 2)
    low, high = _CIVIDIS[index], _CIVIDIS[index + 1]
    red, green, blue = (round(a + (b - a) * (at - index)) for a, b in zip(low, high, strict=True))
    return red, green, blue


def hexadecimal(place: float) -> str:
    """Return the colour of a place as CSS writes it."""
    return "#{:02x}{:02x}{:02x}".format(*colour(place))


def is_light(rgb: tuple[int, int, int]) -> bool:
    """Return whether black stands out from it more than white does (WCAG's relative luminance)."""
    red, green, blue = ((part / 255) ** 2.2 for part in rgb)
    luminance: float = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return luminance > 0.18


def colour_bar(low: str, high: str, y: float, height: float) -> Markup:
    """Return the scale as a bar over the left half of the picture, with what its ends stand for below it."""
    count = 24
    boxes = (
        tag(
            "rect", x=percent(index / count / 2), y=y, height=height, fill=hexadecimal(index / (count - 1)),
            # A little wider, or rounding leaves gaps.
            width=percent(0.5 / count + (0.001 if index < count - 1 else 0)),
        )
        for index in range(count)
    )  # fmt: skip
    ends = (
        tag("text", low, x=0, y=y + height + 14, class_="tick"),
        tag("text", high, x="50%", y=y + height + 14, class_="tick", text_anchor="end"),
    )
    return join([*boxes, *ends])


_TOP, _BAR = 28, 12
_MOST_WORDS = 14


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The values of one metric over two parameters.

    Attributes:
        x_name: the parameter across.
        xs: its values, ascending.
        y_name: the parameter upwards.
        ys: its values, ascending.
        values: a row for each of `ys`, in it a value for each of `xs`; None where a cell was not run.
        boundary: points (x, y) of the line that theory predicts, in the order to draw them; may be empty.
        title: what the values are.
        boundary_name: what the boundary says.
        write: how a value is written.
    """

    x_name: str
    xs: Sequence[float]
    y_name: str
    ys: Sequence[float]
    values: Sequence[Sequence[float | None]]
    boundary: Sequence[tuple[float, float]]
    title: str
    boundary_name: str = "boundary by theory"
    write: Callable[[float], str] = plain


def heat_map(shown: HeatMap, name: str) -> Figure:
    """Return the figure of a heat map."""
    known = [value for row in shown.values for value in row if value is not None and math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    cell = max(14, min(36, 420 // max(len(shown.ys), 1)))
    bottom = _TOP + cell * len(shown.ys)
    marks = join([
        _cells(shown, low, high, cell), _outline(bottom), _ticks(shown, cell, bottom), _boundary(shown, cell, bottom),
        _words(shown, low, high, cell), _key(shown, low, high, bottom + 52),
    ])  # fmt: skip
    left = max(62, 18 + 7 * max((len(plain(y)) for y in shown.ys), default=0))
    return Figure(
        name=name, title=shown.title, says=_says(shown, low, high, known), marks=marks, height=bottom + 52 + _BAR + 24,
        left=left, numbers=_table(shown),
    )  # fmt: skip


def grid_place(value: float, centres: Sequence[float]) -> float:
    """Return where `value` lies in a grid of cells of width one around `centres`; beyond its edge by extrapolation."""
    if len(centres) == 1:
        return 0.5
    index = min(max(bisect_right(centres, value) - 1, 0), len(centres) - 2)
    low, high = centres[index], centres[index + 1]
    return index + 0.5 + (value - low) / (high - low)


def _cells(shown: HeatMap, low: float, high: float, cell: int) -> Markup:
    width = 1 / max(len(shown.xs), 1)
    drawn = []
    for row, column, value in _each(shown):
        words = f"{shown.x_name} {plain(shown.xs[column])}, {shown.y_name} {plain(shown.ys[row])}: "
        title = tag("title", words + ("not run" if value is None else shown.write(value)))
        y = _TOP + (len(shown.ys) - 1 - row) * cell
        look = fill(GONE) if value is None else hexadecimal(_place(value, low, high))
        drawn.append(
            tag(
                "rect", title, x=percent(column * width), y=y, width=percent(width), height=cell, fill=look,
            )
        )  # fmt: skip
    return tag("g", join(drawn), class_="cells")


def _words(shown: HeatMap, low: float, high: float, cell: int) -> Markup | None:
    """The values, over the boundary, while there is room for them."""
    if len(shown.xs) > _MOST_WORDS or cell < 18:
        return None
    drawn = []
    for row, column, value in _each(shown):
        if value is not None:
            place = _place(value, low, high)
            ink = "on-light" if is_light(colour(place)) else "on-dark"
            drawn.append(
                tag(
                    "text", shown.write(value), x=percent((column + 0.5) / len(shown.xs)),
                    y=_TOP + (len(shown.ys) - row - 0.5) * cell + 4, class_=f"cell {ink}", text_anchor="middle",
                    stroke=hexadecimal(place),
                )
            )  # fmt: skip
    return tag("g", join(drawn), class_="values")


def _each(shown: HeatMap) -> Iterator[tuple[int, int, float | None]]:
    """Every cell by its row, column and value; what is not a number counts as not run."""
    for row, values in enumerate(shown.values):
        for column, value in enumerate(values):
            yield row, column, value if value is not None and math.isfinite(value) else None


def _place(value: float, low: float, high: float) -> float:
    # Halves, as the span of two floats may be more than a float holds.
    return (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5


def _outline(bottom: float) -> Markup:
    return tag("rect", y=_TOP, width="100%", height=bottom - _TOP, class_="outline")


def _ticks(shown: HeatMap, cell: int, bottom: float) -> Markup:
    marks = [tag("text", f"{shown.y_name} ↑", x=0, y=_TOP - 12, class_="unit")]
    each = max(1, -(-len(shown.xs) // 12))
    for index, x in enumerate(shown.xs):
        if index % each == 0:
            place = percent((index + 0.5) / len(shown.xs))
            odd = "tick odd" if (index // each) % 2 else "tick"
            marks.append(tag("text", plain(x), x=place, y=bottom + 16, class_=odd, text_anchor="middle"))
    for index, y_value in enumerate(shown.ys):
        y = bottom - (index + 0.5) * cell + 4
        marks.append(tag("text", plain(y_value), x=-8, y=y, class_="tick", text_anchor="end"))
    marks.append(tag("text", f"{shown.x_name} →", x="100%", y=bottom + 34, class_="unit", text_anchor="end"))
    return tag("g", join(marks), class_="axis x y")


def _boundary(shown: HeatMap, cell: int, bottom: float) -> Markup | None:
    if len(shown.boundary) < 2 or not shown.xs or not shown.ys:
        return None
    places = []
    for x, y in shown.boundary:
        across = grid_place(x, shown.xs) / len(shown.xs) * STRETCH
        up = grid_place(y, shown.ys) * cell
        places.append(f"{number(across)} {number(bottom - _TOP - up)}")
    path = "M" + "L".join(places)
    lines = (
        tag("path", d=path, class_="halo"),
        tag("path", tag("title", shown.boundary_name), d=path, class_="boundary"),
    )
    drawn = stretched(0, bottom - _TOP, *lines)
    # What lies beyond the grid is cut off at its edge.
    return tag("svg", drawn, y=_TOP, width="100%", height=bottom - _TOP, overflow="hidden")


def _key(shown: HeatMap, low: float, high: float, y: float) -> Markup:
    line = None
    if len(shown.boundary) > 1:
        dashes = (tag("path", d="M0 6H34", class_=class_) for class_ in ("halo", "boundary"))
        words = tag("text", shown.boundary_name, x=42, y=10, class_="tick")
        line = tag("svg", *dashes, words, x="54%", y=y, overflow="visible")
    return tag("g", colour_bar(shown.write(low), shown.write(high), y, _BAR), line, class_="cells key")


def _says(shown: HeatMap, low: float, high: float, known: list[float]) -> str:
    cells = len(shown.xs) * len(shown.ys)
    if not known:
        return f"{cells} cells over {shown.x_name} and {shown.y_name}, none of which was run."
    missing = f" {cells - len(known)} of {cells} cells were not run (hatched)." if len(known) < cells else ""
    line = f" The dashed line: {shown.boundary_name}." if len(shown.boundary) > 1 else ""
    return (
        f"Over {shown.x_name} (across) and {shown.y_name} (upwards), from {shown.write(low)} (dark) to "
        f"{shown.write(high)} (light).{line}{missing}"
    )


def _table(shown: HeatMap) -> Table:
    rows = tuple(
        (plain(y), *(DASH if value is None else shown.write(value) for value in values))
        for y, values in zip(shown.ys, shown.values, strict=True)
    )
    headings = (f"{shown.y_name} ↓ · {shown.x_name} →", *(plain(x) for x in shown.xs))
    return Table(shown.title, headings, rows)
