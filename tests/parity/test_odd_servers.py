"""gRFC A17 against servers that do not keep to it: none may hold up a channel, nor be hammered by one."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

import grpc
import pytest

from healthlb import HealthCheck, Heartbeat
from healthlb.core.messages import HealthCheckingUnavailable
from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.parity.contest import FACES
from tests.parity.face import Client, Face, becomes
from tests.parity.fleet import Fleet, addresses
from tests.parity.load import Load
from tests.parity.resolver import Listed
from tests.parity.tally import Tally

IMPATIENT = HealthCheck(first_response_timeout=0.5)


def gaps(backends: Sequence[Backend], clients: Sequence[Client], count: int) -> list[list[float]]:
    """Return the gaps between the first `count` Watches of each. Meanwhile every call fails at once."""
    seen = [backend.stats().watches_started for backend in backends]
    wanted = [number + count for number in seen]
    while any(backend.stats().watches_started < number for backend, number in zip(backends, wanted, strict=True)):
        for client in clients:
            # Sticky TRANSIENT_FAILURE (H42): a call that waited for the next Watch would end with another code.
            assert failure(client.call).code() is grpc.StatusCode.UNAVAILABLE
        time.sleep(0.02)
    recent = [backend.stats().watch_times[-count:] for backend in backends]
    return [[later - earlier for earlier, later in itertools.pairwise(times)] for times in recent]


def test_h15_unimplemented_counts_as_healthy(face: Face, fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    (backend,) = fleet.lend(kind="no_health")
    before = backend.stats()
    with caplog.at_level(logging.ERROR, "healthlb"):
        client = face.ready([backend.address], health=HealthCheck(heartbeat=Heartbeat(interval=0.1)))
        answers = {client.call() for _ in range(5)}
        eventually(lambda: backend.stats().checks > before.checks + 2)
    status = client.subchannel(backend.address)
    becomes(lambda: [fact.address for fact in client.facts.of(HealthCheckingUnavailable)], [backend.address])

    assert answers == {"b0"}
    # Its UNIMPLEMENTED to the heartbeat is a sign of life; the Watch is not tried again on this connection.
    assert backend.stats().watches_started == before.watches_started + 1
    assert (status.state.name, status.serving, status.reason) == ("READY", None, "no health service")
    assert [backend.address in record.message for record in caplog.records] == [True]


def test_h15_unimplemented_may_count_as_unhealthy(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="no_health")
    client = face.open([backend.address], health=HealthCheck(on_unimplemented="unhealthy"))

    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "no health service" in error.details()


def test_h16_unimplemented_is_forgotten_with_the_connection(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="no_health")
    client = face.ready([backend.address])
    backend.restart(kind="sync", status="NOT_SERVING")
    client.wait_for_reason(backend.address, "NOT_SERVING")
    backend.set("SERVING", "svc")
    client.wait_until_ready()

    assert client.call() == "b0"


def test_h04_a_silent_watch_fails_and_is_tried_again(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="silent_watch")
    before = backend.stats().watches_started
    client = face.open([backend.address], health=IMPATIENT)
    error = failure(lambda: client.call(timeout=60))
    eventually(lambda: backend.stats().watches_started == before + 2)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "no health response" in error.details()
    # The one that gave no answer was cancelled.
    eventually(lambda: backend.stats().watches_open == 1)
    becomes(lambda: client.facts.states(backend.address), [("TRANSIENT_FAILURE", "no health response")])


def test_h02_until_the_first_status_calls_wait(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="silent_watch")
    client = face.open([backend.address])

    error = failure(lambda: client.call(timeout=0.5))

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert f"1 CONNECTING; {backend.address}: waiting for the first health status" in error.details()
    assert client.state() == "CONNECTING"


def test_go_a_removed_address_leaves_no_silent_watch(face: Face, fleet: Fleet) -> None:
    silent, stock = fleet.lend(kind="silent_watch")[0], fleet.lend(kind="sync")[0]
    listed = Listed([silent.address, stock.address])
    client = face.ready(listed, min_ready=1)
    eventually(lambda: silent.stats().watches_open == 1)
    listed.set([stock.address])

    eventually(lambda: silent.stats().watches_open == 0)
    eventually(lambda: len(client.subchannels()) == 1)
    assert client.call() == "b0"


def test_go_a_stopped_server_leaves_no_silent_watch(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="silent_watch")
    client = face.open([backend.address])
    waiting = client.start()
    eventually(lambda: backend.stats().watches_open == 1)
    # Without a grace: it would last for as long as the Watch is open, were that not given up on GOAWAY.
    backend.stop(None)

    assert waiting.code() is grpc.StatusCode.UNAVAILABLE
    assert client.states() == ["TRANSIENT_FAILURE"]


def test_h18_p09_a_watch_that_answers_and_ends_is_not_restarted_in_a_loop(
    faces: tuple[Face, Face], fleet: Fleet
) -> None:
    backends = fleet.lend(2, kind="answer_once")
    before = [backend.stats().watches_started for backend in backends]
    for face, backend in zip(faces, backends, strict=True):
        face.ready([backend.address])
    end_at = time.monotonic() + 3
    eventually(lambda: time.monotonic() > end_at)

    started = [backend.stats().watches_started - count for backend, count in zip(backends, before, strict=True)]
    # grpcio itself starts some 3,000 here.
    assert all(3 <= count < 15 for count in started), started


def test_a_watch_that_ends_after_serving_fails_no_call(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3, kind="watch_error", options={"messages": 1})
    before = [backend.stats().watches_started for backend in backends]
    client = face.ready(addresses(backends), min_ready=3)
    answers: Counter[str] = Counter()
    while any(one.stats().watches_started < count + 4 for one, count in zip(backends, before, strict=True)):
        answers[client.call()] += 1

    assert all(client.facts.states(one.address)[-1] == ("READY", "SERVING") for one in backends)
    assert client.states() == ["READY"] * 3
    assert max(answers.values()) - min(answers.values()) <= 1


def test_watches_that_end_together_fail_no_call(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3, kind="watch_error", options={"messages": 1, "after": 3.0})
    clients = [face.ready(addresses(backends)) for face in faces]
    before = [backend.stats().watches_started for backend in backends]
    with ExitStack() as stack:
        loads = [stack.enter_context(Load(client, 100)) for client in clients]
        # Three ends of each Watch.
        for backend, count in zip(backends, before, strict=True):
            eventually(lambda: backend.stats().watches_started >= count + 3 * len(clients))  # noqa: B023
    tally.note(
        "Watches that end after 3 s, calls", dict(zip(FACES, (len(load.outcomes) for load in loads), strict=True))
    )

    assert [load.failures() for load in loads] == [{}, {}]
    for client in clients:
        assert [state for backend in backends for state, _ in client.facts.states(backend.address)] == ["READY"] * 3


def test_h17_h21_a_watch_that_fails_backs_off(faces: tuple[Face, Face], fleet: Fleet) -> None:
    backends = fleet.lend(2, kind="watch_error")
    clients = [face.open([backend.address]) for face, backend in zip(faces, backends, strict=True)]

    for first, second in gaps(backends, clients, 3):
        assert first >= 0.8, (first, second)
        assert second >= 0.8 * 1.6, (first, second)
    for client, backend in zip(clients, backends, strict=True):
        reason = "health watch ended with INTERNAL: this Watch was told to fail"
        assert client.facts.states(backend.address) == [("TRANSIENT_FAILURE", reason)]


def test_h14_garbage_is_a_failure_and_backs_off(faces: tuple[Face, Face], fleet: Fleet) -> None:
    backends = fleet.lend(2, kind="garbage")
    clients = [face.open([backend.address]) for face, backend in zip(faces, backends, strict=True)]

    for (gap,) in gaps(backends, clients, 2):
        assert gap >= 0.8
    for client, backend in zip(clients, backends, strict=True):
        assert "not a HealthCheckResponse" in failure(client.call).details()
        # The Watch it came on was cancelled, though the server would have kept it open.
        eventually(lambda: backend.stats().watches_open <= 1)  # noqa: B023 - called before the next turn


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_metadata_goes_with_watch_and_check(face: Face, fleet: Fleet, kind: str) -> None:
    (backend,) = fleet.lend(kind=kind, options={"require_metadata": ["x-token", "s3cret"]})
    health = HealthCheck(metadata=[("x-token", "s3cret")], heartbeat=Heartbeat(interval=0.1))
    client = face.ready([backend.address], health=health)
    checks = backend.stats().checks
    eventually(lambda: backend.stats().checks >= checks + 2)
    seen = backend.stats().last_metadata

    assert ["x-token", "s3cret"] in seen["Watch"]
    assert ["x-token", "s3cret"] in seen["Check"]
    # It goes with these two only.
    assert failure(client.call).code() is grpc.StatusCode.UNAUTHENTICATED
    assert client.call(token="s3cret") == "b0"


def test_metadata_that_is_missing_is_named_as_the_reason(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(options={"require_metadata": ["x-token", "s3cret"]})
    client = face.open([backend.address])

    error = failure(client.call)

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "UNAUTHENTICATED: x-token is missing or wrong" in error.details()
