"""The colours and hatchings of everything that has a meaning, and the patterns that draw them.

No meaning rests on colour alone. The colours are Okabe and Ito's, which colour-blind readers tell apart,
and what could stand next to each other differs in its hatching too. What is well is pale, whatever is wrong stands out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from healthlb.simulation.report.markup import Markup, join, tag

SKY, GREEN, YELLOW = "#56b4e9", "#009e73", "#f0e442"
# Blue is too dark for a dark page, which has a lighter one.
BLUE = "var(--blue)"
ORANGE, VERMILLION, PURPLE, BLACK = "#e69f00", "#d55e00", "#cc79a7", "#000000"
PALE = "var(--well)"


@dataclass(frozen=True, slots=True)
class Look:
    """How something is drawn.

    Attributes:
        colour: a CSS colour.
        hatch: "" (none), "rising", "falling", "level", "upright", "crossed" or "dotted".
        says: what it means, for legends.
    """

    colour: str
    hatch: str
    says: str


TRUTH: Mapping[str, Look] = {
    "up": Look(PALE, "", "up"),
    "crashed": Look(VERMILLION, "", "crashed"),
    "not_serving": Look(BLUE, "rising", "not serving"),
    "failing": Look(ORANGE, "falling", "failing its calls"),
    "slow": Look(YELLOW, "level", "slow"),
    "hung": Look(PURPLE, "crossed", "hung"),
    "cut_off": Look("var(--grey)", "upright", "cut off"),
    "absent": Look("transparent", "", "not there"),
}
BELIEF: Mapping[str, Look] = {
    "READY": Look(PALE, "", "READY"),
    "CONNECTING": Look(YELLOW, "dotted", "CONNECTING"),
    "TRANSIENT_FAILURE": Look(VERMILLION, "", "TRANSIENT_FAILURE"),
    "ejected": Look(ORANGE, "falling", "ejected"),
    "probe": Look(GREEN, "dotted", "on probation"),
    "damped": Look(PURPLE, "level", "damped"),
    "IDLE": Look("var(--grey)", "level", "IDLE"),
    "absent": Look("transparent", "", "not known"),
}
_UNKNOWN = Look("var(--grey)", "crossed", "")
GONE = Look("var(--faint)", "rising", "not run")
_CODES: Mapping[str, tuple[str, str]] = {
    "UNAVAILABLE": (VERMILLION, ""),
    "DEADLINE_EXCEEDED": (ORANGE, "falling"),
    "RESOURCE_EXHAUSTED": (PURPLE, "crossed"),
    "INTERNAL": (BLUE, "rising"),
    "UNKNOWN": ("var(--grey)", "upright"),
    "CANCELLED": (YELLOW, "level"),
    "ABORTED": (GREEN, "dotted"),
}
_SPARE = (("var(--grey)", "dotted"), (BLUE, "crossed"), (GREEN, "rising"), (PURPLE, "upright"))
# Lines differ in their dashes too.
LINES = ((BLUE, ""), (VERMILLION, "7 3"), (GREEN, "2 3"), (PURPLE, "9 3 2 3"), (ORANGE, "4 2"), (SKY, "1 3"))
_HATCHES = {
    "rising": "M-1 1L1 -1M0 6L6 0M5 7L7 5",
    "falling": "M-1 5L1 7M0 0L6 6M5 -1L7 1",
    "level": "M0 1.5H6M0 4.5H6",
    "upright": "M1.5 0V6M4.5 0V6",
    "crossed": "M0 0L6 6M6 0L0 6",
    "dotted": "M1 1h1.6v1.6h-1.6zM4 4h1.6v1.6h-1.6z",
}


def truth(state: str) -> Look:
    """Return how a backend's own state is drawn; one that is not known here is grey and crossed."""
    return TRUTH.get(state) or Look(_UNKNOWN.colour, _UNKNOWN.hatch, state)


def belief(state: str) -> Look:
    """Return how what a client believed is drawn; what is not known here is grey and crossed."""
    return BELIEF.get(state) or Look(_UNKNOWN.colour, _UNKNOWN.hatch, state)


def causes(codes: Sequence[str]) -> dict[str, Look]:
    """Return how errors are drawn, by status code: the same code is drawn the same in every report."""
    spare = [code for code in codes if code not in _CODES]
    looks = {code: _SPARE[index % len(_SPARE)] for index, code in enumerate(spare)} | dict(_CODES)
    return {code: Look(*looks[code], code) for code in codes}


def pattern_id(look: Look) -> str:
    """Return the id of the pattern that draws a look: letters and digits alone, whatever its colour is."""
    colour = "".join(letter for letter in look.colour if letter.isalnum())
    return f"fill-{colour}-{look.hatch}"


def fill(look: Look) -> str:
    """Return what goes into a `fill` for this look."""
    return f"url(#{pattern_id(look)})" if look.hatch else look.colour


def patterns(looks: Sequence[Look]) -> Markup:
    """Return the `<defs>` of the looks that are hatched, each once."""
    hatched = {pattern_id(look): look for look in looks if look.hatch}
    return tag("defs", join(_pattern(name, look) for name, look in sorted(hatched.items())))


def every_look() -> list[Look]:
    """Return all looks that any figure may use."""
    spare = [Look(colour, hatch, "") for colour, hatch in _SPARE]
    return [*TRUTH.values(), *BELIEF.values(), *causes(sorted(_CODES)).values(), _UNKNOWN, GONE, *spare]


def _pattern(name: str, look: Look) -> Markup:
    ground = tag("rect", width=6, height=6, style=f"fill:{look.colour}")
    lines = tag("path", d=_HATCHES[look.hatch], class_="hatch")
    return tag("pattern", ground, lines, id=name, width=6, height=6, patternUnits="userSpaceOnUse")
