"""Command line flags as Go's `flag` package reads them: one dash or two, `-name value` or `-name=value`.

It needs the standard library only, for the probe starts in every container every few seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_MOST = 2**63 / 1e9  # Seconds that Go's durations, in nanoseconds, can hold.
_PART = r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_DURATION = re.compile(rf"([+-]?)((?:{_PART})+)")


class FlagError(ValueError):
    """A flag that cannot be understood; the text names it."""


class HelpWanted(FlagError):
    """-h or -help, where no such flag is defined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """What a flag takes.

    Attributes:
        default: its value where it is not given.
        usage: one line for the help.
        parse: from text to value; raises ValueError. None for a switch, which may stand without a value.
        is_repeated: each value is appended to a list.
        shown: returns what of a wrong value the error may show.
    """

    default: Any
    usage: str
    parse: Callable[[str], Any] | None = str
    is_repeated: bool = False
    shown: Callable[[str], str] = str


def parse_flags(flags: Mapping[str, Flag], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the value of every flag. As in Go, what follows `--`, or the first argument that is no flag, is ignored.

    Raises:
        FlagError: an unknown flag, or a value missing or malformed.
    """
    values = {name: [] if flag.is_repeated else flag.default for name, flag in flags.items()}
    waiting = list(arguments)
    while waiting and len(waiting[0]) > 1 and waiting[0].startswith("-") and waiting[0] != "--":
        name, text = _split(waiting.pop(0))
        flag = flags.get(name)
        if flag is None:
            if name in ("h", "help"):
                raise HelpWanted("help requested")
            raise FlagError(f"flag provided but not defined: -{name}")
        if text is None and flag.parse is not None:
            if not waiting:
                raise FlagError(f"flag needs an argument: -{name}")
            text = waiting.pop(0)
        value = _value(name, flag, text)
        if flag.is_repeated:
            values[name].append(value)
        else:
            values[name] = value
    return values


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration such as "300ms", "1m30s" or "0".

    Raises:
        ValueError: it is none.
    """
    if text in ("0", "+0", "-0"):
        return 0.0
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError('a duration such as "300ms" or "1m30s"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, found[2]))
    if seconds > _MOST:
        raise ValueError("a duration of at most 292 years")
    return -seconds if found[1] == "-" else seconds


def format_duration(seconds: float) -> str:
    """Return a duration as Go writes it: "300ms", "1m30s", "1.5s"."""
    for unit in ("ns", "us", "ms"):
        if 0 < abs(seconds) < 1000 * _UNITS[unit]:
            return f"{round(seconds / _UNITS[unit], 6):g}{unit}".replace("us", "µs")
    minutes, rest = divmod(abs(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = ("-" if seconds < 0 else "", f"{hours}h" if hours else "", f"{minutes}m" if hours or minutes else "")
    return "".join(parts) + f"{round(rest, 6):g}s"


def describe(flags: Mapping[str, Flag]) -> str:
    """Return the help of all flags."""
    # No tab, as Go has: what is no printable character is escaped before it is shown.
    return "\n".join(f"  -{name}\n        {flag.usage}" for name, flag in flags.items())


def _split(argument: str) -> tuple[str, str | None]:
    found = re.fullmatch(r"--?([^-=][^=]*)(?:=(.*))?", argument, re.DOTALL)
    if found is None:
        raise FlagError(f"bad flag syntax: {argument}")
    return found[1], found[2]


def _value(name: str, flag: Flag, text: str | None) -> Any:
    if flag.parse is None:
        if text is None or text in _TRUE:
            return True
        if text in _FALSE:
            return False
        raise FlagError(f"invalid boolean value {text!r} for -{name}")
    try:
        return flag.parse(text or "")
    except ValueError as error:
        shown = flag.shown(text or "")
        raise FlagError(f"invalid value {shown!r} for flag -{name}: it must be {error}") from error
