from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from healthlb.config import Backoff, RetryBudget, RetryThrottle
from healthlb.core.call.budget import Budget, NoBudget, make_budget
from healthlb.core.call.failover import (
    Action,
    AttemptEnded,
    CallPlan,
    CallPolicy,
    Cancel,
    Finish,
    PlanEvent,
    Skipped,
    Start,
    WakeAt,
    Woke,
)
from healthlb.core.messages import SECOND, Code

T = 1_000 * SECOND
CODES = frozenset({Code.UNAVAILABLE, Code.CANCELLED})
STEADY = Backoff(initial=1.0, multiplier=2.0, jitter=0.0, maximum=3.0)


def policy(
    max_attempts: int = 3,
    *,
    is_idempotent: bool = True,
    backoff: Backoff | None = None,
    hedging_delay: int | None = None,
) -> CallPolicy:
    return CallPolicy(
        max_attempts=max_attempts,
        codes=CODES,
        is_idempotent=is_idempotent,
        backoff=backoff,
        hedging_delay=hedging_delay,
    )


def make_plan(rules: CallPolicy, budget: Budget | None = None, deadline: int | None = None) -> CallPlan:
    return CallPlan(rules, budget or NoBudget(), deadline, is_hedged=rules.is_hedged, rng=random.Random(1))


def play(plan: CallPlan, *events: PlanEvent, now: int = T) -> list[list[Action]]:
    return [plan.step(event, now) for event in events]


def failed(attempt: int, code: Code = Code.UNAVAILABLE, pushback: int | None = None) -> AttemptEnded:
    return AttemptEnded(attempt, sub=attempt, code=code, pushback=pushback)


def unsent(attempt: int) -> AttemptEnded:
    return AttemptEnded(attempt, sub=attempt, code=Code.UNAVAILABLE, is_unsent=True)


def subs(*ids: int) -> frozenset[int]:
    return frozenset(ids)


# --- one after the other ---------------------------------------------------------------------------


def test_an_unsent_attempt_goes_elsewhere_whatever_the_method_is() -> None:
    """R1, R2: it counts neither as an attempt nor against the budget."""
    empty = make_budget(RetryBudget(ratio=0.0, min_per_second=0.0))
    plan = make_plan(policy(1, is_idempotent=False), empty)

    actions = play(plan, *(unsent(attempt) for attempt in range(1, 51)))
    assert actions == [[Start(attempt + 1, subs(*range(1, attempt + 1)), 0)] for attempt in range(1, 51)]
    assert play(plan, failed(51)) == [[Finish(51)]]


def test_what_may_have_been_executed_is_not_made_again() -> None:
    plan = make_plan(policy(is_idempotent=False))

    assert play(plan, failed(1), Woke(), failed(1)) == [[Finish(1)], [], []]


def test_an_idempotent_call_goes_elsewhere_up_to_its_attempts() -> None:
    plan = make_plan(policy(3))

    assert play(plan, failed(1), failed(2), failed(3)) == [
        [Start(2, subs(1), 1)],
        [Start(3, subs(1, 2), 2)],
        [Finish(3)],
    ]


@pytest.mark.parametrize("code", [code for code in Code if code not in CODES])
def test_other_statuses_are_the_calls_own(code: Code) -> None:
    assert play(make_plan(policy()), failed(1, code)) == [[Finish(1)]]


def test_ok_is_the_end() -> None:
    plan = make_plan(policy())

    assert play(plan, failed(1), failed(2, Code.OK), failed(2)) == [[Start(2, subs(1), 1)], [Finish(2)], []]


def test_an_attempt_that_was_cut_off_is_made_again_whatever_its_status() -> None:
    plan = make_plan(policy())

    assert play(plan, AttemptEnded(1, 1, Code.DEADLINE_EXCEEDED, is_cut_off=True)) == [[Start(2, subs(1), 1)]]


def test_where_it_went_is_avoided_even_if_it_never_ended() -> None:
    plan = make_plan(policy())
    plan.picked(7)

    assert play(plan, failed(1)) == [[Start(2, subs(1, 7), 1)]]


def test_an_empty_budget_is_the_end() -> None:
    budget = make_budget(RetryBudget(ratio=0.0, min_per_second=0.1))

    assert play(make_plan(policy(), budget), failed(1), failed(2)) == [[Start(2, subs(1), 1)], [Finish(2)]]


def test_retryable_failures_count_for_the_throttle_though_nothing_is_retried() -> None:
    """R12, R13: also where the method is not idempotent, and with a pushback of never."""
    throttle = make_budget(RetryThrottle(max_tokens=8, token_ratio=1))
    play(make_plan(policy(is_idempotent=False), throttle), failed(1))
    play(make_plan(policy(), throttle), failed(1, Code.INTERNAL, pushback=-1))
    play(make_plan(policy(), throttle), failed(1, Code.INTERNAL))
    play(make_plan(policy(), throttle), unsent(1))
    assert throttle.withdraw(T)
    play(make_plan(policy(is_idempotent=False), throttle), failed(1))
    assert throttle.withdraw(T)
    play(make_plan(policy(is_idempotent=False), throttle), failed(1))

    assert not throttle.withdraw(T)


# --- waits and wishes ------------------------------------------------------------------------------


def test_the_backoff_is_waited_for() -> None:
    plan = make_plan(policy(5, backoff=STEADY))

    assert plan.step(failed(1), T) == [WakeAt(T + SECOND)]
    assert plan.step(Woke(), T + SECOND // 2) == [WakeAt(T + SECOND)]
    assert plan.step(Woke(), T + SECOND) == [Start(2, subs(1), 1)]
    assert plan.step(Woke(), T + SECOND) == []
    assert plan.step(failed(2), T) == [WakeAt(T + 2 * SECOND)]
    assert plan.step(Woke(), T + 2 * SECOND) == [Start(3, subs(1, 2), 2)]
    assert plan.step(failed(3), T) == [WakeAt(T + 3 * SECOND)]


def test_the_backoff_is_jittered() -> None:
    (action,) = make_plan(policy(backoff=Backoff(initial=1.0, jitter=0.2))).step(failed(1), 0)

    assert isinstance(action, WakeAt)
    assert 0.8 * SECOND <= action.at <= 1.2 * SECOND
    assert action.at != SECOND


def test_a_wait_that_outlives_the_deadline_is_not_begun() -> None:
    """R7: better to fail early."""
    budget = make_budget(RetryBudget(ratio=0.0, min_per_second=0.1))
    assert make_plan(policy(backoff=STEADY), budget, deadline=T + SECOND).step(failed(1), T) == [Finish(1)]
    assert make_plan(policy(), budget, deadline=T).step(failed(1), T) == [Finish(1)]

    assert make_plan(policy(), budget, deadline=T + 1).step(failed(1), T) == [Start(2, subs(1), 1)]


def test_the_servers_wish_is_kept_to_the_millisecond_and_the_backoff_begins_anew() -> None:
    """R16."""
    plan = make_plan(policy(5, backoff=STEADY))
    assert play(plan, failed(1), now=0) == [[WakeAt(SECOND)]]
    assert play(plan, Woke(), now=SECOND) == [[Start(2, subs(1), 1)]]
    assert play(plan, failed(2, pushback=7_000_000), now=SECOND) == [[WakeAt(SECOND + 7_000_000)]]
    assert play(plan, Woke(), now=2 * SECOND) == [[Start(3, subs(1, 2), 2)]]

    assert play(plan, failed(3), now=2 * SECOND) == [[WakeAt(3 * SECOND)]]


def test_a_wish_counts_without_a_backoff_too() -> None:
    assert play(make_plan(policy()), failed(1, pushback=5)) == [[WakeAt(T + 5)]]
    assert play(make_plan(policy()), failed(1, pushback=0)) == [[Start(2, subs(1), 1)]]


def test_never_is_never() -> None:
    assert play(make_plan(policy()), failed(1, pushback=-1)) == [[Finish(1)]]


def test_a_wish_does_not_make_a_status_retryable() -> None:
    """R17."""
    assert play(make_plan(policy()), failed(1, Code.INTERNAL, pushback=0)) == [[Finish(1)]]


# --- side by side ----------------------------------------------------------------------------------

DELAY = SECOND // 10


def hedged(max_attempts: int = 3, budget: Budget | None = None) -> CallPlan:
    plan = make_plan(policy(max_attempts, hedging_delay=DELAY), budget)
    assert plan.begin(T) == [WakeAt(T + DELAY)]
    return plan


@pytest.mark.parametrize(
    "rules",
    [policy(), policy(1, hedging_delay=DELAY), policy(is_idempotent=False, hedging_delay=DELAY)],
)
def test_only_idempotent_calls_with_a_delay_and_attempts_left_are_hedged(rules: CallPolicy) -> None:
    assert not rules.is_hedged
    assert make_plan(rules).begin(T) == []


def test_hedges_start_one_after_another() -> None:
    """R24, R26."""
    plan = hedged()
    plan.picked(4)

    assert plan.step(Woke(), T + DELAY) == [Start(2, subs(4), 1), WakeAt(T + 2 * DELAY)]
    assert plan.step(Woke(), T + 2 * DELAY) == [Start(3, subs(4), 2)]
    assert plan.step(Woke(), T + 3 * DELAY) == []


@pytest.mark.parametrize(("delay", "pause"), [(0, SECOND // 10), (SECOND // 10, SECOND // 10), (SECOND, SECOND)])
def test_where_a_hedge_cannot_help_the_call_asks_again_later(delay: int, pause: int) -> None:
    plan = make_plan(policy(hedging_delay=delay))
    plan.begin(T)
    plan.picked(4)

    assert plan.step(Woke(may_hedge=False), T + delay) == [WakeAt(T + delay + pause)]
    assert plan.step(Woke(), T + delay + pause)[0] == Start(2, subs(4), 1)


def test_a_call_is_late_where_a_hedge_is_due() -> None:
    plan = hedged()
    plan.picked(4)

    assert [plan.late_on(T + DELAY - 1), plan.late_on(T + DELAY)] == [None, 4]
    plan.step(Woke(), T + DELAY)
    plan.picked(5)
    assert [plan.late_on(T + DELAY), plan.late_on(T + 2 * DELAY)] == [None, 5]
    plan.step(failed(1, Code.OK), T + DELAY)
    assert plan.late_on(T + 2 * DELAY) is None


def test_the_first_ok_wins_and_the_others_are_cancelled() -> None:
    plan = hedged()
    plan.step(Woke(), T + DELAY)
    plan.step(Woke(), T + 2 * DELAY)

    assert play(plan, failed(2, Code.OK), failed(1), failed(3)) == [[Cancel(1), Cancel(3), Finish(2)], [], []]


def test_a_fatal_status_ends_all() -> None:
    plan = hedged()
    plan.step(Woke(), T + DELAY)

    assert play(plan, failed(1, Code.INVALID_ARGUMENT)) == [[Cancel(2), Finish(1)]]


def test_a_failure_brings_the_next_hedge_forward() -> None:
    plan = hedged()

    assert play(plan, failed(1), failed(2), failed(3)) == [
        [Start(2, subs(1), 1)],
        [Start(3, subs(1, 2), 2)],
        [Finish(3)],
    ]


def test_the_last_one_standing_decides() -> None:
    plan = hedged(2)
    plan.step(Woke(), T + DELAY)

    assert play(plan, failed(1), failed(2)) == [[], [Finish(2)]]


def test_a_server_that_says_never_stops_further_hedges_but_not_those_under_way() -> None:
    plan = hedged()
    plan.step(Woke(), T + DELAY)

    assert plan.step(failed(1, pushback=-1), T + DELAY) == []
    assert plan.step(Woke(), T + 2 * DELAY) == []
    assert plan.step(failed(2, Code.OK), T + 2 * DELAY) == [Finish(2)]


def test_a_servers_wish_delays_the_next_hedge() -> None:
    plan = hedged(4)
    plan.step(Woke(), T + DELAY)

    assert plan.step(failed(1, pushback=SECOND), T + DELAY) == [WakeAt(T + DELAY + SECOND)]
    assert plan.step(Woke(), T + 2 * DELAY) == [WakeAt(T + DELAY + SECOND)]
    assert plan.step(failed(2), T + 3 * DELAY) == []
    assert plan.step(Woke(), T + DELAY + SECOND) == [
        Start(3, subs(1, 2), 2),
        WakeAt(T + 2 * DELAY + SECOND),
    ]


def test_hedges_are_paid_for() -> None:
    plan = hedged(budget=make_budget(RetryBudget(ratio=0.0, min_per_second=0.1)))

    assert plan.step(Woke(), T + DELAY) == [Start(2, subs(), 1), WakeAt(T + 2 * DELAY)]
    assert plan.step(Woke(), T + 2 * DELAY) == []


def test_a_hedge_that_found_no_subchannel_is_not_waited_for() -> None:
    plan = hedged()
    plan.step(Woke(), T + DELAY)

    assert play(plan, Skipped(2), failed(1, Code.OK)) == [[], [Finish(1)]]


def test_a_hedge_that_found_none_is_the_calls_own_once_it_is_alone() -> None:
    plan = hedged(2)
    plan.step(Woke(), T + DELAY)

    assert play(plan, failed(1), Skipped(2), failed(3, Code.OK)) == [[], [Start(3, subs(1), 1)], [Finish(3)]]


def test_a_hedge_that_found_none_leaves_the_attempts_that_follow_a_failure() -> None:
    plan = hedged(3)
    plan.step(Woke(), T + DELAY)

    assert play(plan, Skipped(2), failed(1), failed(3)) == [[], [Start(3, subs(1), 1)], [Start(4, subs(1, 3), 2)]]


def test_a_hedge_that_found_none_is_not_paid_for() -> None:
    budget = make_budget(RetryBudget(ratio=0.0, min_per_second=0.1, ttl=10.0))
    plan = CallPlan(policy(3, hedging_delay=DELAY), budget, None, is_hedged=True, rng=random.Random(1))
    plan.begin(T)
    plan.step(Woke(), T + DELAY)
    assert budget.left(T + DELAY) == 0

    plan.step(Skipped(2), T + DELAY)

    assert budget.left(T + DELAY) == 1
    assert play(plan, failed(1), now=T + DELAY) == [[Start(3, subs(1), 1)]]


# --- whatever happens ------------------------------------------------------------------------------


class CountingBudget(NoBudget):
    """Pays until it is told not to."""

    def __init__(self) -> None:
        self.is_open = True
        self.paid = 0

    def withdraw(self, now: int) -> bool:
        self.paid += self.is_open
        return self.is_open

    def give_back(self) -> None:
        self.paid -= 1


class PlanMachine(RuleBasedStateMachine):
    """What must hold of a call, whatever its attempts come to."""

    @initialize(
        max_attempts=st.integers(1, 5),
        is_idempotent=st.booleans(),
        backoff=st.sampled_from([None, STEADY]),
        hedging_delay=st.sampled_from([None, 0, DELAY]),
        deadline=st.sampled_from([None, T + SECOND, T + 20 * SECOND]),
    )
    def begin(
        self,
        max_attempts: int,
        is_idempotent: bool,
        backoff: Backoff | None,
        hedging_delay: int | None,
        deadline: int | None,
    ) -> None:
        self.policy = policy(max_attempts, is_idempotent=is_idempotent, backoff=backoff, hedging_delay=hedging_delay)
        self.budget = CountingBudget()
        self.plan = make_plan(self.policy, self.budget, deadline)
        self.now = T
        self.live = {1}
        self.last = 1
        self.unsent = 0
        self.wakes_at: int | None = None
        self.finished: int | None = None
        self.do(self.plan.begin(T))

    def do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            assert self.finished is None
            match action:
                case Start(attempt, exclude, previous):
                    assert attempt == self.last + 1
                    assert previous <= self.policy.max_attempts - 1
                    assert exclude <= frozenset(range(1, attempt))
                    self.last = attempt
                    self.live.add(attempt)
                case Cancel(attempt):
                    self.live.remove(attempt)
                case WakeAt(at):
                    assert at >= self.now
                    self.wakes_at = at
                case Finish(attempt):
                    assert not self.live
                    self.finished = attempt
        if not self.policy.is_hedged:
            assert len(self.live) <= 1
        # Unless it is over the call goes on by itself: an attempt runs, or it will be woken.
        assert self.finished is not None or self.live or self.wakes_at is not None
        sent = self.last - self.unsent
        assert sent <= (self.policy.max_attempts if self.policy.is_idempotent else 1)
        assert 0 <= self.budget.paid <= self.policy.max_attempts - 1

    @precondition(lambda self: self.live)
    @rule(
        index=st.integers(0, 9),
        code=st.sampled_from([Code.OK, Code.UNAVAILABLE, Code.UNAVAILABLE, Code.INTERNAL]),
        is_unsent=st.booleans(),
        pushback=st.sampled_from([None, None, -1, 0, SECOND]),
    )
    def ends(self, index: int, code: Code, is_unsent: bool, pushback: int | None) -> None:
        attempt = sorted(self.live)[index % len(self.live)]
        self.live.remove(attempt)
        is_unsent = is_unsent and code is not Code.OK
        self.unsent += is_unsent
        self.do(self.plan.step(AttemptEnded(attempt, attempt, code, is_unsent, pushback=pushback), self.now))

    @precondition(lambda self: self.policy.is_hedged and len(self.live) > 1 and self.last in self.live)
    @rule()
    def is_skipped(self) -> None:
        self.live.remove(self.last)
        self.unsent += 1
        self.do(self.plan.step(Skipped(self.last), self.now))

    @precondition(lambda self: self.wakes_at is not None)
    @rule(is_early=st.booleans())
    def wakes(self, is_early: bool) -> None:
        assert self.wakes_at is not None
        self.now = max(self.now, self.wakes_at - is_early)
        self.wakes_at = None
        self.do(self.plan.step(Woke(), self.now))

    @rule(is_open=st.booleans())
    def the_budget_is(self, is_open: bool) -> None:
        self.budget.is_open = is_open

    def teardown(self) -> None:
        if not hasattr(self, "plan"):
            return
        while self.finished is None:
            if self.live:
                self.ends(0, Code.OK, False, None)
            else:
                self.wakes(False)
        assert self.plan.step(Woke(), self.now) == []


def test_a_hedge_that_found_none_leaves_what_a_failure_costs_as_it_is() -> None:
    """Found by the machine: three attempts were paid for where two may be."""
    machine = PlanMachine()
    machine.begin(max_attempts=3, is_idempotent=True, backoff=None, hedging_delay=0, deadline=None)
    machine.wakes(False)
    machine.is_skipped()
    machine.wakes(False)
    machine.ends(0, Code.UNAVAILABLE, False, None)
    machine.teardown()


TestPlanMachine = PlanMachine.TestCase
TestPlanMachine.settings = settings(max_examples=150, stateful_step_count=25)


# --- rescue ----------------------------------------------------------------------------------------


RESCUABLE = CallPolicy(max_attempts=3, codes=frozenset(), is_idempotent=True, may_rescue=True)


def given_up(attempt: int) -> AttemptEnded:
    return AttemptEnded(attempt, sub=attempt, code=Code.UNAVAILABLE, is_rescued=True)


def test_an_attempt_on_a_hung_backend_is_given_up_for_another_one() -> None:
    plan = make_plan(RESCUABLE)

    assert plan.rescue(1, T)
    assert play(plan, given_up(1)) == [[Start(2, frozenset({1}), 1)]]
    # The attempts count, whatever their statuses are.
    assert plan.rescue(2, T)
    assert play(plan, given_up(2)) == [[Start(3, frozenset({1, 2}), 2)]]
    assert not plan.rescue(3, T)


@pytest.mark.parametrize(
    "rules",
    [
        CallPolicy(max_attempts=3, is_idempotent=False, may_rescue=True),
        CallPolicy(max_attempts=3, is_idempotent=True, may_rescue=False),
        CallPolicy(max_attempts=1, is_idempotent=True, may_rescue=True),
    ],
)
def test_calls_that_may_not_be_made_again_stay_where_they_are(rules: CallPolicy) -> None:
    assert not make_plan(rules).rescue(1, T)


def test_a_rescue_is_paid_for_and_only_before_the_deadline() -> None:
    budget = make_budget(RetryBudget(ratio=0.0, min_per_second=0.1, ttl=10.0))

    assert not make_plan(RESCUABLE, budget, deadline=T).rescue(1, T)
    assert make_plan(RESCUABLE, budget, deadline=T + 1).rescue(1, T)
    assert not make_plan(RESCUABLE, budget).rescue(1, T)


def test_a_rescue_takes_a_token_of_the_throttle() -> None:
    throttle = make_budget(RetryThrottle(max_tokens=4, token_ratio=0.1))
    plan = make_plan(RESCUABLE, throttle)

    assert plan.rescue(1, T)
    play(plan, given_up(1))
    assert throttle.left(T) == 0.75


def test_what_has_ended_is_not_rescued() -> None:
    plan = make_plan(RESCUABLE)
    play(plan, AttemptEnded(1, 1, Code.OK))

    assert not plan.rescue(1, T)
    assert not make_plan(RESCUABLE).rescue(2, T)


def test_a_server_that_wants_no_other_attempt_is_obeyed() -> None:
    rules = CallPolicy(max_attempts=5, codes=CODES, is_idempotent=True, hedging_delay=SECOND, may_rescue=True)
    plan = make_plan(rules)
    plan.begin(T)
    play(plan, Woke(), now=T + SECOND)
    play(plan, failed(1, pushback=-1), now=T + SECOND)

    assert not plan.rescue(2, T + SECOND)


def test_beside_another_attempt_a_rescue_costs_nothing() -> None:
    rules = CallPolicy(max_attempts=2, codes=CODES, is_idempotent=True, hedging_delay=SECOND, may_rescue=True)
    plan = make_plan(rules)
    plan.begin(T)
    play(plan, Woke(), now=T + SECOND)

    assert plan.rescue(1, T + SECOND)
    assert play(plan, given_up(1)) == [[]]
    assert not plan.rescue(2, T + SECOND)  # two attempts are all it has
    assert play(plan, given_up(2)) == [[Finish(2)]]
