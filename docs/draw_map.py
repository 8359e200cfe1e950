"""Draws docs/images/map.svg, the rooms of the house, from the code: `python docs/draw_map.py`.

The one rule: what is drawn is what is there. A room is a folder of healthlb, its text is how its docstring begins, and
its imports are those of its modules. The floors are given here: a room stands above what it imports, and imports
from its own floor or from above are marked. A room that is missing here, or is here alone, is an error.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path
from textwrap import wrap

PACKAGE = Path(__file__).parents[1] / "healthlb"
IMAGE = Path(__file__).parent / "images" / "map.svg"

# The modules that stand in no folder: users import those of the first kind, everything else may import the second.
NAMES = ("facts", "pickers", "presets")
BASE = "errors, text, files"
# These folders of a folder are rooms of their own: they stand above what the rest of it imports.
APART = ("simulation/calibration", "simulation/commands")

FLOORS = (
    ("cli", "demo", *APART),
    ("sync", "aio", "server", "testing"),
    ("calls", "health_client", "telemetry", "simulation"),
    ("control",),
    ("resolvers",),
    ("core",),
    ("config",),
    (BASE,),
)

WIDTH, HEIGHT, GAP, MARGIN = 250, 142, 26, 20
LINE = 17


def room_of(module: str) -> str:
    """Return the room of a module, by its full name; "" for healthlb itself, which only passes names on."""
    parts = module.split(".")
    if len(parts) == 1 or parts[1] in ("__main__", "_lazy"):
        return ""
    if "/".join(parts[1:3]) in APART:
        return "/".join(parts[1:3])
    if (PACKAGE / parts[1]).is_dir():
        return parts[1]
    return "" if parts[1] in NAMES else BASE


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the modules of healthlb that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.startswith("healthlb."))
            case ast.ImportFrom(module=str(module), names=names) if module == "healthlb":
                yield from (f"healthlb.{alias.name}" for alias in names)
            case ast.ImportFrom(module=str(module)) if module.startswith("healthlb."):
                yield module


def rooms() -> dict[str, set[str]]:
    """Return which other rooms each room imports."""
    uses: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        room = room_of(name)
        # What the root of a face passes on to users is no use of it.
        if room and name not in ("healthlb.aio", "healthlb.sync"):
            found = {room_of(other) for other in imports(ast.parse(path.read_text()))}
            uses.setdefault(room, set()).update(found - {"", room})
    return uses


def floor_of(room: str) -> int:
    """Return on which floor a room is, counted from above.

    Raises:
        LookupError: on none.
    """
    return next(number for number, names in enumerate(FLOORS) if room in names)


def imported(room: str, uses: set[str]) -> str:
    """Return what a room imports, in words."""
    below = [other for other in sorted(uses) if floor_of(other) > floor_of(room)]
    above = [other for other in sorted(uses) if other not in below]
    words = f"imports {', '.join(below)}" if below else "imports none of the others"
    return words + (f"; beside or above it: {', '.join(above)}" if above else "")


def said(room: str) -> str:
    """Return what a room is for."""
    if room == BASE:
        return "The exceptions, and text and files that others wrote; modules in no folder."
    doc = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
    return " ".join(doc.split("\n\n", 1)[0].split())


def drawing() -> str:
    """Return the picture."""
    uses = rooms()
    if uses.keys() != {room for names in FLOORS for room in names}:
        raise LookupError(f"FLOORS and the folders differ: {sorted(uses)}")
    width = MARGIN + max(map(len, FLOORS)) * (WIDTH + MARGIN)
    height = MARGIN + len(FLOORS) * (HEIGHT + GAP)
    style = (
        "rect{fill:#eef4fb;stroke:#4a6785}text{font:13px sans-serif;fill:#1d2b3a}.n{font-weight:bold;font-size:15px}"
        ".u{fill:#4a6785;font-size:12px}"
    )
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"><style>{style}</style>']
    for floor, names in enumerate(FLOORS):
        left = (width - len(names) * (WIDTH + MARGIN) + MARGIN) // 2
        for place, room in enumerate(names):
            parts += _box(room, left + place * (WIDTH + MARGIN), MARGIN + floor * (HEIGHT + GAP), uses[room])
    return "\n".join([*parts, "</svg>\n"])


def _box(room: str, x: int, y: int, uses: set[str]) -> Iterator[str]:
    yield f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
    yield f'<text class="n" x="{x + 10}" y="{y + 21}">{room if room == BASE else room + "/"}</text>'
    lines = wrap(said(room), 38)[:3]
    for number, line in enumerate(lines):
        yield f'<text x="{x + 10}" y="{y + 41 + number * LINE}">{escape(line)}</text>'
    for number, line in enumerate(wrap(imported(room, uses), 44)):
        yield f'<text class="u" x="{x + 10}" y="{y + 97 + number * 15}">{escape(line)}</text>'


if __name__ == "__main__":
    IMAGE.write_text(drawing())
