"""Reads one table of a scenario file key by key, and complains in the reader's words.

Whoever reads a table takes every key out of it by name, with its type and bounds, and then says that this
was all; a key that nobody took is an error, and so is nothing ever silently ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, TypeVar

from healthlb.config.bounds import check_count, check_number
from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import parse_duration
from healthlb.simulation.scenario.laws import Law, parse_law

T = TypeVar("T")


class ScenarioError(ConfigError):
    """A scenario file is malformed; the text names the file, the key, the value and the bound."""


class _Required:
    """The default of a key that has none: a table without it is an error."""

    def __repr__(self) -> str:
        return "required"


REQUIRED: Final[Any] = _Required()


class Table:
    """One table of a file.

    Args:
        source: the file's name, for errors.
        key: where the table stands in it, as "client[0].load"; "" for the whole file.
        content: what is in it.

    Raises:
        ScenarioError: it is no table.
    """

    __slots__ = ("_content", "_key", "_known", "source")

    def __init__(self, source: str, key: str, content: object) -> None:
        self.source = source
        self._key = key
        if not isinstance(content, Mapping):
            raise self.error(f"{key or 'the file'} must be a table, not {content!r}")
        self._content: Mapping[str, Any] = content
        self._known: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def key(self, name: str) -> str:
        """Return what an error calls the value under this name."""
        return f"{self._key}.{name}" if self._key else name

    def error(self, text: str) -> ScenarioError:
        """Return the error to raise."""
        return ScenarioError(f"{self.source}: {text}")

    def wrong(self, name: str, wanted: str) -> ScenarioError:
        """Return the error to raise for a value that must be something else."""
        return self.error(f"{self.key(name)} must be {wanted}, not {self._content.get(name)!r}")

    def checked(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Return what a call returns whose ConfigError is one of this file."""
        try:
            return call(*arguments, **options)
        except ScenarioError:
            raise
        except ConfigError as error:
            raise self.error(str(error)) from error

    def raw(self, name: str, default: T = REQUIRED) -> Any | T:
        """Take a value as it stands."""
        self._known.append(name)
        if name in self._content:
            return self._content[name]
        if default is REQUIRED:
            raise self.error(f"{self.key(name)} is missing")
        return default

    def text(self, name: str, default: T = REQUIRED, among: Collection[str] | None = None) -> str | T:
        """Take a text, one of `among` where that is given."""
        value = self.raw(name, default)
        if name not in self._content:
            return default
        if among is not None and (not isinstance(value, str) or value not in among):
            raise self.wrong(name, f"one of {', '.join(among)}{_meant(value, among)}")
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Take a list of texts."""
        value = self.raw(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of texts")
        return tuple(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Take true or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def count(self, name: str, default: T = REQUIRED, *, low: int, high: int | None = None) -> int | T:
        """Take a whole number; false is None where the default is None."""
        value = self.raw(name, default)
        if name not in self._content or (value is False and default is None):
            return default
        self.checked(check_count, self.key(name), value, low=low, high=high)
        return int(value)  # type: ignore[arg-type]

    def number(
        self,
        name: str,
        default: T = REQUIRED,
        *,
        low: float | None = None,
        above: float | None = None,
        high: float | None = None,
    ) -> float | T:
        """Take a number; false is None where the default is None."""
        value = self.raw(name, default)
        if name not in self._content or (value is False and default is None):
            return default
        self.checked(check_number, self.key(name), value, low=low, above=above, high=high)
        return float(value)  # type: ignore[arg-type]

    def duration(self, name: str, default: T = REQUIRED, *, low: int = 0) -> int | T:
        """Take a duration in nanoseconds; false is None where the default is None."""
        value = self.raw(name, default)
        if name not in self._content or (value is False and default is None):
            return default
        return self.checked(parse_duration, self.key(name), value, low=low)

    def law(self, name: str, default: T = REQUIRED) -> Law | T:
        """Take a law."""
        value = self.raw(name, default)
        return default if name not in self._content else self.checked(parse_law, self.key(name), value)

    def table(self, name: str) -> Table:
        """Take a table; one that is missing is empty."""
        return Table(self.source, self.key(name), self.raw(name, {}))

    def tables(self, name: str) -> list[Table]:
        """Take a list of tables; a single table is a list of one."""
        value: Any = self.raw(name, [])
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, list):
            raise self.wrong(name, "a list of tables")
        return [Table(self.source, f"{self.key(name)}[{place}]", item) for place, item in enumerate(value)]

    def done(self) -> None:
        """Refuse what nobody took.

        Raises:
            ScenarioError: there is such a key.
        """
        for name in self._content:
            if name not in self._known:
                known = ", ".join(dict.fromkeys(self._known))
                raise self.error(f"{self.key(name)} is unknown{_meant(name, self._known)}; there may be {known}")


def _meant(value: object, among: Collection[str]) -> str:
    close = difflib.get_close_matches(str(value)[:50], list(among), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
