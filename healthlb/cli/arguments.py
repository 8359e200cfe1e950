"""What every argument of the command line must be, and how its texts are shown.

It imports little: `healthlb probe` starts in every container every few seconds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from healthlb.config.metadata import is_metadata
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


def parse_header(text: str) -> tuple[str, str | bytes]:
    """Return a pair of metadata that is written as 'name: value'; that of a name in `-bin` is sent as it is, in UTF-8.

    Raises:
        ValueError: it has no colon, or gRPC would not send it; the text says what it must be.
    """
    name, colon, value = text.partition(":")
    if not colon:
        raise ValueError("in the form 'name: value'")
    parse_unicode(text)
    name, value = name.lower(), value.lstrip()
    content = value.encode() if name.endswith("-bin") else value
    if not is_metadata(name, content):
        raise ValueError(
            "a name of letters, digits, '_', '.' and '-', a colon and a value of printable ASCII; of any characters "
            "where the name ends in '-bin'"
        )
    return name, content


def name_of_header(text: str) -> str:
    """Return what of a header may be shown: its value may be a token."""
    # HTTP/2's own, such as :path, begin with a colon.
    name = re.match(r":[a-z]+(?=:)|[^:]*", text)
    return f"{name[0]}: ..." if name and ":" in text else text


def parse_unicode(text: str) -> str:
    """Return a text as it is.

    Raises:
        ValueError: UTF-8 cannot hold it; the text says what it must be.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("text in UTF-8") from None
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
