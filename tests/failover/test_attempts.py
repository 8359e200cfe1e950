"""When there is another attempt, where it goes, and what is told of it."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from healthlb import Backoff, Failover, RetryBudget, RetryThrottle
from healthlb.calls.attempts import Outcome
from healthlb.calls.refusals import MADE_UP
from tests.backends.clients import eventually
from tests.failover.storm import comes_to_rest, in_flight, view
from tests.failover.support import ANY, Call, failure, outcome, ready, seconds
from tests.parity.face import ARITIES, Client, Face
from tests.parity.fleet import Fleet, addresses

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
PREVIOUS = "healthlb-previous-rpc-attempts"


def previous(backend: object, method: str = "Unary") -> list[str]:
    """Return what the last call of this method told its server of attempts before it."""
    return [value for key, value in backend.stats().last_metadata[method] if key == PREVIOUS]  # type: ignore[attr-defined]


@pytest.mark.parametrize("arity", ARITIES)
def test_an_idempotent_call_goes_elsewhere(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends)
    call = Call(client)

    assert outcome(call.begin(arity), arity).startswith(b"b1")
    assert call.executions(*backends) == [1, 1]


@pytest.mark.parametrize("arity", ARITIES)
def test_any_other_call_does_not(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", details="so sorry", trailer="told")
    client = ready(face, backends, Failover())
    call = Call(client)
    ongoing = call.begin(arity)
    error = failure(lambda: outcome(ongoing, arity))

    assert call.executions(*backends) == [1, 0]
    (attempt,) = error.attempts
    assert (attempt.address, attempt.code) == (backends[0].address, UNAVAILABLE)
    comes_to_rest(client)
    if MADE_UP in (attempt.details, error.details()):
        # grpc.aio may hide the status of a call that ends while it writes.
        assert (face.name, arity[:6]) == ("aio", "stream")
        return
    assert attempt.details == error.details() == ongoing.details() == "so sorry"
    assert error.code() is ongoing.code() is UNAVAILABLE
    assert ongoing.trailing()["x-trailer"] == "told"


def test_the_form_that_blocks_does_the_same(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends)
    safe, unsafe = Call(client), Call(view(client, Failover()))

    assert safe.make() == "b1"
    assert safe.executions(*backends) == [1, 1]
    assert len(failure(unsafe.make).attempts) == 1
    assert unsafe.executions(*backends) == [1, 0]
    comes_to_rest(client)


def test_the_error_is_the_last_attempts_and_tells_the_story(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(4)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE", details=f"{backend.name} is tired", trailer=backend.name)
    client = ready(face, backends)
    call = Call(client)
    error = failure(call.make)

    assert error.code() is UNAVAILABLE
    assert error.details() == "b2 is tired"
    assert dict(tuple(error.trailing_metadata()))["x-trailer"] == "b2"
    assert call.executions(*backends) == [1, 1, 1, 0]
    assert [attempt.address for attempt in error.attempts] == addresses(backends[:3])
    assert [attempt.details for attempt in error.attempts] == ["b0 is tired", "b1 is tired", "b2 is tired"]
    assert {attempt.code for attempt in error.attempts} == {UNAVAILABLE}
    assert all(0 < attempt.seconds < 10 for attempt in error.attempts)
    comes_to_rest(client)


def test_an_ongoing_calls_code_details_and_metadata_are_the_last_attempts(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", trailer="first")
    backends[1].behave(trailer="second")
    client = ready(face, backends)
    call = Call(client).begin()

    assert call.result() == b"b1"
    assert call.code() is grpc.StatusCode.OK
    assert call.trailing()["x-trailer"] == "second"


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"])
def test_other_statuses_end_the_call(face: Face, fleet: Fleet, code: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail=code)
    client = ready(face, backends)
    patient = view(client, Failover(idempotent=True, codes=[code, "UNAVAILABLE"]))
    call = Call(client)

    assert failure(call.make).code() is grpc.StatusCode[code]
    assert call.executions(*backends) == [1, 0]
    assert Call(patient).make() == "b1"


def test_a_servers_own_deadline_exceeded_is_not_the_attempts_timeout(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="DEADLINE_EXCEEDED")
    client = ready(face, backends, Failover(idempotent=True, attempt_timeout=10.0))
    call = Call(client)

    assert failure(call.make).details() == "b0 was told to fail"
    assert call.executions(*backends) == [1, 0]


def test_r9_later_attempts_say_how_many_were_before(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends[:2]:
        backend.behave(fail="UNAVAILABLE")
    client = ready(face, backends)
    client.call()

    assert [previous(backend) for backend in backends] == [[], ["1"], ["2"]]


def test_r4_tried_subchannels_are_avoided_while_there_are_others(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends[:2]:
        backend.behave(fail="UNAVAILABLE")
    client = face.ready(addresses(backends), failover=ANY)

    assert Counter(client.call() for _ in range(30)) == Counter(b2=30)


def test_r4_where_all_were_tried_they_are_tried_again(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.behave(fail="UNAVAILABLE")
    client = ready(face, [backend])
    call = Call(client)

    assert len(failure(call.make).attempts) == 3
    assert call.executions(backend) == [3]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], None), (["0"], 0), (["25"], 25_000_000), (["-1"], -1), (["-99"], -1), (["soon"], -1), ([""], -1), (["1.5"], -1),
     (["1", "1"], -1), (["soon", "1"], -1), (["99999999999"], 99999999999 * 10**6)],
)  # fmt: skip
def test_r16_what_a_server_may_say(values: list[str], expected: int | None) -> None:
    trailers = [("x-other", "1"), *(("grpc-retry-pushback-ms", value) for value in values)]

    assert Outcome(UNAVAILABLE, "", False, trailers).pushback == expected


@pytest.mark.parametrize("wait", [200, 0])
def test_r16_pushback_is_honoured(face: Face, fleet: Fleet, wait: int) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", pushback=wait)
    client = ready(face, backends, Failover(idempotent=True, backoff=Backoff(initial=30.0)))
    call = Call(client)

    assert wait / 1000 <= seconds(call.make) < 10
    assert call.executions(*backends) == [1, 1]


@pytest.mark.parametrize("pushback", [-1, "later"])
def test_r16_pushback_that_says_never(face: Face, fleet: Fleet, pushback: int | str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", pushback=pushback)
    client = ready(face, backends)
    call = Call(client)
    failure(call.make)
    failure(call.begin().result)

    assert call.executions(*backends) == [2, 0]


@pytest.mark.parametrize("form", ["make", "begin"])
def test_r6_backoff_between_attempts(face: Face, fleet: Fleet, form: str) -> None:
    backends = fleet.lend(3)
    for backend in backends[:2]:
        backend.behave(fail="UNAVAILABLE")
    backoff = Backoff(initial=0.1, multiplier=2, jitter=0, maximum=1)
    client = ready(face, backends, Failover(idempotent=True, backoff=backoff))
    call = Call(client)
    elapsed = seconds(call.make if form == "make" else lambda: call.begin().result())

    assert 0.3 <= elapsed < 5
    assert call.executions(*backends) == [1, 1, 1]


@pytest.mark.parametrize("form", ["make", "begin"])
def test_r7_the_deadline_is_given_up_early(face: Face, fleet: Fleet, form: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    client = ready(face, backends, Failover(idempotent=True, backoff=Backoff(initial=40.0, jitter=0)))
    call = Call(client)
    run = (lambda: call.make(timeout=20)) if form == "make" else (lambda: call.begin(timeout=20).result())
    elapsed = seconds(lambda: failure(run))

    assert elapsed < 10
    assert call.executions(*backends) == [1, 0]


@pytest.mark.parametrize("form", ["make", "begin"])
def test_r7_one_deadline_for_all_attempts(face: Face, fleet: Fleet, form: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", sleep=0.5)
    backends[1].behave(sleep=30)
    client = ready(face, backends)
    call = Call(client)
    run = (lambda: call.make(timeout=1.0)) if form == "make" else (lambda: call.begin(timeout=1.0).result())
    error: list[grpc.RpcError] = []
    elapsed = seconds(lambda: error.append(failure(run)))

    assert error[0].code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.9 <= elapsed < 5
    assert call.executions(*backends) == [1, 1]
    comes_to_rest(client)


@pytest.mark.parametrize("arity", ARITIES)
def test_attempt_timeout_leaves_a_backend_that_hangs(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    client = ready(face, backends, Failover(idempotent=True, attempt_timeout=0.3))
    backends[0].pause()

    assert outcome(Call(client).begin(arity), arity).startswith(b"b1")


def test_attempt_timeout_ends_a_call_that_is_not_idempotent(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = ready(face, backends, Failover(attempt_timeout=0.3))
    backends[0].behave(sleep=30)
    call = Call(client)
    error = failure(call.make)

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.29 < error.attempts[0].seconds < 5
    assert call.executions(*backends) == [1, 0]


# --- budgets ---------------------------------------------------------------------------------------


def executions_of(client: Client, backends: list, count: int) -> int:
    """Make so many calls that all fail and return how often they were executed."""
    calls = [Call(client) for _ in range(count)]
    for call in calls:
        failure(call.make)
    return sum(sum(call.executions(*backends)) for call in calls)


def test_r14_a_budget_stops_a_storm(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE")
    budget = RetryBudget(ratio=0.1, min_per_second=0.1, ttl=100.0)
    client = ready(face, backends, Failover(idempotent=True, budget=budget))
    count = 100

    # Ten in reserve, and one for every ten calls.
    assert executions_of(client, backends, count) == count + 10 + 10


def test_r12_a_throttle_stops_retries_at_half_of_its_tokens(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE")
    throttle = RetryThrottle(max_tokens=10, token_ratio=0.5)
    client = ready(face, backends, Failover(idempotent=True, budget=throttle, max_attempts=20), outliers=None)

    # Four failures may be followed by another attempt, the fifth in a row may not.
    assert executions_of(client, backends, 1) == 5
    assert executions_of(client, backends, 3) == 3
    for backend in backends:
        backend.behave()
    for _ in range(7):
        client.call()
    backends[0].behave(fail="UNAVAILABLE")
    # 2 and 7 halves are 5.5 tokens, and the failure takes one.
    assert executions_of(client, backends, 1) == 1
    for _ in range(3):
        backends[0].behave()
        client.call()
    backends[0].behave(fail="UNAVAILABLE")
    # 6 tokens, less one: not more than half of them.
    assert executions_of(client, backends, 1) == 1
    for _ in range(3):
        backends[0].behave()
        client.call()
    backends[0].behave(fail="UNAVAILABLE")
    assert client.call() == "b1"


def test_r15_views_with_equal_budgets_share_one(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE")
    budget = RetryBudget(ratio=0.0, min_per_second=0.1, ttl=30.0)
    client = ready(face, backends, Failover(idempotent=True, budget=budget, max_attempts=3))
    other = view(client, Failover(idempotent=True, budget=budget, max_attempts=4))

    assert executions_of(client, backends, 1) + executions_of(other, backends, 1) == 2 + 3


# --- hedging ---------------------------------------------------------------------------------------


def hedged(delay: float, **more: object) -> Failover:
    """Return a policy that hedges."""
    return Failover(idempotent=True, hedging_delay=delay, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["make", "begin"])
def test_r24_a_hedge_wins_and_the_loser_is_cancelled(face: Face, fleet: Fleet, form: str) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=30)
    client = ready(face, backends, hedged(0.1))
    call = Call(client)

    assert (call.make() if form == "make" else call.begin().result().decode()) == "b1"
    eventually(lambda: backends[0].stats().in_flight == 0)
    assert call.executions(*backends) == [1, 1]
    comes_to_rest(client)
    # That it lost is no news of its backend.
    assert client.subchannel(backends[0].address).failures == 0


def test_r24_each_delay_sends_another(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(4)
    for backend in backends:
        backend.behave(sleep=30)
    client = ready(face, backends, hedged(0.05))
    call = Call(client)
    ongoing = call.begin()
    eventually(lambda: call.executions(*backends) == [1, 1, 1, 0])

    assert in_flight(client) == 3
    assert ongoing.cancel()
    eventually(lambda: sum(backend.stats().in_flight for backend in backends) == 0)
    comes_to_rest(client)
    assert call.executions(*backends) == [1, 1, 1, 0]


def test_r24_each_of_many_calls_is_hedged_when_it_is_late(face: Face, fleet: Fleet) -> None:
    """One timer looks after all of them, and is set anew while there are any."""
    backends = fleet.lend(2)
    backends[0].behave(sleep=30)
    client = ready(face, backends, hedged(0.1, budget=None))
    with ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            making = []
            for _ in range(4):
                making.append(threads.submit(Call(client).make))
                time.sleep(0.02)

            assert [one.result() for one in making] == ["b1"] * 4
    eventually(lambda: backends[0].stats().in_flight == 0)
    comes_to_rest(client)


def test_r24_a_fatal_status_ends_all(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=30)
    backends[1].behave(fail="INVALID_ARGUMENT")
    client = ready(face, backends, hedged(0.1))

    assert failure(client.call).code() is grpc.StatusCode.INVALID_ARGUMENT
    eventually(lambda: backends[0].stats().in_flight == 0)
    comes_to_rest(client)


def test_r24_any_other_status_sends_the_next_at_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends[:2]:
        backend.behave(fail="UNAVAILABLE")
    client = ready(face, backends, hedged(30.0))

    assert client.call() == "b2"
    comes_to_rest(client)


def test_r24_all_fail_and_the_last_one_tells(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    for backend in backends:
        backend.behave(fail="UNAVAILABLE", sleep=0.2)
    client = ready(face, backends, hedged(0.05))
    error = failure(client.call)

    assert len(error.attempts) == 3
    assert error.details() == error.attempts[-1].details
    comes_to_rest(client)


def test_r24_pushback_stops_hedges(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", pushback=-1)
    client = ready(face, backends, hedged(0.5))
    call = Call(client)

    assert failure(call.make).code() is UNAVAILABLE
    assert call.executions(*backends) == [1, 0]


def test_r24_pushback_delays_the_next_hedge(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE", pushback=600)
    client = ready(face, backends, hedged(0.1))

    assert seconds(client.call) >= 0.6


def test_r26_hedges_are_paid_for(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.3)
    client = ready(face, backends, hedged(0.01, budget=RetryBudget(ratio=0.0, min_per_second=0.0)))
    call = Call(client)

    assert call.make() == "b0"
    assert call.executions(*backends) == [1, 0]


def test_r26_only_idempotent_unary_calls_are_hedged(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=0.3)
    client = ready(face, backends, hedged(0.01))
    unsafe = Call(view(client, Failover(hedging_delay=0.01)))

    assert unsafe.make() == "b0"
    assert unsafe.executions(*backends) == [1, 0]
    for arity in ARITIES[1:]:
        call = Call(client)
        outcome(call.begin(arity), arity)

        assert call.executions(*backends) == [1, 0]


def test_r26_a_hedge_goes_to_a_subchannel_that_was_not_tried_or_nowhere(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.behave(sleep=0.3)
    client = ready(face, [backend], hedged(0.02))
    call = Call(client)

    assert call.make() == "b0"
    assert call.executions(backend) == [1]
    comes_to_rest(client)


def test_a_hedged_call_waits_for_a_subchannel(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.open([backend.address], failover=hedged(0.001))

    assert client.call() == "b0"
    comes_to_rest(client)
