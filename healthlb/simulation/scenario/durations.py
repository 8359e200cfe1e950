"""Durations as people write them, in nanoseconds as the simulation counts them.

A number is seconds, a text has its unit, and an error names the key and the value.
"""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path

from healthlb.errors import ConfigError
from healthlb.files import read_text

UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
# A year: beyond it a float of nanoseconds is no longer whole.
LONGEST = 365 * 24 * UNITS["h"]
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(ns|us|ms|s|m|h)\s*")


def parse_duration(key: str, value: object, *, low: int = 0) -> int:
    """Return the nanoseconds of `"10ms"`, `"1.5s"`, `"2m"`, or of a number of seconds.

    Args:
        key: what an error calls it.
        value: as it stands in the file.
        low: the least that is allowed, in nanoseconds; at most a year always is.

    Raises:
        ConfigError: it is no duration, or out of its bounds.
    """
    nanoseconds = _nanoseconds(value)
    if nanoseconds is None:
        raise ConfigError(f"{key} must be a duration like '10ms', '1.5s' or a number of seconds, not {value!r}")
    if not low <= nanoseconds <= LONGEST:
        least = f"at least {low} ns" if low != 1 else "above 0"
        raise ConfigError(f"{key} must be {least} and at most a year, not {value!r}")
    return round(nanoseconds)


def read_durations(path: Path) -> list[float | str]:
    """Return what a file says, one duration a line: text with a unit, or a number of seconds; `#` begins a comment.

    Raises:
        ConfigError: the file cannot be read, or a line is no duration. The text does not show the line: whoever writes
            a scenario may name any file.
    """
    lines = (line.partition("#")[0].strip() for line in read_text(path).splitlines())
    return [_read_line(line, f"{path}, line {place}") for place, line in enumerate(lines, 1) if line]


def _read_line(line: str, where: str) -> float | str:
    value: float | str = line
    with contextlib.suppress(ValueError):
        value = float(line)
    try:
        parse_duration(where, value)
    except ConfigError:
        raise ConfigError(f"{where}, must be a duration like '10ms', '1.5s' or a number of seconds") from None
    return value


def _nanoseconds(value: object) -> float | None:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        return float(match[1]) * UNITS[match[2]] if match else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value * UNITS["s"]
