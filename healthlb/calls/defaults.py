"""Defaults of a channel's arguments that can be told apart from the same value given by the caller."""

from __future__ import annotations

from healthlb.config import Failover


class _Default(str):
    """A text that is a default."""

    __slots__ = ()


DEFAULT_FAILOVER = Failover()
DEFAULT_SERVICE: str = _Default("")
