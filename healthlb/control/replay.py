"""Requests of a stream that may have to be sent again.

The one rule: the caller's iterator is read no further than an attempt asks, and what was read is kept until it is
too much; from then on no other attempt can take over.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any


class RequestLog:
    """The requests that were read, as long as they fit.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._requests: list[Any] = []
        self._dropped = 0

    @property
    def is_whole(self) -> bool:
        """Whether the stream can be sent again from its beginning."""
        return not self._dropped and self._size <= self._limit

    def __len__(self) -> int:
        return self._dropped + len(self._requests)

    def append(self, request: Any) -> None:
        """Keep one request, or let all go if that is too much."""
        self._requests.append(request)
        self._size += size_of(request)

    def get(self, index: int) -> Any:
        """Return a request; where the log is no longer whole, only the latest is there."""
        request = self._requests[index - self._dropped]
        if not self.is_whole:
            self._dropped += len(self._requests)
            self._requests.clear()
        return request

    def commit(self) -> None:
        """Keep nothing any more."""
        self._size = self._limit + 1


def size_of(request: Any) -> int:
    """Return about how many bytes a request takes."""
    if isinstance(request, bytes | bytearray | str):
        return len(request)
    byte_size = getattr(request, "ByteSize", None)
    return int(byte_size()) if byte_size is not None else sys.getsizeof(request)


class Replay:
    """A caller's iterator of requests, for as many attempts as it takes. Any thread.

    Args:
        requests: the iterator.
        limit: bytes that are kept.
    """

    def __init__(self, requests: Iterator[Any], limit: int) -> None:
        self._requests = requests
        self._lock = threading.Lock()
        self._log = RequestLog(limit)
        self._end: BaseException | None = None

    @property
    def is_whole(self) -> bool:
        """Whether another attempt can send it from its beginning."""
        return self._log.is_whole

    def commit(self) -> None:
        """No other attempt will follow."""
        self._log.commit()

    def reader(self) -> Iterator[Any]:
        """Return an iterator for one attempt."""
        return _Reader(self)

    def read(self, index: int) -> Any:
        """Return request number `index`; only one reader at a time waits for the caller's iterator."""
        with self._lock:
            if index < len(self._log):
                return self._log.get(index)
            if self._end is None:
                try:
                    self._log.append(next(self._requests))
                except BaseException as end:  # as it came: StopIteration, or the caller's own error
                    self._end = end
                else:
                    return self._log.get(index)
            raise self._end


class _Reader:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._index = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        request = self._replay.read(self._index)
        self._index += 1
        return request
