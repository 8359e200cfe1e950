"""A scale of colours for numbers: even in lightness, and the same to colour-blind readers.

The one rule: more is lighter, so that the scale survives a black-and-white printer.
"""

from __future__ import annotations

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
