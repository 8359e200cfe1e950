"""What is kept of a stream of requests, and that the caller's iterator is read no further than is asked for."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from healthlb.aio.replay import AsyncReplay
from healthlb.control.replay import Replay, RequestLog, size_of
from tests.backends.clients import eventually


class Spied:
    """An iterator that counts how often it was asked."""

    def __init__(self, requests: Iterator[Any]) -> None:
        """Pass these on."""
        self._requests = requests
        self.asked = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.asked += 1
        return next(self._requests)


class AsyncSpied(Spied):
    """The same, async."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self  # type: ignore[return-value]

    async def __anext__(self) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        try:
            return next(self._requests)
        except StopIteration:
            raise StopAsyncIteration from None


def letters(text: str) -> list[bytes]:
    """Return a request for each letter."""
    return [letter.encode() for letter in text]


# --- sync -------------------------------------------------------------------------------------------


def test_nothing_is_read_that_was_not_asked_for() -> None:
    requests = Spied(iter(letters("abcdef")))
    replay = Replay(requests, 100)
    first = replay.reader()

    assert requests.asked == 0
    assert [next(first), next(first)] == letters("ab")
    assert requests.asked == 2
    assert replay.rewind()
    second = replay.reader()
    assert [next(second), next(second)] == letters("ab")
    assert requests.asked == 2
    assert list(second) == letters("cdef")
    assert requests.asked == 7


def test_the_end_is_asked_for_once() -> None:
    """An iterator over a queue would wait for ever."""
    for limit in (0, 100):
        requests = Spied(iter(letters("ab")))
        reader = Replay(requests, limit).reader()
        assert list(reader) == letters("ab")
        assert requests.asked == 3


def test_past_the_limit_nothing_is_kept() -> None:
    replay = Replay(iter([b"1234", b"5678", b"9"]), 7)
    reader = replay.reader()
    next(reader)

    assert replay.rewind()
    assert list(replay.reader()) == [b"1234", b"5678", b"9"]
    assert not replay.rewind()


def test_a_commit_keeps_what_is_still_to_be_sent_again() -> None:
    replay = Replay(iter(letters("abcdef")), 100)
    first = replay.reader()
    assert [next(first) for _ in range(4)] == letters("abcd")
    assert replay.rewind()
    second = replay.reader()
    assert next(second) == b"a"
    replay.commit()

    assert list(second) == letters("bcdef")
    assert not replay.rewind()


def test_an_iterator_that_broke_breaks_no_second_attempt() -> None:
    def requests() -> Iterator[bytes]:
        yield b"a"
        raise KeyError

    replay = Replay(requests(), 100)
    reader = replay.reader()
    assert next(reader) == b"a"
    with pytest.raises(KeyError):
        next(reader)

    assert not replay.rewind()


def test_a_stream_that_has_ended_is_sent_again_with_its_end() -> None:
    replay = Replay(iter(letters("ab")), 100)
    assert list(replay.reader()) == letters("ab")

    assert replay.rewind()
    assert list(replay.reader()) == letters("ab")


def test_an_attempt_that_is_over_reads_for_the_next_one() -> None:
    """Its thread waits in the caller's iterator; the next attempt has requests to send again meanwhile."""
    written: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    replay = Replay(iter(written.get, None), 5)
    first = replay.reader()
    old: list[bytes] = []
    thread = threading.Thread(target=lambda: old.extend(first))
    written.put(b"a")
    thread.start()
    eventually(lambda: old == [b"a"])
    assert replay.rewind()
    second = replay.reader()

    assert next(second) == b"a"
    for request in (b"b" * 10, b"c", None):
        written.put(request)
    assert list(second) == [b"b" * 10, b"c"]
    thread.join(10)
    assert old == [b"a"]


def test_readers_share_one_iterator_and_lose_nothing() -> None:
    """Attempts that take over from one another while a slow generator runs: it is never entered twice."""

    def requests() -> Iterator[int]:
        yield from range(2000)

    replay = Replay(requests(), 10**9)
    threads = []
    for _ in range(20):
        replay.rewind()
        reader = replay.reader()
        threads.append(threading.Thread(target=lambda reader=reader: list(itertools.islice(reader, 90))))
        threads[-1].start()
    replay.rewind()

    assert list(replay.reader()) == list(range(2000))
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_sizes() -> None:
    class Message:
        def __init__(self, size: int) -> None:
            self._size = size

        def ByteSize(self) -> int:
            return self._size

    # A stream of empty messages must not grow for ever.
    assert [size_of(empty) for empty in (b"", "", Message(0))] == [1, 1, 1]
    assert [size_of(full) for full in (b"abc", "abc", bytearray(3), Message(3))] == [3, 3, 3, 3]
    assert size_of(object()) > 0


def test_a_log_lets_go_of_what_was_sent() -> None:
    log = RequestLog(2)
    for request in letters("abc"):
        log.append(request)

    assert not log.is_whole
    assert [log.get(index) for index in range(3)] == letters("abc")
    assert len(log) == 3
    with pytest.raises(KeyError):
        log.get(0)


# --- async ------------------------------------------------------------------------------------------


async def some(reader: AsyncIterator[Any], count: int) -> list[Any]:
    """Return the next requests."""
    return [await anext(reader) for _ in range(count)]


async def rest(reader: AsyncIterator[Any]) -> list[Any]:
    """Return all that are left."""
    return [request async for request in reader]


@pytest.mark.parametrize("kind", [Spied, AsyncSpied])
async def test_async_nothing_is_read_that_was_not_asked_for(kind: type[Spied]) -> None:
    requests = kind(iter(letters("abcdef")))
    replay = AsyncReplay(requests, 100)
    first = replay.reader()

    assert requests.asked == 0
    assert await some(first, 2) == letters("ab")
    assert requests.asked == 2
    assert replay.rewind()
    second = replay.reader()
    assert await some(second, 2) == letters("ab")
    assert requests.asked == 2
    assert await rest(second) == letters("cdef")
    assert requests.asked == 7
    assert await rest(first) == []


@pytest.mark.parametrize("kind", [Spied, AsyncSpied])
async def test_async_past_the_limit_nothing_is_kept(kind: type[Spied]) -> None:
    replay = AsyncReplay(kind(iter([b"1234", b"5678", b"9"])), 7)
    await some(replay.reader(), 1)

    assert replay.rewind()
    assert await rest(replay.reader()) == [b"1234", b"5678", b"9"]
    assert not replay.rewind()


async def test_async_a_commit_keeps_what_is_still_to_be_sent_again() -> None:
    replay = AsyncReplay(AsyncSpied(iter(letters("abcdef"))), 100)
    assert await some(replay.reader(), 4) == letters("abcd")
    assert replay.rewind()
    second = replay.reader()
    assert await some(second, 1) == [b"a"]
    replay.commit()

    assert await rest(second) == letters("bcdef")


async def test_async_an_attempt_that_is_cancelled_leaves_the_generator_alone() -> None:
    go_on = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        yield b"a"
        await go_on.wait()
        yield b"b"

    replay = AsyncReplay(requests(), 100)
    reading = asyncio.ensure_future(rest(replay.reader()))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert replay.rewind()
    second = replay.reader()

    assert await some(second, 1) == [b"a"]
    go_on.set()
    assert await rest(second) == [b"b"]


async def test_async_closing_ends_the_generator() -> None:
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        try:
            await asyncio.get_running_loop().create_future()
            yield b""
        finally:
            ended.set()

    replay = AsyncReplay(requests(), 100)
    reading = asyncio.ensure_future(rest(replay.reader()))
    await asyncio.sleep(0.01)
    reading.cancel()
    replay.close()
    await asyncio.wait_for(ended.wait(), 10)
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize("kind", [Spied, AsyncSpied])
async def test_async_an_iterable_that_broke_breaks_no_second_attempt(kind: type[Spied]) -> None:
    def requests() -> Iterator[bytes]:
        yield b"a"
        raise KeyError

    replay = AsyncReplay(kind(requests()), 100)
    with pytest.raises(KeyError):
        await rest(replay.reader())

    assert not replay.rewind()
