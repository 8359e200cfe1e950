"""What every argument of the command line must be, and how its texts are shown.

It imports little: `healthlb probe` starts in every container every few seconds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from healthlb.errors import ConfigError
from healthlb.files import read_file
from healthlb.text import printable

MOST_CHARACTERS = 65_536
_LONGEST_LINE = 1000
_REFUSED = ("Cc", "Cs")  # Control characters, and the surrogates that stand for bytes that are no UTF-8.


def check_arguments(arguments: Iterable[str]) -> None:
    """Refuse arguments that neither gRPC nor a terminal can take.

    Raises:
        ConfigError: one has more than 65,536 characters, a control character, or bytes that are no UTF-8.
    """
    for place, argument in enumerate(arguments, 1):
        try:
            parse_text(argument)
        except ValueError as error:
            raise ConfigError(f"argument {place} must be {error}, not '{printable(argument, 60)}'") from None


def parse_text(text: str) -> str:
    """Return a text as it is.

    Raises:
        ValueError: it is none that gRPC and a terminal can take; the text says what it must be.
    """
    is_fit = not any(unicodedata.category(character) in _REFUSED for character in text[:MOST_CHARACTERS])
    if not is_fit or len(text) > MOST_CHARACTERS:
        raise ValueError(f"text in UTF-8 of at most {MOST_CHARACTERS:,} characters, none of them a control character")
    return text


def shown(text: str) -> str:
    """Return what a command says, line by line fit for a terminal."""
    return "\n".join(printable(line, _LONGEST_LINE) for line in text.split("\n"))


def read_tls_files(roots: object, key: object, certificate: object) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Return what is in the files of TLS, each a path or nothing; gRPC would take anything, and then not connect.

    Raises:
        ConfigError: one cannot be read, or has nothing in it that TLS can use.
    """
    import ssl

    paths = [str(path) if path else None for path in (roots, key, certificate)]
    contents = [None if path is None else read_file(path) for path in paths]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if paths[2]:
            context.load_cert_chain(paths[2], paths[1], password=bytes)
        if paths[0]:
            context.load_verify_locations(paths[0])
    except (OSError, ValueError) as error:
        named = " and ".join(printable(path) for path in paths if path)
        raise ConfigError(f"{named} cannot be used for TLS: {printable(error)}") from error
    return contents[0], contents[1], contents[2]
