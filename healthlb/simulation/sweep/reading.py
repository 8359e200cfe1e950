"""Tables of a sweep's file, read key by key, with errors that say where they are.

The one rule: every key is asked for by name, and what nobody asked for is an error.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from healthlb.errors import ConfigError

_MISSING: Any = object()


class SweepError(ConfigError):
    """A sweep's file cannot work; the text names file, key, value and bound."""


class Table:
    """One table of a file.

    Attributes:
        where: file and table, for errors.
    """

    def __init__(self, data: object, where: str) -> None:
        """Raise a `SweepError` unless `data` is a table."""
        if not isinstance(data, Mapping):
            raise SweepError(f"{where}: {data!r}, must be a table")
        self.where = where
        self._data = dict(data)
        self._known: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def is_table(self, key: str) -> bool:
        """Whether there is a table under this key."""
        return isinstance(self._data.get(key), Mapping)

    def text(self, key: str, default: str = _MISSING, among: Collection[str] = ()) -> str:
        """Return a string, not empty where it was given."""
        value = self._value(key, default)
        if value is not default and (not isinstance(value, str) or not value.strip()):
            raise self.error(key, value, "must be a text")
        if among and value not in among:
            raise self.error(key, value, f"must be one of {', '.join(among)}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "must be true or false")
        return value

    def whole(self, key: str, default: int = _MISSING, *, least: int, most: int) -> int:
        """Return an integer within bounds."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(key, value, f"must be a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: float = _MISSING, *, above: float = -math.inf) -> float:
        """Return a finite number greater than `above`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
            bound = "" if above == -math.inf else f" greater than {above:g}"
            raise self.error(key, value, f"must be a number{bound}")
        return value

    def texts(self, key: str, default: tuple[str, ...] = _MISSING) -> tuple[str, ...]:
        """Return a list of strings that are not empty, each once."""
        if key not in self._data and default is not _MISSING:
            self._known.append(key)
            return default
        value = self._value(key, default)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise self.error(key, value, "must be a list of texts")
        if len(set(value)) < len(value):
            raise self.error(key, value, "must name each once")
        return tuple(value)

    def items(self, key: str, default: Any = _MISSING) -> list[Any]:
        """Return a list that is not empty."""
        value = self._value(key, default)
        if value is not default and (not isinstance(value, list) or not value):
            raise self.error(key, value, "must be a list that is not empty")
        return list(value)

    def table(self, key: str) -> Table | None:
        """Return a table inside, None where there is none."""
        value = self._value(key, None)
        return None if value is None else type(self)(value, f"{self.where}, [{key}]")

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a table inside as it is; empty where there is none."""
        value = self._value(key, {})
        if not isinstance(value, dict):
            raise self.error(key, value, "must be a table")
        return value

    def end(self) -> None:
        """Raise a `SweepError` if there is a key that nobody asked for."""
        for key in self._data:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(self._known))}"
                raise SweepError(f"{self.where}: unknown key {key!r}; {hint}")

    def error(self, key: str, value: object, bound: str) -> SweepError:
        """Return an error about the value of a key."""
        return SweepError(f"{self.where}: {key} = {value!r}, {bound}")

    def _value(self, key: str, default: Any) -> Any:
        self._known.append(key)
        value = self._data.get(key, default)
        if value is _MISSING:
            raise SweepError(f"{self.where}: {key} is missing")
        return value
