"""Requests of a stream that may have to be sent again.

What was read is kept until it is too much; from then on no other attempt can take over.
"""

from __future__ import annotations

import sys
from typing import Any


class RequestLog:
    """The requests that were read, as long as they fit.

    Args:
        limit: bytes.

    Attributes:
        count: how many requests were read.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self.count = 0
        self._dropped = 0
        self._requests: dict[int, Any] = {}

    @property
    def is_whole(self) -> bool:
        """Whether the stream can be sent again from its beginning."""
        return not self._dropped and self._size <= self._limit

    def append(self, request: Any) -> None:
        """Keep one request."""
        self._requests[self.count] = request
        self.count += 1
        self._size += size_of(request)

    def get(self, index: int) -> Any:
        """Return a request; where the log is no longer whole, let go of it and of those before it."""
        request = self._requests[index]
        if not self.is_whole:
            for sent in range(self._dropped, index + 1):
                del self._requests[sent]
            self._dropped = index + 1
        return request

    def commit(self, sent: int = 0) -> None:
        """Keep nothing but what is still to be sent: all but the first `sent` requests."""
        self._size = self._limit + 1
        for index in range(self._dropped, sent):
            del self._requests[index]
        self._dropped = max(self._dropped, sent)


def size_of(request: Any) -> int:
    """Return about how many bytes a request takes; none takes nothing, or a stream of them would never be too much."""
    if isinstance(request, bytes | bytearray | str):
        return len(request) or 1
    byte_size = getattr(request, "ByteSize", None)
    return int(byte_size()) or 1 if byte_size is not None else sys.getsizeof(request)
