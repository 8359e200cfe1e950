"""Text that others wrote, made fit for a log line, a status, an error or a terminal.

Texts of exceptions, status details, service names and the like are chosen by whoever runs the other end. Raw, they
could forge a log line with a line feed, steer a terminal with an escape sequence, or fill a disk.
"""

from __future__ import annotations

import reprlib
import traceback

REMEDY_MARK = ". What to do: "
"""Stands between an error's text and its remedy."""

_ELLIPSIS = "..."
_FRAMES = 30
_QUOTED = 60
_NOTES = 10


def printable(text: object, limit: int = 300) -> str:
    r"""Return a text as one line of printable characters.

    Control characters, line separators, characters that turn the direction of writing or have no width, and lone
    surrogates are escaped as in a Python literal (`\n`, `\x1b`, `\u202e`); backslashes stay as they are. What fits is
    returned unchanged when it is passed again.

    Args:
        text: a string; bytes are read as UTF-8; anything else is shown as by `str`, or by the name of its type where
            that raises.
        limit: characters that are returned at most, default 300, at least 3. A longer text is cut and ends in "...".
    """
    # One character more than the limit is enough to see that the text is too long: a long one is not read to its end.
    escaped = [_escape(character) for character in _as_string(text)[: limit + 1]]
    if sum(map(len, escaped)) <= limit:
        return "".join(escaped)
    length, kept = len(_ELLIPSIS), []
    for piece in escaped:
        length += len(piece)
        if length > limit:
            break
        kept.append(piece)
    return "".join(kept) + _ELLIPSIS


def short(value: object, most: int = 2) -> str:
    """Return the repr of a value that an error quotes: 60 characters of a string, and at most so many of a list."""
    shortener = reprlib.Repr()
    shortener.maxstring = _QUOTED
    shortener.maxother = 2 * _QUOTED
    shortener.maxlist = shortener.maxtuple = shortener.maxdict = most
    return shortener.repr(value)


def add_remedy(text: str, remedy: str) -> str:
    """Return an error's text with what to do about it where that is known; the remedy alone where there is no text."""
    if not remedy:
        return text
    return f"{text.removesuffix('.')}{REMEDY_MARK}{remedy}" if text else f"{REMEDY_MARK.removeprefix('. ')}{remedy}"


def printable_traceback(error: BaseException) -> str:
    """Return an exception's traceback, as Python shows it, but with the texts of exceptions as by `printable`."""
    told = traceback.TracebackException.from_exception(error, limit=-_FRAMES)
    waiting, known = [told], {id(told)}
    while waiting:
        one = waiting.pop()
        # Python has no public way to show another text.
        one._str = printable(one._str)  # type: ignore[attr-defined]
        notes = getattr(one, "__notes__", None)
        one.__notes__ = [printable(note) for note in notes[:_NOTES]] if isinstance(notes, list | tuple) else None
        near = [one.__cause__, one.__context__, *(one.exceptions or ())]
        waiting += [other for other in near if other is not None and id(other) not in known]
        known.update(map(id, waiting))
    return "".join(told.format()).rstrip()


def _as_string(text: object) -> str:
    if isinstance(text, bytes):
        return text.decode(errors="backslashreplace")
    try:
        return str(text)
    except BaseException:  # SystemExit from a foreign `__str__` would end the thread that logs.
        return type(text).__name__


def _escape(character: str) -> str:
    # Of the characters that Unicode calls "Other" or "Separator" only the space is printable.
    return character if character.isprintable() else character.encode("unicode_escape").decode()
