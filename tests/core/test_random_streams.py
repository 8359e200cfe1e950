from __future__ import annotations

from healthlb.core.random_streams import Streams


def draw(seed: int, *name: str | int) -> list[int]:
    stream = Streams(seed).stream(*name)
    return [stream.getrandbits(32) for _ in range(5)]


def test_equal_seeds_and_names_give_equal_streams() -> None:
    assert draw(1, "health", 3) == draw(1, "health", 3)


def test_names_and_seeds_tell_streams_apart() -> None:
    streams = [draw(1, "health", 3), draw(1, "health", 4), draw(1, "heartbeat", 3), draw(2, "health", 3)]

    assert len({tuple(stream) for stream in streams}) == 4


def test_a_new_consumer_shifts_no_other() -> None:
    streams = Streams(1)
    streams.stream("new").random()

    assert [streams.stream("old").getrandbits(32)] == draw(1, "old")[:1]


def test_a_late_stream_gives_the_same_numbers() -> None:
    late, stream = Streams(1).late("health", 3), Streams(1).stream("health", 3)

    assert [late.random() for _ in range(5)] == [stream.random() for _ in range(5)]


def test_streams_are_the_same_on_every_platform() -> None:
    assert draw(42, "health", 1)[:2] == PINNED


PINNED = [3455327783, 2576632502]
