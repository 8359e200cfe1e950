"""Named random streams: one per purpose, so that a new consumer never shifts another."""

from __future__ import annotations

import hashlib
import random
from typing import Protocol


class Draws(Protocol):
    """Where jitter comes from: a `random.Random`, or a `LateStream`."""

    def random(self) -> float:
        """Return the next number, at least 0 and less than 1."""


class LateStream:
    """A stream that is made when its first number is drawn: that costs as much as all else of a subchannel.

    Args:
        streams: makes it.
        name: for which purpose.
    """

    __slots__ = ("_name", "_stream", "_streams")

    def __init__(self, streams: Streams, name: tuple[str | int, ...]) -> None:
        self._streams = streams
        self._name = name
        self._stream: random.Random | None = None

    def random(self) -> float:
        """Return the next number, at least 0 and less than 1."""
        if self._stream is None:
            self._stream = self._streams.stream(*self._name)
        return self._stream.random()


class Streams:
    """Hands out `random.Random` objects that depend on the seed and the name only.

    Args:
        seed: any integer; equal seeds give equal streams on every platform.
    """

    __slots__ = ("_seed",)

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def stream(self, *name: str | int) -> random.Random:
        """Return a new stream for this purpose."""
        text = "/".join(str(part) for part in (self._seed, *name))
        return random.Random(hashlib.blake2b(text.encode(), digest_size=16).digest())

    def late(self, *name: str | int) -> LateStream:
        """Return the stream for this purpose, made once it is needed."""
        return LateStream(self, name)
