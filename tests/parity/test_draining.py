"""What leaves the rotation leaves it gently: calls in flight go on (H25, R28)."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from healthlb import Failover, HealthCheck, Heartbeat, Subset, attempts_of
from healthlb.core.messages import Addition, HeartbeatLoss, Removal, ResolutionFailure
from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.backends.proxy import ChaosProxy
from tests.failover.support import Call, outcome
from tests.parity.face import ARITIES, CallInFlight, Client, Face, becomes
from tests.parity.fleet import Fleet, addresses, executed
from tests.parity.resolver import Listed


def open_stream(client: Client, backend: Backend) -> CallInFlight:
    """Return a Bidi call in flight on this backend."""
    while True:
        call = client.start("stream_stream", requests=None, timeout=None)
        call.write(b"1")
        if call.read() == backend.name.encode() + b":1":
            return call
        call.finish()
        assert call.read() is None


def goes_on(call: CallInFlight, name: str) -> bool:
    """Whether a Bidi call still works; ends it."""
    for request in (b"2", b"3"):
        call.write(request)
        if call.read() != name.encode() + b":" + request:
            return False
    call.finish()
    return call.read() is None and call.code() is grpc.StatusCode.OK


def test_h25_a_health_change_leaves_calls_in_flight_alone(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    call = open_stream(client, backends[0])
    backends[0].set("NOT_SERVING", "svc")
    client.wait_for_states("T", "R")
    before = executed(backends[0])
    answers = Counter(client.call() for _ in range(6))

    assert client.subchannel(backends[0].address).in_flight == 1
    assert answers == Counter(b1=6)
    assert executed(backends[0]) == before
    assert goes_on(call, "b0")


def test_h26_a_call_that_raced_the_change_is_served(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    call = client.start(sleep=0.3)
    eventually(lambda: backend.stats().in_flight == 1)
    backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T")

    assert call.result() == b"b0"


def test_r28_h25_a_removed_address_drains(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    with ChaosProxy(backends[0].address) as proxy:
        listed = Listed([proxy.address, backends[1].address])
        client = face.ready(listed, min_ready=2)
        call = open_stream(client, backends[0])
        listed.set([backends[1].address])
        becomes(lambda: [status.address for status in client.subchannels()], [backends[1].address])
        eventually(lambda: backends[0].stats().watches_open == 0)
        answers = Counter(client.call() for _ in range(6))

        assert answers == Counter(b1=6)
        assert goes_on(call, "b0")
        # Only now, with its last call, the connection closes. (grpc.aio holds it for as long as the call's object.)
        call.drop()
        eventually(lambda: proxy.connections == 0)
    becomes(lambda: [fact.address for fact in client.facts.of(Removal)], [proxy.address])


def test_a_limit_ends_what_is_left_on_a_removed_address_and_says_why(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    listed = Listed([backends[0].address])
    client = face.ready(listed, min_ready=1, drain=1.0)
    calls = [
        open_stream(client, backends[0]),
        client.start("stream_unary", requests=None, timeout=None),
        client.start("unary_stream", sleep=60, timeout=None),
        client.start(sleep=60, timeout=None),
    ]
    short = client.start(sleep=0.3, timeout=None)
    with ThreadPoolExecutor(1) as thread:
        blocked = thread.submit(failure, lambda: client.call(None, sleep=60))
        eventually(lambda: backends[0].stats().in_flight == 6)
        listed.set([backends[1].address])
        begun_at = time.monotonic()
        errors = [blocked.result(), *(failure(call.take) for call in calls)]

    # As a status of the call, which no face takes for its caller's own cancellation.
    assert [error.code().name for error in errors] == ["UNAVAILABLE"] * 5
    text = f"{backends[0].address} left the address list 1 s ago, and calls there have 1 s (drain)"
    # Of streams C-core says "Stream removed" before it in the sync face.
    assert [text in error.details() for error in errors] == [True] * 5
    assert time.monotonic() - begun_at >= 1.0
    assert short.result() == b"b0"
    assert client.call() == "b1"
    eventually(lambda: backends[0].stats().in_flight == 0)


@pytest.mark.parametrize("hedging_delay", [None, 60.0], ids=["plain", "hedged"])
def test_idempotent_calls_go_elsewhere_when_the_limit_ends_them(
    face: Face, fleet: Fleet, hedging_delay: float | None
) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=60.0)
    listed = Listed([backends[0].address])
    failover = Failover(idempotent=True, hedging_delay=hedging_delay)
    client = face.ready(listed, min_ready=1, drain=0.5, failover=failover)
    blocking = Call(client)
    calls = [Call(client) for _ in ARITIES]
    ongoing = [call.begin(arity) for call, arity in zip(calls, ARITIES, strict=True)]
    with ThreadPoolExecutor(1) as thread:
        blocked = thread.submit(blocking.make)
        eventually(lambda: all(call.executions(backends[0]) == [1] for call in (blocking, *calls)))
        listed.set([backends[1].address])
        answers = [outcome(one, arity)[:2] for one, arity in zip(ongoing, ARITIES, strict=True)]

        assert answers == [b"b1"] * 4
        assert blocked.result() == "b1"
    assert [call.executions(*backends) for call in (blocking, *calls)] == [[1, 1]] * 5


def test_a_stream_that_has_answered_ends_when_the_limit_does(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    listed = Listed([backends[0].address])
    client = face.ready(listed, min_ready=1, drain=0.5, failover=Failover(idempotent=True))
    call = open_stream(client, backends[0])
    listed.set([backends[1].address])
    error = failure(call.take)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "left the address list 0.5 s ago" in error.details()


def test_the_story_tells_of_the_limit(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=60.0)
    backends[1].behave(fail="INTERNAL")
    listed = Listed([backends[0].address])
    client = face.ready(listed, min_ready=1, drain=0.5, failover=Failover(idempotent=True))
    call = Call(client)
    ongoing = call.begin()
    eventually(lambda: call.executions(backends[0]) == [1])
    listed.set([backends[1].address])
    error = failure(ongoing.take)

    assert [(one.address, one.code.name) for one in attempts_of(error)] == [
        (backends[0].address, "UNAVAILABLE"),
        (backends[1].address, "INTERNAL"),
    ]
    assert "(drain)" in attempts_of(error)[0].details


def test_a_removed_address_without_calls_closes_at_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    with ChaosProxy(backends[0].address) as proxy:
        listed = Listed([proxy.address, backends[1].address])
        client = face.ready(listed, min_ready=2)
        for _ in range(4):
            client.call()
        listed.set([backends[1].address])

        eventually(lambda: proxy.connections == 0)


def test_an_address_that_comes_back_begins_anew(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    listed = Listed(addresses(backends))
    client = face.ready(listed, min_ready=2)
    while client.subchannel(backends[0].address).picks < 2:
        client.call()
    listed.set([backends[1].address])
    eventually(lambda: len(client.subchannels()) == 1)
    listed.set(addresses(backends))
    client.wait_until_ready(2)

    assert client.subchannel(backends[0].address).picks == 0
    assert client.subchannel(backends[1].address).picks >= 1
    added = [fact.address for fact in client.facts.of(Addition)]
    assert added == [*addresses(backends), backends[0].address]


def test_calls_from_before_an_address_left_and_came_back_are_in_flight(face: Face, fleet: Fleet) -> None:
    """So that an operator who waits for a backend to be drained sees all that runs there."""
    backends = fleet.lend(2)
    everybody = addresses(backends)
    resolver = Listed(everybody)
    client = face.ready(resolver, min_ready=2)
    calls = []
    for back in (1, 2):
        calls.append(open_stream(client, backends[0]))
        resolver.set(everybody[1:])
        eventually(lambda: [sub.address for sub in client.subchannels()] == everybody[1:])
        resolver.set(everybody)
        client.wait_for_states("R", "R")
        assert client.subchannel(backends[0].address).in_flight == back

    calls.append(open_stream(client, backends[0]))
    assert client.subchannel(backends[0].address).in_flight == 3
    assert client.subchannel(backends[1].address).in_flight == 0
    for left, call in ((2, calls[0]), (1, calls[2]), (0, calls[1])):
        assert goes_on(call, "b0")
        eventually(lambda left=left: client.subchannel(backends[0].address).in_flight == left)  # type: ignore[misc]


def test_a68_a_subset_is_all_that_is_connected_to(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    listed = Listed(addresses(backends))
    client = face.ready(listed, min_ready=2, subset=Subset(size=2, seed=1))
    chosen = {status.address for status in client.subchannels()}
    answers = Counter(client.call() for _ in range(8))
    spare = next(backend for backend in backends if backend.address not in chosen)
    kept = min(chosen)
    listed.set([spare.address, kept])
    becomes(
        lambda: {(one.address, one.state.name) for one in client.subchannels()},
        {(spare.address, "READY"), (kept, "READY")},
    )

    assert sorted(answers.values()) == [4, 4]
    assert spare.name not in answers
    assert {client.call() for _ in range(8)} == {one.name for one in backends if one.address in (spare.address, kept)}


def test_h40_p31_an_empty_list_keeps_the_last_good_one(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    listed = Listed(addresses(backends))
    client = face.ready(listed, min_ready=2)
    call = open_stream(client, backends[0])
    listed.set([])
    becomes(lambda: len(client.facts.of(ResolutionFailure)), 1)

    assert Counter(client.call() for _ in range(4)) == Counter(b0=2, b1=2)
    assert goes_on(call, "b0")


def test_answers_that_rotate_cost_no_connection(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(4)
    first, second = addresses(backends[:2]), addresses(backends[2:])
    listed = Listed(first)
    listed.keep = 60.0  # type: ignore[attr-defined]
    client = face.ready(listed, min_ready=2)
    call = open_stream(client, backends[0])
    picks = client.subchannel(backends[0].address).picks
    for answer in (second, first, second):
        listed.set(answer)
        eventually(lambda answer=answer: [one.address for one in client.subchannels()][:2] == answer)
        client.wait_until_ready(4)
    answers = Counter(client.call() for _ in range(40))
    backends[1].set("NOT_SERVING", "svc")
    eventually(lambda: len(client.subchannels()) == 3)

    assert answers == Counter(b0=10, b1=10, b2=10, b3=10)
    assert client.subchannel(backends[0].address).picks >= picks
    assert [fact.address for fact in client.facts.of(Addition)] == addresses(backends)
    becomes(lambda: [fact.address for fact in client.facts.of(Removal)], [backends[1].address])
    assert goes_on(call, "b0")


def test_a_resolver_that_fails_is_asked_within_its_interval(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    listed = Listed([backend.address], failures=9)
    listed.interval = 0.1  # type: ignore[attr-defined]
    client = face.open(listed)

    # Waits that grow without this bound come to more than a minute.
    client.wait_until_ready()
    assert len(client.facts.of(ResolutionFailure)) == 9


def test_h28_goaway_ends_the_watch_and_leaves_an_open_stream(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    call = open_stream(client, backends[0])
    backends[0].begin_stop(60.0)
    eventually(lambda: backends[0].stats().watches_open == 0)
    before = executed(backends[0])
    answers = Counter(client.call() for _ in range(20))

    assert answers == Counter(b1=20)
    assert executed(backends[0]) == before
    assert goes_on(call, "b0")
    # Nothing of ours holds it back any more, though its grace is a minute.
    backends[0].wait_exit()


def test_go_a_connection_closed_by_the_server_ends_the_watch(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    with ChaosProxy(backend.address) as proxy:
        client = face.ready([proxy.address])
        proxy.set_mode("refuse")
        client.wait_for_states("T")
        eventually(lambda: backend.stats().watches_open == 0)
        proxy.set_mode("pass")
        client.wait_until_ready()

        assert client.call() == "b0"
        assert backend.stats().watches_open == 1


def test_cpp_a_goaway_costs_no_call(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends))
    for _ in range(6):
        client.call()
    backends[0].stop(5.0)
    answers = Counter(client.call() for _ in range(100))

    assert answers == Counter(b1=50, b2=50)


# H6, P28: a server that allows one stream per connection. The Watch has it.


def test_p28_calls_wait_behind_the_watch(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"args": [["grpc.max_concurrent_streams", 1]]})
    client, native = face.ready([backend.address]), face.native([backend.address])

    # As with grpcio's own health checking, and as A17 warns: one connection, one stream.
    for one in (client, native):
        assert failure(lambda: one.call(timeout=1.0)).code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: B023
    unchecked = face.ready([backend.address], None)
    assert unchecked.call() == "b0"


def test_p28_the_last_one_stays_though_its_heartbeat_finds_no_stream(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"args": [["grpc.max_concurrent_streams", 1]]})
    health = HealthCheck(heartbeat=Heartbeat(interval=0.2, timeout=0.2))
    client = face.ready([backend.address], health=health)
    eventually(lambda: client.facts.of(HeartbeatLoss))
    time.sleep(1.0)

    # It is told of once, however often it does not answer.
    assert [fact.is_excluded for fact in client.facts.of(HeartbeatLoss)] == [False]
    assert client.states() == ["READY"]


def test_a_limit_ends_nothing_on_an_address_that_is_back(face: Face, fleet: Fleet) -> None:
    """A list that is wrong for a moment cuts no stream; when the address leaves for good, the limit counts from then."""
    backends = fleet.lend(2)
    both = [backend.address for backend in backends]
    listed = Listed(both)
    client = face.ready(listed, min_ready=2, drain=1.0)
    call = open_stream(client, backends[0])
    listed.set(both[1:])
    becomes(lambda: [status.address for status in client.subchannels()], both[1:])
    listed.set(both)
    time.sleep(2.0)
    call.write(b"4")

    assert call.read() == b"b0:4"
    listed.set(both[1:])
    assert "left the address list 1 s ago" in failure(call.take).details()
