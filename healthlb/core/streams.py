"""Named random streams: one per purpose, so that a new consumer never shifts another."""

from __future__ import annotations

import hashlib
import random


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
