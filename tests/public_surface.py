"""The public API as text, one line for each name: `python -m tests.public_surface` writes what a test compares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests" / "public_api.txt"
PAGE = ROOT / "docs" / "api.md"

HEAD = """\
# The public API: what `python -m tests.public_surface` finds. Whoever changes it, changes what users' programs rest on:
# a line for it stands in CHANGELOG.md.
"""


def public_modules() -> list[str]:
    """Return the modules that the page says are public, in its order."""
    table = PAGE.read_text().split("| module | what is in it |", 1)[1].split("\n\n", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)]


def surface() -> str:
    """Return the public API as text."""
    package = griffe.load("healthlb", search_paths=[ROOT], resolve_aliases=True, resolve_external=False)
    lines = []
    seen: dict[str, str] = {}
    for module in public_modules():
        found = package if module == "healthlb" else package[module.removeprefix("healthlb.")]
        lines += ["", module]
        for name in sorted(str(export) for export in found.exports or ()):
            lines += [f"  {line}" for line in _described(f"{module}.{name}", found[name], seen)]
    return HEAD + "\n".join(lines) + "\n"


def _described(name: str, thing: griffe.Object | griffe.Alias, seen: dict[str, str]) -> Iterator[str]:
    target = thing.final_target if thing.is_alias else thing
    short = name.rsplit(".", 1)[1]
    if target.kind is griffe.Kind.MODULE and short in target.members:
        target = target[short]  # A function that hides the module of its name.
    if target.path in seen:
        yield f"{short} is {seen[target.path]}"
        return
    seen[target.path] = name
    match target.kind:
        case griffe.Kind.CLASS:
            yield f"class {short}{_bases(target)}{_signature(target)}"
            for member in sorted(_members(target), key=lambda one: one.name):
                yield f"  {_member(member)}"
        case griffe.Kind.FUNCTION:
            yield f"def {short}{_signature(target)}"
        case griffe.Kind.MODULE:
            yield f"module {short}"
        case _:
            yield f"{short} = {target.value}"


def _bases(cls: griffe.Class) -> str:
    bases = ", ".join(str(base) for base in cls.bases)
    return f"[{bases}]" if bases else ""


def _members(cls: griffe.Class) -> Iterator[griffe.Object]:
    """Yield the public members of a class, also those that a private class of healthlb's gives it."""
    found: dict[str, griffe.Object] = {}
    for owner in (cls, *cls.mro()):
        if owner.path.startswith("healthlb."):
            for name, member in owner.members.items():
                if not name.startswith("_") and not member.is_alias:
                    found.setdefault(name, member)
    yield from found.values()


def _member(member: griffe.Object) -> str:
    if member.kind is griffe.Kind.FUNCTION:
        kind = "async def" if "async" in member.labels else "def"
        kind = "classmethod" if "classmethod" in member.labels else kind
        return f"{kind} {member.name}{_signature(member)}"
    label = "property " if "property" in member.labels else ""
    # What stands in a class is a default; what __init__ sets is not.
    has_default = not label and member.value is not None and "class-attribute" in member.labels
    value = f" = {member.value}" if has_default else ""
    annotation = "" if member.annotation is None else f": {member.annotation}"
    return f"{label}{member.name}{annotation}{value}"


def _signature(thing: griffe.Object) -> str:
    parameters = [one for one in thing.parameters if one.name not in ("self", "cls")]
    returns = getattr(thing, "returns", None)
    arrow = "" if returns is None or thing.kind is griffe.Kind.CLASS else f" -> {returns}"
    return f"({', '.join(_parameters(parameters))}){arrow}"


def _parameters(parameters: list[griffe.Parameter]) -> Iterator[str]:
    is_keyword_only = False
    for one in parameters:
        if one.kind is griffe.ParameterKind.keyword_only and not is_keyword_only:
            is_keyword_only = True
            yield "*"
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(one.kind, "")
        is_keyword_only |= stars == "*"
        annotation = "" if one.annotation is None else f": {one.annotation}"
        yield f"{stars}{one.name}{annotation}" + ("" if stars or one.default is None else f" = {one.default}")


if __name__ == "__main__":
    FILE.write_text(surface())
