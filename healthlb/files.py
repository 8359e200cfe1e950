"""Files that others name or write, read with a bound."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from healthlb.errors import ConfigError
from healthlb.text import printable

MOST_BYTES = 4_000_000


def read_file(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Return what is in a regular file; devices, pipes and folders are refused before they are opened.

    Args:
        path: of the file.
        most: bytes that it may have, default 4,000,000.

    Raises:
        ConfigError: it cannot be read, is no regular file, or is longer; the text names it, and nothing that is in it.
    """
    shown = printable(os.fspath(path))
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConfigError(f"{shown} must be a regular file")
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{shown} cannot be read: {reason}") from error
    if len(content) > most:
        raise ConfigError(f"{shown} must have at most {most:,} bytes")
    return content


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """Return the text of a regular file, as by `read_file`.

    Raises:
        ConfigError: as `read_file`, and where the file is not UTF-8.
    """
    try:
        return read_file(path, most).decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{printable(os.fspath(path))} must be text in UTF-8") from None
