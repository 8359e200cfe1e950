"""When a Watch is begun again, and what its caller hears."""

from __future__ import annotations

import random

from healthlb.config import Backoff
from healthlb.core.messages import SECOND, Code
from healthlb.core.subchannel.watch_restart import Following

STEADY = Backoff(initial=1.0, multiplier=2.0, jitter=0.0, maximum=8.0)


def following() -> Following:
    return Following(STEADY, random.Random(1))


def test_an_equal_status_is_no_news() -> None:
    watch = following()
    watch.started(0)

    assert not watch.has_spoken
    assert [watch.is_news(status) for status in (1, 1, 2, 1)] == [True, False, True, True]
    assert watch.has_spoken


def test_the_end_of_a_watch_that_has_spoken_is_not_told() -> None:
    watch = following()
    watch.started(0)
    watch.is_news(1)

    assert watch.ended(Code.UNAVAILABLE, 3 * SECOND) == (SECOND // 10, False)
    watch.started(4 * SECOND)
    assert not watch.is_news(1)
    assert watch.ended(Code.OK, 14 * SECOND) == (0, False)


def test_a_watch_without_a_word_is_told_once_for_each_code() -> None:
    watch = following()
    ends = []
    for code in (Code.UNAVAILABLE, Code.UNAVAILABLE, Code.UNIMPLEMENTED):
        watch.started(0)
        ends.append(watch.ended(code, SECOND))

    assert ends == [(SECOND, True), (2 * SECOND, False), (4 * SECOND, True)]


def test_what_is_said_after_a_failure_is_news_and_begins_the_backoff_anew() -> None:
    watch = following()
    watch.started(0)
    watch.is_news(1)
    watch.ended(Code.UNAVAILABLE, 20 * SECOND)
    for _ in range(3):
        watch.started(0)
        watch.ended(Code.UNAVAILABLE, 0)
    watch.started(0)

    assert watch.is_news(1)
    watch.ended(Code.UNAVAILABLE, 20 * SECOND)
    watch.started(0)
    assert watch.ended(Code.UNAVAILABLE, 0) == (SECOND, True)


def test_a_watch_that_says_too_much_is_begun_again() -> None:
    watch = following()
    watch.started(0)

    assert not any(watch.is_too_much(SECOND) for _ in range(1000))
    assert watch.is_too_much(SECOND)
    watch.started(2 * SECOND)
    assert [watch.is_too_much(2 * SECOND) for _ in range(201)] == [False] * 200 + [True]
