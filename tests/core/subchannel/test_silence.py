"""Which answers say that a silence is over."""

from __future__ import annotations

import pytest

from healthlb.core.messages import SECOND, CheckEnded, Code, PingEnded
from healthlb.core.subchannel.silence import Silence

NONE = {Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.CANCELLED}


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("kind", [CheckEnded, PingEnded])
def test_any_status_of_a_server_is_an_answer_and_what_the_client_says_is_none(kind: type, code: Code) -> None:
    silence = Silence()
    silence.begin()

    assert silence.ended(kind(1, 1, code), took=1) is (code not in NONE)
    assert silence.ended(kind(1, 1, Code.OK), took=1) is (code in NONE)


def test_a_check_that_could_not_be_sent_is_not_answered() -> None:
    silence = Silence()
    silence.begin()

    assert not silence.ended(CheckEnded(1, 1, Code.INTERNAL, is_unsent=True), took=1)


def test_an_answer_that_took_half_a_second_ends_a_silence_too() -> None:
    silence = Silence()

    assert not silence.ended(CheckEnded(1, 1, Code.OK), took=SECOND // 2 - 1)
    assert silence.ended(CheckEnded(1, 1, Code.OK), took=SECOND // 2)
