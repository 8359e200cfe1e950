"""How numbers and callables given by the user are checked, and how seconds become nanoseconds.

The one rule: an error names the option, the value and the bound.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from healthlb.errors import ConfigError

_SECOND = 1_000_000_000
# Of any number: beyond it seconds do not become nanoseconds that a float or a timer can hold.
_LARGEST = 1e15


@lru_cache(maxsize=256)
def to_ns(seconds: float) -> int:
    """Return a duration in nanoseconds; never 0, or a timer would be due for ever."""
    return max(1, round(seconds * _SECOND))


def check_number(
    option: str, value: object, *, above: float | None = None, low: float | None = None, high: float | None = None
) -> None:
    """Raise ConfigError unless `value` is a finite number within the bounds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if high is None and is_number and value > _LARGEST:  # type: ignore[operator]
        high = _LARGEST
    bounds = []
    if above is not None:
        bounds.append(f"above {above:g}")
    if low is not None:
        bounds.append(f"at least {low:g}")
    if high is not None:
        bounds.append(f"at most {high:g}")
    wanted = "a number " + " and ".join(bounds)
    if not isinstance(value, int | float) or not is_number or not -_LARGEST <= value <= _LARGEST:
        raise ConfigError(f"{option} must be {wanted}, not {_shown(value)}")
    too_low = (above is not None and value <= above) or (low is not None and value < low)
    if too_low or (high is not None and value > high):
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Of a whole number of thousands of digits Python writes no text.
        assert isinstance(value, int)
        return f"a number of {value.bit_length()} bits"


def check_collection(option: str, value: object, wanted: str) -> None:
    """Raise ConfigError unless `value` is a collection; one string is none, though Python can iterate over it.

    Args:
        option: its name.
        value: as it was given.
        wanted: what it must be, for the text.
    """
    if isinstance(value, str | bytes | bytearray):
        hint = f"a single string is no collection, write [{value!r}]"
        raise ConfigError(f"{option} must be {wanted}, not {value!r}: {hint}")
    if not isinstance(value, Iterable):
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")


def check_callable(option: str, value: Any, wanted: str = "callable", hint: str = "") -> Callable[..., Any]:
    """Return what is to be called, and is done when it returns.

    Args:
        option: its name.
        value: as it was given.
        wanted: what it must be, for the text.
        hint: what to do where it is a coroutine function.

    Raises:
        ConfigError: it cannot be called, or what it returns would have to be awaited, which nobody does.
    """
    if not callable(value):
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")
    if is_coroutine_function(value):
        raise ConfigError(f"{option} must be no coroutine function, as {value!r} is: it would never be run{hint}")
    return value  # type: ignore[no-any-return]


def is_coroutine_function(value: Any) -> bool:
    """Return whether a callable is a coroutine function, or one of an async generator, or an object called as one."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    return any(is_one(value) or is_one(type(value).__call__) for is_one in kinds)


def check_count(option: str, value: object, *, low: int, high: int | None = None) -> None:
    """Raise ConfigError unless `value` is a whole number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{option} must be a whole number, not {value!r}")
    check_number(option, value, low=low, high=high)


_DURATION = re.compile(r"\s*(\+?[0-9]+(?:\.[0-9]{1,9})?|-0+(?:\.0{1,9})?)s", re.ASCII)


_LONGEST = 315_576_000_000.0  # Seconds, of a protobuf Duration.


def parse_duration(name: str, value: object) -> float:
    """Return the seconds of a service config's duration, as `"1.5s"`; raise ConfigError where it is none."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigError(f"{name} must be a duration like '1.5s', not {value!r}")
    seconds = abs(float(match[1]))
    if seconds > _LONGEST:
        raise ConfigError(f"{name} must be at most {_LONGEST:.0f}s, not {value!r}")
    return seconds


_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)


def code_name(option: str, code: object) -> str:
    """Return the name of a status that is given by name, number or `grpc.StatusCode`; raise ConfigError for others."""
    if isinstance(code, int) and not isinstance(code, bool) and 0 < code < len(_CODES):
        return _CODES[code]
    name = code.upper() if isinstance(code, str) else getattr(code, "name", None)
    if name not in _CODES[1:]:
        raise ConfigError(f"{option} must hold names of gRPC status codes other than OK, not {code!r}")
    return str(name)
