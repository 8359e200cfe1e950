"""JSON as C-core reads it in a service config: no key twice, no NaN, and numbers that may be written as strings."""

from __future__ import annotations

import json
import re
from typing import Any

from healthlb.errors import ConfigError

_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")


def read_json(text: str | bytes) -> Any:
    """Return what a text stands for; bytes are read as UTF-8.

    Raises:
        ConfigError: it is no JSON, too deep, or has something that C-core refuses: a key twice in one object, `NaN` or
            `Infinity`, or half of a surrogate pair.
    """
    try:
        value = json.loads(
            text if isinstance(text, str) else text.decode(), object_pairs_hook=_object, parse_constant=_constant
        )
        # A lone surrogate cannot be sent.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"service_config must be JSON: {error}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {twice!r}")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def whole_number(value: Any) -> Any:
    """Return the whole number that a string writes, as Protobuf's JSON may; anything else as it is."""
    return int(value) if isinstance(value, str) and _WHOLE.fullmatch(value.strip()) else value


def number(value: Any) -> Any:
    """Return the number that a string writes; anything else as it is."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value
