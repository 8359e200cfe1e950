"""One call's attempts, whoever makes them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from healthlb.config import Failover, RetryBudget, RetryThrottle
from healthlb.config.outliers import Outliers
from healthlb.config.overload import Overload
from healthlb.core.call.budget import NoBudget, Throttle, make_budget
from healthlb.core.call.call_attempts import (
    FINISH_FIRST,
    FIRST,
    CallAttempts,
    FailureClassifier,
    MethodPolicy,
    call_end_hook,
    count_out,
    failure,
    parse_pushback,
    winner,
)
from healthlb.core.call.failover import Cancel, Finish, Start, WakeAt, call_policy
from healthlb.core.call.overload import MAX_IN_FLIGHT_EACH, Admission
from healthlb.core.load import Subchannel, Verdict
from healthlb.core.messages import SECOND, Code, ConnectivityState, Endpoint, Fail
from healthlb.core.pickers import CallEnd, CallInfo
from healthlb.core.pickers.checked import FailedPick
from healthlb.core.snapshot import Snapshot

READY, FAILURE, SHUTDOWN = (
    ConnectivityState.READY,
    ConnectivityState.TRANSIENT_FAILURE,
    ConnectivityState.SHUTDOWN,
)
SECOND_TRY = Start(2, frozenset({1}), 1)


class First:
    """Picks the first that was not tried, else the first; notes what it was asked."""

    def __init__(self, subs: Sequence[Subchannel], then: Callable[[], object] = lambda: None) -> None:
        self.subs = subs
        self.then = then
        self.asked: list[CallInfo] = []

    def pick(self, call: CallInfo) -> Subchannel | None:
        self.asked.append(call)
        self.then()
        untried = [sub for sub in self.subs if sub.id not in call.exclude]
        return next(iter(untried or self.subs), None)


class Pool:
    """A channel's subchannels."""

    def __init__(self, *subs: Subchannel, overload: Overload | None = None) -> None:
        self.admission = Admission(overload)
        self.is_closed = False
        self.told: list[tuple[int, Code, bool]] = []
        self.picker = First(subs)
        self.holder = SimpleNamespace(snapshot=Snapshot(1, READY, subs, self.picker))

    def call_failed(self, sub: Subchannel, code: Code, *, is_refused: bool) -> None:
        self.told.append((sub.id, code, is_refused))

    def refuse(self, cap: str, snapshot: Snapshot) -> Fail:
        return self.admission.refusal(cap, snapshot)


class Attempts(CallAttempts):
    """A call with a deadline."""

    deadline_at = 100 * SECOND
    jitter = random.Random(1)

    def __init__(self, pool: Pool, *, is_strict: bool = False, needs_call: bool = False, **failover: Any) -> None:
        policy = call_policy(Failover(idempotent=True, **failover), True)
        self.method = SimpleNamespace(
            subchannels=pool,
            policy=MethodPolicy(policy, None, False, is_strict, 0),
            budget=NoBudget(),
            classifier=FailureClassifier(Outliers()),
            name="/p.S/M",
            needs_call=needs_call,
            is_hedged=policy.is_hedged,
        )
        self.metadata = [("k", "v")]
        self.wait_for_ready = False
        self.plan = None
        self.is_committed = self.is_cancelled = False
        self.refused_in = -1
        self.refusal = None
        self.cap = ""


def sub(number: int) -> Subchannel:
    return Subchannel(number, 1, Endpoint(f"10.0.0.{number}:1"))


@pytest.fixture
def pool() -> Pool:
    return Pool(sub(1), sub(2))


def pick(attempts: Attempts, start: Start = FIRST) -> Subchannel:
    picked = attempts.try_pick(start)
    assert picked is not None
    return picked


# --- picking ---------------------------------------------------------------------------------------


def test_a_pick_counts_the_call_in_and_asks_for_no_more_than_the_picker_needs(pool: Pool) -> None:
    picked = pick(Attempts(pool))
    pick(Attempts(pool, needs_call=True))

    assert (picked.id, picked.load.in_flight) == (1, 2)
    assert pool.picker.asked == [
        CallInfo(is_repeatable=True),
        CallInfo("/p.S/M", (("k", "v"),), 1, frozenset(), is_repeatable=True),
    ]


def test_a_later_attempt_goes_elsewhere_and_the_plan_knows_where(pool: Pool) -> None:
    attempts = Attempts(pool)

    assert attempts.attempt_failed(FIRST, pick(attempts), Code.UNAVAILABLE, 0) == [SECOND_TRY]
    assert pick(attempts, SECOND_TRY).id == 2
    assert attempts.attempt_failed(SECOND_TRY, pick(attempts, SECOND_TRY), Code.UNAVAILABLE, 0) == [
        Start(3, frozenset({1, 2}), 2)
    ]


def test_a_pick_that_lost_a_race_is_made_again_from_the_next_snapshot(pool: Pool) -> None:
    old, new = sub(1), sub(2)
    old.load.retire(lambda: None)
    following = Snapshot(2, READY, (new,), First((new,)))
    pool.holder.snapshot = Snapshot(
        1, READY, (old,), First((old,), lambda: setattr(pool.holder, "snapshot", following))
    )

    assert pick(Attempts(pool)) is new


@pytest.mark.parametrize("is_full", [False, True], ids=["at the first pick", "where the first choice is full"])
def test_a_picker_that_has_failed_ends_the_call_even_with_wait_for_ready(is_full: bool) -> None:
    first = sub(1)
    pool = Pool(first, overload=Overload(max_in_flight_per_subchannel=1))
    if is_full:
        first = Subchannel(1, 1, first.endpoint, load=pool.admission.limiter.make_load())
        assert first.load.start()
    picks = iter([*([first] if is_full else []), FailedPick("it broke"), None])

    class Failing:
        def pick(self, call: CallInfo) -> Subchannel | None:
            return next(picks)

    pool.holder.snapshot = Snapshot(1, READY, (first,), Failing())
    attempts = Attempts(pool)
    attempts.wait_for_ready = True

    assert attempts.try_pick(FIRST) is None
    assert attempts.failure(pool.holder.snapshot) == Fail(Code.INTERNAL, "it broke")
    assert attempts.try_pick(FIRST) is None
    assert attempts.failure(pool.holder.snapshot) is None


def test_a_lost_race_without_another_snapshot_waits(pool: Pool) -> None:
    for one in pool.picker.subs:
        one.load.retire(lambda: None)
    attempts = Attempts(pool)

    assert attempts.try_pick(FIRST) is None
    assert attempts.failure(pool.holder.snapshot) is None


def test_a_hedge_takes_none_that_was_tried(pool: Pool) -> None:
    attempts = Attempts(pool)

    assert attempts.try_pick_beside(Start(2, frozenset({1, 2}), 0)) is None
    assert [one.load.in_flight for one in pool.picker.subs] == [0, 0]
    found = attempts.try_pick_beside(SECOND_TRY)
    assert found is not None
    assert found.id == 2
    pool.picker.subs = ()
    assert attempts.try_pick_beside(SECOND_TRY) is None


def test_what_the_client_itself_made_fail_says_nothing_of_the_backend() -> None:
    only = sub(1)
    pool = Pool(only)
    attempts = Attempts(pool)
    attempts.attempt_failed(FIRST, pick(attempts), Code.UNAVAILABLE, 0, is_local=True)

    assert pool.told == []
    assert (only.load.in_flight, only.load.failures, only.load.abandoned) == (0, 0, 1)


def test_the_one_that_refused_is_not_asked_again_before_the_core_has_heard() -> None:
    only = sub(1)
    pool = Pool(only)
    attempts = Attempts(pool)
    attempts.attempt_failed(FIRST, pick(attempts), Code.UNAVAILABLE, 0, is_refused=True)
    again = Start(2, frozenset({1}), 0)

    assert attempts.try_pick(again) is None
    pool.holder.snapshot = Snapshot(2, READY, (only,), pool.picker)
    assert attempts.try_pick(again) is only


def test_a_refusal_by_one_that_is_out_already_keeps_nobody_waiting(pool: Pool) -> None:
    attempts = Attempts(pool)
    picked = pick(attempts)
    pool.holder.snapshot = Snapshot(1, READY, tuple(pool.picker.subs[1:]), First(pool.picker.subs[1:]))
    attempts.attempt_failed(FIRST, picked, Code.UNAVAILABLE, 0, is_refused=True)

    assert attempts.refused_in == -1


def test_a_full_subchannel_is_passed_over_and_a_full_channel_says_so() -> None:
    overload = Overload(max_in_flight_per_subchannel=1)
    pool = Pool(overload=overload)
    subs = [
        Subchannel(number, 1, Endpoint(f"10.0.0.{number}:1"), load=pool.admission.limiter.make_load())
        for number in (1, 2)
    ]
    pool.picker.subs = subs
    pool.holder.snapshot = Snapshot(1, READY, tuple(subs), pool.picker)
    attempts = Attempts(pool)

    assert [pick(attempts).id, pick(attempts).id] == [1, 2]
    assert attempts.try_pick(FIRST) is None
    assert attempts.cap == MAX_IN_FLIGHT_EACH
    assert attempts.failure(pool.holder.snapshot) == pool.admission.refusal(MAX_IN_FLIGHT_EACH, pool.holder.snapshot)


def test_a_full_one_that_closes_meanwhile_is_no_cap() -> None:
    overload = Overload(max_in_flight_per_subchannel=1)
    pool = Pool(overload=overload)
    full, gone = (Subchannel(n, 1, Endpoint(f"10.0.0.{n}:1"), load=pool.admission.limiter.make_load()) for n in (1, 2))
    full.load.start()
    gone.load.retire(lambda: None)
    pool.picker.subs = (full, gone)
    pool.holder.snapshot = Snapshot(1, READY, (full, gone), pool.picker)
    attempts = Attempts(pool)

    assert attempts.try_pick(FIRST) is None
    assert attempts.cap == ""


def test_nothing_to_pick_waits_or_fails_by_the_channels_state() -> None:
    failing = Snapshot(1, FAILURE, error="NXDOMAIN")

    assert failure(Snapshot(1, READY), wait_for_ready=False) is None
    assert failure(failing, wait_for_ready=True) is None
    assert failure(failing, wait_for_ready=False) == failing.failure
    assert failure(Snapshot(1, SHUTDOWN), wait_for_ready=True) == Fail(Code.CANCELLED, "Channel closed!")


# --- ends ------------------------------------------------------------------------------------------


def test_a_first_success_makes_no_plan(pool: Pool) -> None:
    attempts = Attempts(pool)
    picked = pick(attempts)

    assert attempts.succeeded(FIRST, picked, 7) == FINISH_FIRST
    assert attempts.plan is None
    assert (picked.load.in_flight, picked.load.last_success_at) == (0, 7)


def test_a_success_beside_others_cancels_them(pool: Pool) -> None:
    attempts = Attempts(pool, hedging_delay=0.01)
    assert attempts.begin(0) == [WakeAt(10_000_000)]
    first = pick(attempts)
    assert attempts.woke(10_000_000) == [Start(2, frozenset({1}), 1), WakeAt(20_000_000)]
    second = pick(attempts, SECOND_TRY)
    actions = attempts.succeeded(SECOND_TRY, second, 11_000_000)

    assert actions == [Cancel(1), Finish(2)]
    assert winner(actions) == 2
    attempts.superseded(first)
    assert (first.load.backend_failures, first.load.lates) == (1, 1)
    assert pool.told == [(1, Code.DEADLINE_EXCEEDED, False)]


def test_hedges_wait_where_most_backends_are_late() -> None:
    one = sub(1)
    attempts = Attempts(Pool(one), hedging_delay=0.01)
    attempts.method.budget = make_budget(RetryBudget())
    attempts.begin(0)
    pick(attempts)
    for _ in range(2):
        assert attempts.method.budget.hedges.allows(1, (one,), 0)

    assert attempts.woke(10_000_000) == [WakeAt(110_000_000)]
    assert attempts.woke(15_000_000) == [WakeAt(110_000_000)]
    assert attempts.woke(110_000_000 + 10 * SECOND)[0] == Start(2, frozenset({1}), 1)


def test_no_call_is_sent_twice_while_the_fleet_is_strained(pool: Pool) -> None:
    attempts = Attempts(pool, hedging_delay=0.01)
    attempts.begin(0)
    first = pick(attempts)
    pool.admission.limiter.is_strained = True

    assert attempts.woke(10_000_000) == [WakeAt(110_000_000)]
    assert not attempts.rescue(FIRST, first, 20_000_000)
    assert attempts.attempt_failed(FIRST, first, Code.UNAVAILABLE, 30_000_000) == [Finish(1)]


def test_what_was_on_a_lost_connection_is_sent_again_while_the_fleet_is_strained(pool: Pool) -> None:
    """Its backend does that work no more, so another attempt is no more work than the fleet had."""
    attempts = Attempts(pool)
    first = pick(attempts)
    pool.admission.limiter.is_strained = True

    assert attempts.attempt_failed(FIRST, first, Code.UNAVAILABLE, 0, is_lost=True) == [Start(2, frozenset({1}), 1)]


def test_what_a_backend_refuses_that_does_no_work_is_sent_again_while_the_fleet_is_strained(pool: Pool) -> None:
    """Who is ejected comes back under strain; a call that it fails at once is no more work than the fleet had."""
    pool.admission.limiter.is_strained = True
    starts = []
    for _ in range(11):
        attempts = Attempts(pool)
        first = pick(attempts)
        starts.append(isinstance(attempts.attempt_failed(FIRST, first, Code.UNAVAILABLE, 0)[0], Start))

    assert starts == [False] * 9 + [True] * 2


def test_who_does_some_work_or_is_late_does_not_only_fail() -> None:
    one = sub(1)

    def ends(*verdicts: Verdict) -> bool:
        for verdict in verdicts:
            assert one.load.start()
            one.load.fail(verdict)
        return one.load.only_fails

    assert not ends(*[Verdict.FAILURE] * 9)
    assert ends(Verdict.FAILURE)
    assert not ends(Verdict.ANSWER)
    assert not ends(*[Verdict.LATE] * 10, *[Verdict.FAILURE] * 9)
    assert ends(Verdict.FAILURE)
    assert one.load.start()
    one.load.succeed(0)
    assert not one.load.only_fails


def test_what_never_left_is_sent_while_the_fleet_is_strained(pool: Pool) -> None:
    attempts = Attempts(pool)
    first = pick(attempts)
    pool.admission.limiter.is_strained = True

    assert attempts.attempt_failed(FIRST, first, Code.UNAVAILABLE, 0, is_refused=True) == [Start(2, frozenset({1}), 0)]


def test_a_skipped_hedge_leaves_the_call_to_those_under_way(pool: Pool) -> None:
    attempts = Attempts(pool, hedging_delay=0.01)
    attempts.begin(0)
    attempts.woke(10_000_000)

    assert attempts.skipped(SECOND_TRY, 10_000_000) == []
    assert winner([SECOND_TRY]) == 0


def test_what_says_nothing_of_a_backend_is_no_strike(pool: Pool) -> None:
    classifier = FailureClassifier(Outliers(codes=("INTERNAL", "DEADLINE_EXCEEDED")))
    picked = sub(1)
    for _ in range(5):
        picked.load.start()

    assert not classifier.failed(picked, Code.NOT_FOUND, is_refused=False)
    assert classifier.failed(picked, Code.UNAVAILABLE, is_refused=False)
    assert (picked.load.backend_failures, picked.load.failures) == (0, 2)
    assert classifier.failed(picked, Code.INTERNAL, is_refused=False)
    assert classifier.failed(picked, Code.DEADLINE_EXCEEDED, is_refused=False)
    assert (picked.load.backend_failures, picked.load.lates) == (2, 1)
    assert not classifier.failed(picked, Code.INTERNAL, is_refused=True)
    assert picked.load.backend_failures == 2


def test_without_outliers_nobody_is_superseded() -> None:
    picked = sub(1)
    FailureClassifier(None).superseded(picked)

    assert picked.load.superseded == 0


def test_the_core_hears_of_what_may_be_the_connections_fault(pool: Pool) -> None:
    attempts = Attempts(pool)
    attempts.attempt_failed(FIRST, pick(attempts), Code.UNAVAILABLE, 0)
    attempts.attempt_failed(FIRST, pick(attempts), Code.NOT_FOUND, 0)

    assert pool.told == [(1, Code.UNAVAILABLE, False)]


def test_a_call_that_its_caller_cancelled_says_nothing_and_ends(pool: Pool) -> None:
    attempts = Attempts(pool)
    picked = pick(attempts)
    attempts.is_cancelled = True

    assert attempts.attempt_failed(FIRST, picked, Code.CANCELLED, 0) == (Finish(1),)
    assert (picked.load.in_flight, picked.load.failures) == (0, 0)


@pytest.mark.parametrize("why", ["committed", "closed"])
def test_no_other_attempt_takes_over(pool: Pool, why: str) -> None:
    attempts = Attempts(pool)
    if why == "committed":
        attempts.is_committed = True
    else:
        pool.is_closed = True

    assert attempts.attempt_failed(FIRST, pick(attempts), Code.UNAVAILABLE, 0) == (Finish(1),)


@pytest.mark.parametrize(("is_strict", "previous"), [(False, 0), (True, 1)])
def test_a_refused_attempt_never_left_unless_only_proof_counts(pool: Pool, is_strict: bool, previous: int) -> None:
    attempts = Attempts(pool, is_strict=is_strict)
    actions = attempts.attempt_failed(FIRST, pick(attempts), Code.UNAVAILABLE, 0, is_refused=True)

    assert actions == [Start(2, frozenset({1}), previous)]


def test_an_attempt_on_a_hung_backend_is_given_up_where_others_are_ready(pool: Pool) -> None:
    attempts = Attempts(pool)
    hung = pick(attempts)

    assert attempts.rescue(FIRST, hung, 0)
    assert attempts.attempt_failed(FIRST, hung, Code.UNAVAILABLE, 0, is_rescued=True) == [SECOND_TRY]
    assert (hung.load.in_flight, hung.load.abandoned, pool.told) == (0, 1, [])


@pytest.mark.parametrize("why", ["committed", "cancelled", "closed", "off", "alone"])
def test_a_call_stays_on_a_hung_backend_where_it_must(pool: Pool, why: str) -> None:
    attempts = Attempts(pool, rescue=why != "off")
    hung = pick(attempts)
    attempts.is_committed = why == "committed"
    attempts.is_cancelled = why == "cancelled"
    pool.is_closed = why == "closed"
    if why == "alone":
        pool.holder.snapshot = Snapshot(2, READY, (hung,), First((hung,)))

    assert not attempts.rescue(FIRST, hung, 0)


def test_an_attempt_whose_subchannel_had_closed_is_free(pool: Pool) -> None:
    attempts = Attempts(pool)

    assert attempts.lost(FIRST, pick(attempts), 0) == [Start(2, frozenset({1}), 0)]


def test_who_makes_calls_says_when_they_end_and_what_their_jitter_is() -> None:
    bare = CallAttempts()
    with pytest.raises(NotImplementedError):
        _ = bare.deadline_at
    with pytest.raises(NotImplementedError):
        _ = bare.jitter


def test_a_throttle_hears_of_each_success() -> None:
    throttle = Throttle(RetryThrottle(max_tokens=10, token_ratio=0.5))
    throttle.attempt_failed()
    picked = sub(1)
    picked.load.start()
    count_out(picked, throttle, 1)

    assert throttle.left(0) == 0.95


# --- what pickers and servers say --------------------------------------------------------------------


def test_a_picker_hears_of_what_it_asks_for() -> None:
    class Deaf:
        def build(self, ready: Sequence[Subchannel]) -> First:
            return First(ready)

    class Hears(Deaf):
        def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
            """Hear."""

    class HearsAll(Hears):
        needs_latency = True

    class HearsReports(Hears):
        needs_reports = True

    told = [call_end_hook(factory()) for factory in (Deaf, Hears, HearsAll, HearsReports)]

    assert [(one.of_failures, one.of_all, one.needs_reports) for one in told] == [
        (False, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]
    told[0].hear(sub(1), CallEnd(Code.OK, 0))


@pytest.mark.parametrize(
    ("values", "pushback"),
    [((), None), (("1500",), 1_500_000_000), (("-5",), -1), (("soon",), -1), (("1", "2"), -1)],
)
def test_a_pushback_is_milliseconds_or_never(values: Sequence[str], pushback: int | None) -> None:
    assert parse_pushback(values) == pushback


@pytest.mark.parametrize(
    ("failover", "is_idempotent", "code", "is_said"),
    [
        (Failover(), False, Code.UNAVAILABLE, True),
        (Failover(), True, Code.UNAVAILABLE, False),
        (Failover(), False, Code.INTERNAL, False),
        (Failover(max_attempts=1), False, Code.UNAVAILABLE, False),
    ],
)
def test_why_an_attempt_is_the_last_is_said_where_idempotency_is_why(
    failover: Failover, is_idempotent: bool, code: Code, is_said: bool
) -> None:
    policy = MethodPolicy(call_policy(failover, is_idempotent), None, False, False, 0, "not idempotent")

    assert policy.not_again(code) == ("not idempotent" if is_said else "")
