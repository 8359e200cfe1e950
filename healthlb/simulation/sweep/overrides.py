"""Replaces single values of a scenario by their dotted paths, as `client.c.load.rho` or `faults.timeline.0.period`.

A path must lead somewhere. Only its last name may be new, and only in a table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from healthlb.errors import ConfigError
from healthlb.simulation.sweep.cells import Value

# What a group is called that gives no name.
_DEFAULTS = {"backend": "b", "client": "c"}


def overridden(world: Mapping[str, Any], overrides: Iterable[tuple[str, Value]]) -> dict[str, Any]:
    """Return a copy of a scenario's content with other values at these paths.

    In a list, a name of the path is a number from 0, the `name` of an item (its default where it gives none), or `*`
    for all items. A list that stands alone, as `[[backend]]` with one item, needs no name.

    Raises:
        ConfigError: a path leads nowhere.
    """
    made: dict[str, Any] = copy.deepcopy(dict(world))
    for path, value in overrides:
        _put(made, path.split("."), value, path)
    return made


def _put(place: Any, names: list[str], value: Value, path: str, default: str = "") -> None:
    name, *rest = names
    if isinstance(place, list):
        items, rest = _items(place, names, path, default)
        for item in items:
            if not rest:
                raise ConfigError(f"path {path!r}: it ends at an item of a list, must name one of its values")
            _put(item, rest, value, path)
        return
    if not isinstance(place, dict):
        raise ConfigError(f"path {path!r}: there is no {name!r} in the value {place!r}")
    if not rest:
        if isinstance(place.get(name), dict | list):
            raise ConfigError(f"path {path!r}: {name!r} is a table or a list, must be a single value")
        place[name] = value
        return
    if name not in place:
        known = ", ".join(sorted(place)) or "nothing"
        raise ConfigError(f"path {path!r}: there is no {name!r}, must be one of {known}")
    _put(place[name], rest, value, path, _DEFAULTS.get(name, ""))


def _items(place: list[Any], names: list[str], path: str, default: str) -> tuple[list[Any], list[str]]:
    name, *rest = names
    if name == "*":
        return place, rest
    if name.isdecimal():
        if int(name) >= len(place):
            raise ConfigError(f"path {path!r}: there is no item {name}, must be less than {len(place)}")
        return [place[int(name)]], rest
    named = [item for item in place if isinstance(item, dict) and item.get("name", default) == name]
    if named:
        return named, rest
    if len(place) == 1:
        return place, names
    raise ConfigError(f"path {path!r}: none of {len(place)} items has the name {name!r}; a number or * will do")
