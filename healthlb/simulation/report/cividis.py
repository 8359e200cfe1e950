"""A scale of colours for numbers: even in lightness, and the same to colour-blind readers.

The one rule: more is lighter, so that the scale survives a black-and-white printer.
"""

from __future__ import annotations

from healthlb.simulation.report.markup import Markup, join, percent, tag

# Cividis at ten places (Nunez, Anderton and Renslow 2018): even in lightness, the same to colour-blind readers.
_CIVIDIS = (
    (0, 34, 78), (18, 53, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120), (165, 156, 116),
    (195, 179, 105), (225, 204, 85), (254, 232, 56),
)  # fmt: skip


def colour(place: float) -> tuple[int, int, int]:
    """Return the colour of a place from 0 (dark) to 1 (light)."""
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
