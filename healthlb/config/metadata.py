"""Metadata that is given as an option: what C-core takes of it.

No text of an error shows a value: it may be a token.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from healthlb.errors import ConfigError

Metadata = Sequence[tuple[str, str | bytes]]
MetadataSource = Callable[[], Iterable[tuple[str, str | bytes]] | Awaitable[Iterable[tuple[str, str | bytes]]]]

_KEY = re.compile(rb"[0-9a-z_.-]+")
_VALUE = re.compile(rb"[ -~]*")


def check_metadata(name: str, metadata: object) -> tuple[tuple[str, str | bytes], ...]:
    """Return metadata as a tuple of pairs.

    Args:
        name: what it is called in the error.
        metadata: pairs of a key and a value.

    Raises:
        ConfigError: it is something else, or C-core would refuse it.
    """
    wanted = f"{name} must be pairs of a name and a value"
    if isinstance(metadata, str | bytes | bytearray):
        raise ConfigError(f"{wanted}: a single string is no collection")
    try:
        pairs = list(metadata)  # type: ignore[call-overload]
    except TypeError:
        raise ConfigError(f"{wanted}, not a {type(metadata).__name__}") from None
    return tuple(_check_pair(name, pair) for pair in pairs)


def _check_pair(name: str, pair: object) -> tuple[str, str | bytes]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ConfigError(f"{name} must be pairs of a name and a value; one of them is a {type(pair).__name__}")
    key, value = pair
    if not isinstance(key, str) or not isinstance(value, str | bytes) or not _is_sent(key, value):
        raise ConfigError(
            f"{name} must be pairs of a lower-case name (letters, digits, '_', '.', '-') and a value (printable ASCII; "
            f"bytes of any kind where the name ends in '-bin'), which the pair of {key!r} is not"
        )
    return key, value


def _is_sent(key: str, value: str | bytes) -> bool:
    """Whether grpcio takes these types together, and C-core this pair."""
    return is_metadata(key, value) and not (key.endswith("-bin") and isinstance(value, str))


def is_metadata(key: str | bytes | None, value: str | bytes | None) -> bool:
    """Whether C-core takes this pair. grpcio sends None as an empty text."""
    name = key.encode() if isinstance(key, str) else key or b""
    content = value.encode() if isinstance(value, str) else value or b""
    return bool(_KEY.fullmatch(name) and (name.endswith(b"-bin") or _VALUE.fullmatch(content)))
