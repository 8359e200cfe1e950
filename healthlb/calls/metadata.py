"""Metadata and credentials: what C-core refuses, for calls that find no connection whose call of C-core would."""

from __future__ import annotations

from typing import Any

from healthlb.config.metadata import is_metadata


def check_types(metadata: Any) -> None:
    """Raise what C-core's calls raise of metadata, in either face.

    Raises:
        TypeError: a key or a value of another type.
        ValueError: metadata that is not in pairs.
    """
    for pair in metadata or ():
        if len(pair) < 2:
            raise ValueError("need more than 1 value to unpack")
        key, value = pair
        name = _check_text(key)
        if not name.endswith(b"-bin"):
            _check_text(value)
        elif not isinstance(value, bytes):
            raise TypeError(f'Binary metadata key="{name.decode(errors="replace")}" expected bytes, got {type(value)}')


def check_call_credentials(credentials: Any, kind: type) -> None:
    """Raise what C-core raises, when a call is made, of credentials that are none of calls, in either face.

    Args:
        credentials: as given.
        kind: C-core's class of those of calls.

    Raises:
        AttributeError: they are none.
        TypeError: they are of another kind, as a channel's.
    """
    held = credentials._credentials
    if not isinstance(held, kind):
        expected, got = (f"{one.__module__}.{one.__name__}" for one in (kind, type(held)))
        raise TypeError(f"Argument 'credentials' has incorrect type (expected {expected}, got {got})")


def illegal_keys(metadata: Any) -> list[Any]:
    """Return the keys that HTTP/2 does not allow, or whose values it does not; their types are right."""
    return [key for key, value in metadata or () if not is_metadata(key, value)]


def _check_text(text: Any) -> bytes:
    if text is None:
        return b""
    if isinstance(text, str | bytes):
        return text.encode() if isinstance(text, str) else text
    raise TypeError(f"Expected str, not {type(text)}")
