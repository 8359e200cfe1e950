"""Calls that find nothing to pick: who waits, who fails, and what they are told."""

from __future__ import annotations

import copy
import socket
import threading
from collections.abc import Iterator, Sequence

import grpc
import pytest

from healthlb import CallInfo, ConfigError, Subchannel
from tests.backends.addresses import Reservation
from tests.backends.clients import PATIENCE, eventually, failure
from tests.parity.face import ARITIES, CallInFlight, Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.resolver import Listed


@pytest.fixture
def refused() -> Iterator[list[str]]:
    """Seven addresses where nobody listens."""
    reservation = Reservation(["127.0.0.1:0"] * 7)
    yield reservation.addresses
    reservation.release()


@pytest.fixture
def mute() -> Iterator[str]:
    """An address that takes connections and says nothing, so that no handshake ends."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_readiness_probe_connects(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.open(addresses(backends))
    before = client.state()
    eventually(lambda: client.run(lambda: client.channel.is_ready(2)))

    assert (before, client.state()) == ("IDLE", "READY")
    assert client.run(client.channel.is_ready) is True
    assert client.run(lambda: client.channel.is_ready(3)) is False
    with pytest.raises(ConfigError, match="min_ready must be a whole number of at least 1, not 0"):
        client.run(lambda: client.channel.is_ready(0))
    backends[0].set("NOT_SERVING", "svc")
    eventually(lambda: not client.run(lambda: client.channel.is_ready(2)))
    client.close()
    assert client.run(client.channel.is_ready) is False


@pytest.mark.parametrize("arity", ARITIES)
def test_h35_calls_wait_while_connecting(face: Face, fleet: Fleet, arity: str) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address])
    call = client.start(arity)
    eventually(lambda: backend.stats().watches_open == 1)

    assert (client.states(), call.is_over()) == (["CONNECTING"], False)
    backend.set("SERVING")
    assert call.end() is grpc.StatusCode.OK


def test_h35_one_that_connects_makes_calls_wait(face: Face, refused: list[str], mute: str) -> None:
    client = face.open([refused[0], mute])
    waiting = client.start()
    client.wait_for_states("T", "CONNECTING")

    assert client.state() == "CONNECTING"
    assert not waiting.is_over()
    waiting.cancel()


def test_h35_calls_fail_at_once_when_all_are_down(face: Face, refused: list[str]) -> None:
    client = face.open(refused)

    # Without a deadline: one that waited would wait for ever.
    error = failure(lambda: client.call(timeout=None))
    text = error.details()

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert text.startswith("7 subchannels for service 'svc': 7 TRANSIENT_FAILURE; ")
    assert [address in text for address in refused] == [True] * 5 + [False] * 2
    assert text.count("Connection refused") == 5
    assert "; and 2 more. What to do: " in text


@pytest.mark.parametrize("arity", ARITIES)
def test_h35_every_arity_is_told_the_same(face: Face, refused: list[str], arity: str) -> None:
    client = face.open(refused[:1])
    call = client.start(arity, timeout=None)
    error = failure(call.read if arity.endswith("stream") else call.result)

    assert error.code() is call.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == call.details()
    assert f"1 TRANSIENT_FAILURE; {refused[0]}: " in error.details()
    assert call.trailing() == {}


@pytest.mark.parametrize("timeout", [60.0, None])
def test_h35_h36_wait_for_ready_waits_and_recovers(face: Face, fleet: Fleet, timeout: float | None) -> None:
    backends = fleet.lend(2)
    for backend in backends:
        backend.set("NOT_SERVING", "svc")
    client = face.open(addresses(backends))
    failure(client.call)
    calls = [client.start(arity, wait_for_ready=True, timeout=timeout) for arity in ARITIES]
    assert [call.is_over() for call in calls] == [False] * 4
    backends[1].set("SERVING", "svc")

    assert [call.end() for call in calls] == [grpc.StatusCode.OK] * 4
    assert client.call(wait_for_ready=True) == "b1"


def test_h35_wait_for_ready_is_not_passed_on_to_one_subchannel(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    backends[0].kill()
    calls = [client.start(wait_for_ready=True) for _ in range(6)]
    codes = [call.end() for call in calls]

    # One that waited for b0 to come back would end with DEADLINE_EXCEEDED; on a connection that breaks calls may fail.
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes.count(grpc.StatusCode.OK) >= 3


def test_h35_deadline_exceeded_says_what_it_waited_for(face: Face, fleet: Fleet, refused: list[str]) -> None:
    (backend,) = fleet.lend()
    backend.set("NOT_SERVING", "svc")
    client = face.open([backend.address, refused[0]])
    failure(client.call)

    errors = [failure(lambda: client.call(timeout=0.3, wait_for_ready=True))]
    for arity in ARITIES:
        call = client.start(arity, timeout=0.3, wait_for_ready=True)
        errors.append(failure(call.read if arity.endswith("stream") else call.result))

    for error in errors:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert error.details().startswith("Deadline Exceeded: 2 subchannels for service 'svc': 2 TRANSIENT_FAILURE; ")
        assert f"{backend.address}: NOT_SERVING" in error.details()
        assert f"{refused[0]}: " in error.details()


@pytest.mark.parametrize("arity", ARITIES)
def test_a_waiting_call_can_be_cancelled(face: Face, refused: list[str], arity: str) -> None:
    client = face.open(refused[:1])
    call = client.start(arity, wait_for_ready=True, timeout=None)
    client.wait_for_states("T")

    assert call.cancel() is True
    assert call.code() is grpc.StatusCode.CANCELLED
    assert call.details() == "Locally cancelled by application!"
    assert client.subchannel(refused[0]).picks == 0


@pytest.mark.parametrize("arity", ARITIES)
def test_a_waiting_call_ends_with_its_channel(face: Face, refused: list[str], arity: str) -> None:
    client = face.open(refused[:1])
    call = client.start(arity, wait_for_ready=True, timeout=None)
    client.wait_for_states("T")
    client.close()

    assert call.code() is grpc.StatusCode.CANCELLED


def test_the_time_a_call_waited_counts_against_its_deadline(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="scripted_watch")
    client = face.open([backend.address])
    call = client.start(timeout=1.0, metadata=(("x-sleep", "60"),))
    eventually(lambda: backend.stats().watches_open == 1)
    backend.set("SERVING")

    assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    seen = dict(backend.stats().last_metadata["Unary"])
    assert seen["x-sleep"] == "60"


class SlowPick:
    """A picker that takes its time, on demand, between choosing b0 and handing it out."""

    def __init__(self) -> None:
        """Take none yet."""
        self.has_chosen, self.may_go_on = threading.Event(), threading.Event()

    def build(self, ready: Sequence[Subchannel]) -> SlowPick:
        """Pick from these."""
        picker = copy.copy(self)
        picker.ready = tuple(ready)  # type: ignore[attr-defined]
        return picker

    def pick(self, call: CallInfo) -> Subchannel | None:
        """Return the first."""
        ready: tuple[Subchannel, ...] = self.ready  # type: ignore[attr-defined]
        if len(ready) > 1:
            self.has_chosen.set()
            assert self.may_go_on.wait(PATIENCE)
        return ready[0] if ready else None


@pytest.mark.parametrize("arity", ARITIES)
def test_h38_sync_a_pick_that_lost_the_race_is_made_again(sync_face: Face, fleet: Fleet, arity: str) -> None:
    backends = fleet.lend(2)
    picker, listed = SlowPick(), Listed(addresses(backends))
    client = sync_face.ready(listed, min_ready=2, picker=lambda: picker)
    calls: list[CallInFlight] = []
    caller = threading.Thread(target=lambda: calls.append(client.start(arity)))
    caller.start()
    assert picker.has_chosen.wait(PATIENCE)
    listed.set([backends[1].address])
    eventually(lambda: len(client.subchannels()) == 1)
    eventually(lambda: backends[0].stats().watches_open == 0)
    picker.may_go_on.set()
    caller.join()

    # Not an error, and not an attempt: b0 had closed before the call was made.
    assert calls[0].take()[0].startswith(b"b1")
    assert [status.picks for status in client.subchannels()] == [1]


def test_h38_a_pick_that_lost_its_connection_is_made_again(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends))
    for backend in backends[:2]:
        backend.kill()
        errors = []
        for number in range(20):
            try:
                client.call(id=f"{id(client)}-{number}")
            except grpc.RpcError as error:
                errors.append(error.details())

        # A connection that breaks under a call is the call's failure, one that is known to be down is not.
        assert [text for text in errors if "failed to connect" in text] == []
        assert len(errors) <= 1, errors


def test_h40_no_addresses_at_first(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    listed = Listed([])
    client = face.open(listed)
    error = failure(lambda: client.call(timeout=None))
    waiting = client.start(wait_for_ready=True, timeout=None)
    listed.set([backend.address])

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "no addresses" in error.details()
    assert waiting.result() == b"b0"


def test_h40_a_resolver_that_fails_is_asked_again(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    listed = Listed([backend.address], failures=1)
    client = face.open(listed)
    error = failure(lambda: client.call(timeout=None))

    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "the directory is down" in error.details()
    assert client.call(wait_for_ready=True) == "b0"
