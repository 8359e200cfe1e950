"""The default of a channel's service, which can be told apart from the same text given by the caller."""

from __future__ import annotations


class _Default(str):
    """A text that is a default."""

    __slots__ = ()


DEFAULT_SERVICE: str = _Default("")
