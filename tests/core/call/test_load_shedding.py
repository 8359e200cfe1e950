"""While some hang and the others have too much to do, the calls of those that hang are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from healthlb.core.call.call_attempts import FIRST
from healthlb.core.call.load_shedding import Refusal, SharingPicker, with_share
from healthlb.core.load import Load, Subchannel
from healthlb.core.messages import Code, Endpoint, Fail
from healthlb.core.pickers import ANY_CALL, ANY_REPEATABLE_CALL, CallInfo
from healthlb.core.pickers.round_robin import RoundRobin
from healthlb.core.random_streams import Streams
from healthlb.core.shedding import Shedding
from tests.core.call.test_call_attempts import Attempts, Pool

READY = tuple(Subchannel(number, 1, Endpoint(f"{number}:1")) for number in (1, 2, 3))
CALL = CallInfo("/svc/Method", (), 1, frozenset(), False)


def shedding(share: float = 0.5, hung: int = 3, total: int = 6) -> Shedding:
    return Shedding(hung, total, share, Streams(1).stream("shedding").random)


def in_turn(*numbers: float) -> Shedding:
    """Half of the calls, and these are drawn."""
    return Shedding(3, 6, 0.5, iter(numbers).__next__)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.9])
def test_the_share_of_who_hangs_is_refused_and_the_others_have_theirs(share: float) -> None:
    picker = SharingPicker(RoundRobin().build(READY), shedding(share))
    picks = [picker.pick(CALL) for _ in range(12_000)]
    refused = sum(isinstance(pick, Refusal) for pick in picks)
    others = Counter(pick.address for pick in picks if pick and not isinstance(pick, Refusal))

    # Five standard deviations.
    assert abs(refused - 12_000 * share) <= 5 * (12_000 * share * (1 - share)) ** 0.5
    assert max(others.values()) - min(others.values()) <= 1


@pytest.mark.parametrize("kinds", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_programs_that_make_calls_of_several_kinds_in_turn_lose_of_each_as_many(kinds: int, share: float) -> None:
    picker = SharingPicker(RoundRobin().build(READY), shedding(share))
    refused = Counter(at % kinds for at in range(1_000 * kinds) if isinstance(picker.pick(CALL), Refusal))

    assert all(abs(refused[kind] - 1_000 * share) <= 5 * (1_000 * share * (1 - share)) ** 0.5 for kind in range(kinds))


def test_quick_first_picks_come_again() -> None:
    picker = SharingPicker(RoundRobin().build(READY), in_turn(0.4, 0.5, 0.0))

    assert [picker.pick(call) for call in (ANY_CALL, ANY_REPEATABLE_CALL) * 5] == [None] * 10
    assert [isinstance(picker.pick(CALL), Refusal) for _ in range(3)] == [True, False, True]


@pytest.mark.parametrize("call", [CALL._replace(attempt=2), CALL._replace(exclude=frozenset({1}))])
def test_what_was_made_before_is_not_refused(call: CallInfo) -> None:
    picker = SharingPicker(RoundRobin().build(READY), shedding(1.0))

    assert not any(isinstance(picker.pick(call), Refusal) for _ in range(12))


def test_nothing_stands_between_where_no_call_is_refused() -> None:
    picker = RoundRobin().build(READY)

    assert with_share(picker, None) is picker
    assert isinstance(with_share(picker, shedding()), SharingPicker)


@pytest.mark.parametrize("wait_for_ready", [False, True])
def test_a_refused_call_ends_at_once_and_is_drawn_once(wait_for_ready: bool) -> None:
    pool = Pool(*READY)
    half = in_turn(0.1, 0.9, 0.2, 0.8, 0.3, 0.7)
    pool.holder.snapshot = replace(pool.holder.snapshot, shedding=half, picker=SharingPicker(pool.picker, half))
    calls = [Attempts(pool) for _ in range(6)]
    for call in calls:
        call.wait_for_ready = wait_for_ready
    picks = [[call.try_pick(FIRST) for _ in range(3)] if call.try_pick(FIRST) is None else [] for call in calls]
    refused = [call for call, pick in zip(calls, picks, strict=True) if pick]

    assert len(refused) == 3
    assert all(pick in ([], [None] * 3) for pick in picks)
    words = (
        "3 of 6 subchannels hang, and the others have too much to do for their calls, so a part of the calls is refused (50.0%). "
        "What to do: make the call again in some seconds, not at once: nothing was sent, so that is safe; see in subchannels() who hangs; "
        "add backends or lower the load; "
        "or pass outliers=Outliers(load_shedding=False) to have these calls made by the others, as far as they can"
    )
    assert [call.failure(pool.holder.snapshot) for call in refused] == [Fail(Code.UNAVAILABLE, words)] * 3
    assert pool.admission.limiter.shed == 3


def test_a_call_that_found_no_room_at_first_may_be_refused() -> None:
    class Taken(Load):
        """Was full when the call was to be counted in, and is not a moment later."""

        def start(self) -> bool:
            return False

    taken, refusal = Subchannel(1, 1, Endpoint("1:1"), load=Taken()), Refusal("they hang")

    class Picker:
        """Picks who was full, and refuses the call when it comes again."""

        picks = [refusal, taken]  # noqa: RUF012

        def pick(self, call: CallInfo) -> Subchannel:
            return self.picks.pop()

    pool = Pool(taken)
    pool.holder.snapshot = replace(pool.holder.snapshot, shedding=shedding(), picker=Picker())
    call = Attempts(pool)

    assert call.try_pick(FIRST) is None
    assert call.failure(pool.holder.snapshot) == Fail(Code.UNAVAILABLE, "they hang")
    assert (call.refusal, pool.admission.limiter.shed) == (refusal, 1)
