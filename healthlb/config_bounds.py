"""How a number given by the user is checked, and how its seconds become nanoseconds.

The one rule: an error names the option, the value and the bound.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from healthlb.errors import ConfigError

_SECOND = 1_000_000_000
# Of any number: beyond it seconds do not become nanoseconds that a float or a timer can hold.
_LARGEST = 1e15


@lru_cache(maxsize=256)
def to_ns(seconds: float) -> int:
    """Return a duration in nanoseconds; never 0, or a timer would be due for ever."""
    return max(1, round(seconds * _SECOND))


def check_number(option: str, value: object, *, above: float | None = None, low: float | None = None,
                 high: float | None = None) -> None:
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
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")
    too_low = (above is not None and value <= above) or (low is not None and value < low)
    if too_low or (high is not None and value > high):
        raise ConfigError(f"{option} must be {wanted}, not {value!r}")


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


def check_count(option: str, value: object, *, low: int, high: int | None = None) -> None:
    """Raise ConfigError unless `value` is a whole number within the bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{option} must be a whole number, not {value!r}")
    check_number(option, value, low=low, high=high)
