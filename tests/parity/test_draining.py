"""What leaves the rotation leaves it gently: calls in flight go on (H25, R28)."""

from __future__ import annotations

from collections import Counter

import grpc

from healthlb import HealthCheck, Heartbeat, Subset
from healthlb.core.messages import Addition, HeartbeatLoss, Removal, ResolutionFailure
from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.backends.proxy import ChaosProxy
from tests.parity.face import Client, Face, Ongoing, becomes
from tests.parity.fleet import Fleet, addresses, executed
from tests.parity.resolver import Listed


def open_stream(client: Client, backend: Backend) -> Ongoing:
    """Return a Bidi call in flight on this backend."""
    while True:
        call = client.start("stream_stream", requests=None, timeout=None)
        call.write(b"1")
        if call.read() == backend.name.encode() + b":1":
            return call
        call.finish()
        assert call.read() is None


def goes_on(call: Ongoing, name: str) -> bool:
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


def test_a68_a_subset_is_all_that_is_connected_to(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    listed = Listed(addresses(backends))
    client = face.ready(listed, min_ready=2, subset=Subset(size=2, seed=1))
    chosen = {status.address for status in client.subchannels()}
    answers = Counter(client.call() for _ in range(8))
    spare = next(backend for backend in backends if backend.address not in chosen)
    kept = min(chosen)
    listed.set([spare.address, kept])
    becomes(lambda: {(one.address, one.state.name) for one in client.subchannels()}, {(spare.address, "READY"), (kept, "READY")})

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


def test_p28_in_the_sync_face_calls_have_a_connection_of_their_own(sync_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"args": [["grpc.max_concurrent_streams", 1]]})
    client = sync_face.ready([backend.address])

    assert [client.call() for _ in range(5)] == ["b0"] * 5


def test_p28_in_the_aio_face_calls_wait_behind_the_watch(aio_face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"args": [["grpc.max_concurrent_streams", 1]]})
    client, native = aio_face.ready([backend.address]), aio_face.native([backend.address])

    # As with grpcio's own health checking, and as A17 warns: one connection, one stream.
    for one in (client, native):
        assert failure(lambda: one.call(timeout=1.0)).code() is grpc.StatusCode.DEADLINE_EXCEEDED  # noqa: B023
    unchecked = aio_face.ready([backend.address], None)
    assert unchecked.call() == "b0"


def test_p28_the_last_one_stays_though_its_heartbeat_finds_no_stream(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"args": [["grpc.max_concurrent_streams", 1]]})
    health = HealthCheck(heartbeat=Heartbeat(interval=0.2, timeout=0.2))
    client = face.ready([backend.address], health=health)
    eventually(lambda: len(client.facts.of(HeartbeatLoss)) >= 2)

    assert [fact.is_excluded for fact in client.facts.of(HeartbeatLoss)][:2] == [False, False]
    assert client.states() == ["READY"]
