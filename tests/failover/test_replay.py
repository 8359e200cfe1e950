"""What is kept of a stream of requests."""

from __future__ import annotations

from healthlb.calls.replay import RequestLog, size_of


def log_of(*requests: bytes, limit: int) -> RequestLog:
    """Return a log of these."""
    log = RequestLog(limit)
    for request in requests:
        log.append(request)
    return log


def test_within_the_limit_all_are_kept() -> None:
    log = log_of(b"1234", b"567", limit=7)

    assert [log.get(0), log.get(1), log.get(0)] == [b"1234", b"567", b"1234"]
    assert log.is_whole
    assert log.count == 2


def test_past_the_limit_what_was_sent_is_let_go() -> None:
    log = log_of(b"1234", b"5678", b"9", limit=7)

    assert not log.is_whole
    assert [log.get(0), log.get(1)] == [b"1234", b"5678"]
    assert list(log._requests) == [2]
    assert log.get(2) == b"9"


def test_a_commit_keeps_what_is_still_to_be_sent() -> None:
    log = log_of(b"a", b"b", b"c", limit=100)
    log.get(0)
    log.commit()

    assert not log.is_whole
    assert [log.get(1), log.get(2)] == [b"b", b"c"]
    assert not log._requests


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
