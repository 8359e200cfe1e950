"""Which answers say that a silence is over."""

from __future__ import annotations

import pytest

from healthlb.core.messages import SECOND, CheckEnded, Code, PingEnded
from healthlb.core.subchannel.silence import Silence, is_answer

NONE = {Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.CANCELLED}


@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("kind", [CheckEnded, PingEnded])
def test_any_status_of_a_server_is_an_answer_and_what_the_client_says_is_none(kind: type, code: Code) -> None:
    assert is_answer(kind(1, 1, code)) is (code not in NONE)


def test_a_check_that_could_not_be_sent_is_not_answered() -> None:
    assert not is_answer(CheckEnded(1, 1, Code.INTERNAL, is_unsent=True))


def test_an_answer_ends_a_silence_once() -> None:
    silence = Silence()
    silence.begin()

    assert silence.answered(took=1)
    assert not silence.answered(took=1)


def test_an_answer_that_took_half_a_second_ends_a_silence_too() -> None:
    silence = Silence()

    assert not silence.answered(took=SECOND // 2 - 1)
    assert silence.answered(took=SECOND // 2)
