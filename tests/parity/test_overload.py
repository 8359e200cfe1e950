"""Caps on calls that wait and that are in flight: who is kept out, what they are told, and that every end makes room."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from typing import Any

import grpc
import pytest

from healthlb import Failover, Overload
from healthlb.core.load import CallLimiter
from healthlb.core.messages import Overflow
from tests.backends import Backend
from tests.backends.clients import eventually, failure
from tests.parity.face import ARITIES, CallInFlight, Client, Face
from tests.parity.fleet import Fleet, addresses

EACH_ARITY = pytest.mark.parametrize("arity", ARITIES)
SLOW = {"sleep": 60, "timeout": None}
WAITING = {"wait_for_ready": True, "timeout": None}


def limiter(client: Client) -> CallLimiter:
    """What counts against the caps."""
    counted: CallLimiter = client.channel._subchannels.admission.limiter
    return counted


def refused(call: CallInFlight) -> str:
    """Return what a call is told that a cap keeps out."""
    assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, call.details()
    return call.details()


def told(client: Client) -> Counter[str]:
    """How many refused calls each cap has been told of with."""
    counts: Counter[str] = Counter()
    for fact in client.facts.of(Overflow):
        counts[fact.cap] += fact.calls
    return counts


def run_dry(client: Client, calls: list[CallInFlight]) -> None:
    """End calls that hang."""
    for call in calls:
        call.cancel()
    eventually(lambda: limiter(client).in_flight == 0)


# --- waiting ---------------------------------------------------------------------------------------


@EACH_ARITY
def test_p25_calls_without_deadline_that_wait_are_bounded(face: Face, fleet: Fleet, arity: str) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address], overload=Overload(max_waiting=2))
    waiting = [client.start(arity, **WAITING) for _ in range(2)]
    eventually(lambda: backend.stats().watches_open == 1)
    text = refused(client.start(arity, **WAITING))

    assert text.startswith("too many calls wait (max_waiting=2): 1 subchannel for service 'svc': 1 CONNECTING; ")
    assert [call.is_over() for call in waiting] == [False, False]
    assert limiter(client).waiting == 2
    backend.set("SERVING")
    assert [call.end() for call in waiting] == [grpc.StatusCode.OK] * 2
    assert limiter(client).waiting == 0


def test_p25_by_default_10000_may_wait(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address])
    slots = [limiter(client).wait() for _ in range(9_999)]
    last = client.start(**WAITING)

    assert "(max_waiting=10000)" in refused(client.start(**WAITING))
    assert len(slots) == 9_999
    last.cancel()
    slots.clear()
    gc.collect()
    assert limiter(client).waiting == 0


def test_p25_calls_that_block_are_bounded_too(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address], overload=Overload(max_waiting=1))
    answers: list[str] = []
    caller = threading.Thread(target=lambda: answers.append(client.call(wait_for_ready=True)))
    caller.start()
    eventually(lambda: limiter(client).waiting == backend.stats().watches_open == 1)
    error = failure(lambda: client.call(wait_for_ready=True))
    backend.set("SERVING")
    caller.join()

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details().startswith("too many calls wait (max_waiting=1): ")
    assert answers == ["b0"]
    assert limiter(client).waiting == 0


@EACH_ARITY
def test_p25_a_wait_may_have_an_end_of_its_own(face: Face, fleet: Fleet, arity: str) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = face.open([backend.address], overload=Overload(max_wait=0.2))
    text = refused(client.start(arity, **WAITING))

    assert text.startswith("no subchannel for too long (max_wait=0.2 s): 1 subchannel for service 'svc': ")
    error = failure(lambda: client.call(timeout=None, wait_for_ready=True))
    assert (error.code(), error.details()[:48]) == (grpc.StatusCode.RESOURCE_EXHAUSTED, text[:48])
    assert limiter(client).waiting == 0


def test_whichever_comes_first_ends_a_wait(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = face.open([backend.address], overload=Overload(max_wait=100.0))
    call = client.start(timeout=0.2, wait_for_ready=True)

    assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    error = failure(lambda: client.call(timeout=0.2, wait_for_ready=True))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_wait_that_is_over_ends_no_call(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address], overload=Overload(max_wait=3.0))
    call = client.start(**WAITING, sleep=3.5)
    eventually(lambda: limiter(client).waiting == backend.stats().watches_open == 1)
    backend.set("SERVING")

    # The time of the wait is up while the server works.
    assert call.code() is grpc.StatusCode.OK


@EACH_ARITY
@pytest.mark.parametrize("end", ["deadline", "cancel", "drop", "close"])
def test_p18_a_place_is_given_back_however_the_wait_ends(face: Face, fleet: Fleet, arity: str, end: str) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = face.open([backend.address], overload=Overload(max_waiting=1))
    # grpc.aio keeps a call that its caller drops (1.85.3).
    is_kept = end == "drop" and face.name == "aio"
    call = client.start(arity, wait_for_ready=True, timeout=0.3 if end == "deadline" or is_kept else None)
    client.wait_for_states("T")
    assert limiter(client).waiting == (0 if call.is_over() else 1)
    match end:
        case "deadline":
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        case "cancel":
            call.cancel()
        case "drop":
            call.drop()
        case "close":
            client.close()

    eventually(lambda: limiter(client).waiting == 0)


# --- in flight -------------------------------------------------------------------------------------


@EACH_ARITY
def test_calls_in_flight_are_bounded(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), overload=Overload(max_in_flight=3))
    calls = [client.start(arity, **SLOW) for _ in range(3)]
    picture = "2 subchannels for service 'svc': 2 READY"

    for is_patient in (False, True):
        text = refused(client.start(arity, wait_for_ready=is_patient))
        assert text == f"too many calls in flight (max_in_flight=3): {picture}"
    error = failure(client.call)
    assert (error.code(), error.attempts) == (grpc.StatusCode.RESOURCE_EXHAUSTED, ())
    assert sum(status.in_flight for status in client.subchannels()) == 3
    calls.pop().cancel()
    eventually(lambda: limiter(client).in_flight == 2)
    assert client.call()[0] == "b"
    run_dry(client, calls)


@EACH_ARITY
def test_a_full_subchannel_is_skipped_until_all_are_full(face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), overload=Overload(max_in_flight_per_subchannel=2))
    calls = [client.start(arity, **SLOW) for _ in range(3)]
    # The turn would come to the full one every other time.
    answered = {client.call() for _ in range(4)}
    assert len(answered) == 1
    calls.append(client.start(arity, **SLOW))

    assert refused(client.start(arity)) == (
        "too many calls in flight on each subchannel (max_in_flight_per_subchannel=2): "
        "2 subchannels for service 'svc': 2 READY"
    )
    assert [status.in_flight for status in client.subchannels()] == [2, 2]
    run_dry(client, calls)
    assert {client.call() for _ in range(4)} == {"b0", "b1"}


def test_views_share_the_caps(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address], overload=Overload(max_in_flight=1))
    call = client.start(**SLOW)
    channel, client.channel = client.channel, client.channel.with_failover(None)

    assert refused(client.start()).startswith("too many calls in flight (max_in_flight=1)")
    client.channel = channel
    run_dry(client, [call])


def test_attempts_after_the_first_count(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(fail="UNAVAILABLE")
    backends[1].behave(sleep=60)
    client = face.ready(
        addresses(backends),
        failover=Failover(idempotent=True),
        outliers=None,
        overload=Overload(max_in_flight_per_subchannel=1),
    )
    # However b1 came by its call, b0 alone is left for others, and it fails them.
    hanging = client.start(timeout=None)
    eventually(lambda: backends[1].stats().in_flight == 1)
    call = client.start()

    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert limiter(client).in_flight == 1
    run_dry(client, [hanging])
    backends[1].behave()
    assert client.call() == "b1"


def test_a_hedge_that_finds_no_room_is_not_sent(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    hedging = Failover(idempotent=True, hedging_delay=0.01)
    client = face.ready(addresses(backends), failover=hedging, overload=Overload(max_in_flight=1))
    call = client.start(sleep=0.3)

    assert call.code() is grpc.StatusCode.OK
    eventually(lambda: limiter(client).in_flight == 0)
    assert sum(status.picks for status in client.subchannels()) == 1


def _refuse(message: object) -> Any:
    raise RuntimeError("a bug of the user's")


def _end(client: Client, backend: Backend, arity: str, how: str, timeout: float | None) -> None:
    """Have one call end like this; its deadline is for those that nothing else ends."""
    slow = {"sleep": 60, "timeout": timeout}
    match how:
        case "success":
            client.start(arity).end()
        case "error":
            client.start(arity, fail="ABORTED").end()
        case "deadline":
            client.start(arity, sleep=60, timeout=0.2).end()
        case "serializer" | "deserializer":
            try:
                client.start(arity, timeout=timeout, **{how: _refuse}).take()
            except Exception as error:
                assert error is not None
        case _:
            call = client.start(arity, **slow)
            eventually(lambda: backend.stats().in_flight == 1)
            assert limiter(client).in_flight == 1
            match how:
                case "cancel":
                    call.cancel()
                case "drop":
                    call.drop()
                case "death":
                    backend.kill()
                case "close":
                    client.close()


ENDS = ["success", "error", "deadline", "cancel", "drop", "serializer", "deserializer", "death", "close"]


@EACH_ARITY
@pytest.mark.parametrize("how", ENDS)
def test_p18_every_end_of_a_call_makes_room(
    face: Face, fleet: Fleet, arity: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    # grpc.aio carries a call on to its end, whoever has lost interest (1.85.3).
    is_carried_on = how in ("drop", "deserializer") and face.name == "aio"
    # What is logged holds the frames, which hold the calls, which hold the channels.
    caplog.set_level("CRITICAL", "grpc._common")
    (backend,) = fleet.lend()
    caps = Overload(max_in_flight=1, max_in_flight_per_subchannel=1)
    client = face.ready([backend.address], overload=caps)
    _end(client, backend, arity, how, 1.0 if is_carried_on else None)

    eventually(lambda: limiter(client).in_flight == 0)
    if how not in ("death", "close"):
        assert client.call() == "b0"


# --- what is told ----------------------------------------------------------------------------------


def test_refused_calls_are_told_of(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address], overload=Overload(max_in_flight=1))
    call = client.start(**SLOW)
    for _ in range(50):
        refused(client.start())
    run_dry(client, [call])
    client.close()

    eventually(lambda: told(client) == {"max_in_flight": 50})
    assert {(fact.cap, fact.limit) for fact in client.facts.of(Overflow)} == {("max_in_flight", 1)}
    assert len(client.facts.of(Overflow)) <= 10


def test_calls_refused_before_the_channel_is_up_are_told_of_too(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address], overload=Overload(max_waiting=0))
    text = refused(client.start())
    refused(client.start())

    assert text.startswith("too many calls wait (max_waiting=0): ")
    client.close()
    eventually(lambda: told(client) == {"max_waiting": 2})


def test_no_caps_at_all(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address], overload=None)

    assert client.call() == "b0"
    assert limiter(client).in_flight == 0
