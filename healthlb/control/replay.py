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
        self._count = 0
        self._dropped = 0
        self._requests: dict[int, Any] = {}

    @property
    def is_whole(self) -> bool:
        """Whether the stream can be sent again from its beginning."""
        return not self._dropped and self._size <= self._limit

    def __len__(self) -> int:
        return self._count

    def append(self, request: Any) -> None:
        """Keep one request."""
        self._requests[self._count] = request
        self._count += 1
        self._size += size_of(request)

    def get(self, index: int) -> Any:
        """Return a request; where the log is no longer whole, let go of it and of those before it."""
        request = self._requests[index]
        if not self.is_whole:
            for sent in range(self._dropped, index + 1):
                del self._requests[sent]
            self._dropped = index + 1
        return request

    def commit(self) -> None:
        """Keep nothing but what is still to be sent."""
        self._size = self._limit + 1


def size_of(request: Any) -> int:
    """Return about how many bytes a request takes; none takes nothing, or a stream of them would never be too much."""
    if isinstance(request, bytes | bytearray | str):
        return len(request) or 1
    byte_size = getattr(request, "ByteSize", None)
    return int(byte_size()) or 1 if byte_size is not None else sys.getsizeof(request)


class Replay:
    """A caller's iterator of requests, for as many attempts as it takes. Any thread.

    An attempt that is over may still be waiting for the caller's iterator; what it gets then is the next one's.

    Args:
        requests: the iterator.
        limit: bytes that are kept.
    """

    def __init__(self, requests: Iterator[Any], limit: int) -> None:
        self._requests = requests
        self._changed = threading.Condition()
        self._log = RequestLog(limit)
        self._end: BaseException | None = None
        self._is_reading = False
        self._reader: Reader | None = None

    def rewind(self) -> bool:
        """End the attempt's reading; return whether another one can send all from the beginning."""
        with self._changed:
            self._reader = None
            self._changed.notify_all()
            return self._log.is_whole and (self._end is None or isinstance(self._end, StopIteration))

    def commit(self) -> None:
        """No other attempt will follow."""
        with self._changed:
            self._log.commit()

    def reader(self) -> Reader:
        """Return an iterator for one attempt; it is the only one from now on."""
        with self._changed:
            self._reader = Reader(self)
            return self._reader

    def read(self, reader: Reader, index: int) -> Any:
        """Return request number `index`; StopIteration where `reader` is no longer the one."""
        with self._changed:
            while reader is self._reader:
                if index < len(self._log):
                    return self._log.get(index)
                if self._end is not None:
                    raise self._end
                if self._is_reading:
                    self._changed.wait()
                elif self._log.is_whole:
                    self._read_next()
                else:
                    # Nothing will be sent again: what is left is the caller's own.
                    reader.rest = self._requests
                    break
            else:
                raise StopIteration
        return next(self._requests)

    def _read_next(self) -> None:
        self._is_reading = True
        # The caller's iterator may take its time, and others may have requests to send again meanwhile.
        self._changed.release()
        end: BaseException | None = None
        try:
            request = next(self._requests)
        except BaseException as error:  # as it came: StopIteration, or the caller's own error
            end = error
        finally:
            self._changed.acquire()
        self._is_reading = False
        if end is None:
            self._log.append(request)
        self._end = end
        self._changed.notify_all()


class Reader:
    """The requests, for one attempt.

    Args:
        replay: keeps them.

    Attributes:
        rest: those that are not kept, once there are such.
    """

    def __init__(self, replay: Replay) -> None:
        self.rest: Iterator[Any] | None = None
        self._replay = replay
        self._index = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self.rest is not None:
            return next(self.rest)
        request = self._replay.read(self, self._index)
        self._index += 1
        return request
