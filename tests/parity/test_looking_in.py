"""What a channel tells of itself: subchannels(), state(), facts, and why nothing is ready."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from healthlb import ConfigError, Endpoint
from healthlb.core.messages import Addition, ChannelStateChange, Removal, StateChange
from tests.backends.clients import eventually, failure
from tests.parity.face import ARITIES, Face, Facts, becomes
from tests.parity.fleet import Fleet, addresses


def test_subchannels_tell_all_there_is(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready([Endpoint(backends[0].address, weight=2.5), Endpoint(backends[1].address)])
    backends[1].set("NOT_SERVING", "svc")
    client.wait_for_states("R", "T")
    for _ in range(3):
        client.call()
    failure(lambda: client.call(fail="INTERNAL"))
    call = client.start(sleep=60)
    eventually(lambda: backends[0].stats().in_flight == 1)
    first, second = client.subchannels()
    call.cancel()

    assert (first.address, first.state.name, first.serving, first.reason) == (
        *(backends[0].address, "READY", 1, "SERVING"),
    )
    assert (first.in_flight, first.picks, first.successes, first.failures) == (1, 5, 3, 1)
    assert (first.ejected, first.weight) == (False, 2.5)
    assert (second.address, second.state.name, second.serving, second.reason) == (
        *(backends[1].address, "TRANSIENT_FAILURE", 2, "NOT_SERVING"),
    )
    assert (second.in_flight, second.picks, second.weight) == (0, 0, 1.0)
    assert first.since >= second.since >= 0


def test_since_begins_anew_with_each_state(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    first = client.subchannel(backend.address).since
    eventually(lambda: client.subchannel(backend.address).since > first + 0.2)
    old = client.subchannel(backend.address).since
    backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T")

    assert client.subchannel(backend.address).since < old


def test_counts_add_up(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends))
    calls = [client.start(arity, **how) for arity in ARITIES for how in _HOWS for _ in range(3)]
    cancelled = [client.start(arity, sleep=60) for arity in ARITIES for _ in range(3)]
    eventually(lambda: sum(backend.stats().in_flight for backend in backends) >= len(cancelled))
    for call in cancelled:
        assert call.cancel()
    codes = [call.end() for call in calls]
    for _ in range(9):
        client.call()
    becomes(lambda: [status.in_flight for status in client.subchannels()], [0, 0, 0])
    counts = client.subchannels()

    assert codes.count(grpc.StatusCode.OK) == 12
    assert sum(status.picks for status in counts) == len(calls) + len(cancelled) + 9
    assert sum(status.successes for status in counts) == 12 + 9
    assert sum(status.failures for status in counts) == len(calls) - 12
    # In turn: each got the same share.
    assert {status.picks for status in counts} == {(len(calls) + len(cancelled) + 9) // 3}


_HOWS: tuple[dict[str, Any], ...] = (
    {},
    {"fail": "NOT_FOUND"},
    {"fail": "UNAVAILABLE"},
    {"timeout": 0.5, "metadata": (("x-sleep", "60"),)},
)


def test_counts_outlive_connections(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    for _ in range(3):
        client.call()
    backend.restart(status="SERVING")
    becomes(lambda: "TRANSIENT_FAILURE" in [state for state, _ in client.facts.states(backend.address)], True)
    client.wait_until_ready()
    client.call()
    status = client.subchannel(backend.address)

    assert (status.picks, status.successes, status.failures, status.in_flight) == (4, 4, 0, 0)


def test_state_is_aggregated(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.open(addresses(backends))
    states = [client.state()]
    client.wait_until_ready(2)
    states.append(client.state())
    for backend, wanted in zip(backends, (("T", "R"), ("T", "T")), strict=True):
        backend.set("NOT_SERVING", "svc")
        client.wait_for_states(*wanted)
        states.append(client.state())
    client.close()
    states.append(client.state())

    assert states == ["IDLE", "READY", "READY", "TRANSIENT_FAILURE", "SHUTDOWN"]


def test_facts_tell_the_story(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T")
    client.close()

    story = [
        ("Addition", backend.address),
        ("StateChange", "CONNECTING>READY SERVING"),
        ("ChannelStateChange", "CONNECTING>READY"),
        ("StateChange", "READY>TRANSIENT_FAILURE NOT_SERVING"),
        ("ChannelStateChange", "READY>TRANSIENT_FAILURE"),
        ("Removal", backend.address),
        ("ChannelStateChange", "TRANSIENT_FAILURE>SHUTDOWN"),
    ]
    becomes(lambda: [_line(fact) for fact in client.facts.seen], story)
    times = [fact.at for fact in client.facts.seen]
    assert times == sorted(times)


def _line(fact: Any) -> tuple[str, str]:
    match fact:
        case Addition() | Removal():
            text = fact.address
        case StateChange():
            text = f"{fact.old.name}>{fact.new.name} {fact.reason}"
        case ChannelStateChange():
            text = f"{fact.old.name}>{fact.new.name}"
        case _:
            text = repr(fact)
    return type(fact).__name__, text


def test_listeners_come_and_go(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    client = face.ready([backend.address])
    # Facts come after the state they tell of, and go to whoever listens then.
    becomes(lambda: client.facts.states(backend.address)[-1:], [("READY", "SERVING")])
    late, gone = Facts(), Facts()
    for listener in (late, gone):
        client.run(lambda: client.channel.add_listener(listener))  # noqa: B023 - called before the next turn
    client.run(lambda: client.channel.remove_listener(gone))
    client.run(lambda: client.channel.remove_listener(print))
    backend.set("NOT_SERVING", "svc")

    becomes(lambda: late.states(backend.address), [("TRANSIENT_FAILURE", "NOT_SERVING")])
    assert gone.seen == []
    with pytest.raises(ConfigError, match="listener"):
        client.run(lambda: client.channel.add_listener(3))


def test_a_listener_that_raises_disturbs_nobody(face: Face, fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    (backend,) = fleet.lend()

    def broken(fact: object) -> None:
        raise RuntimeError("a bug of the user's")

    client = face.ready([backend.address], listeners=[broken])
    backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T")
    backend.set("SERVING", "svc")
    client.wait_for_states("R")

    becomes(lambda: len(client.facts.states(backend.address)), 3)
    assert client.call() == "b0"
    assert "a bug of the user's" in caplog.text


def test_a_listener_may_ask_the_channel(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    told = []

    def curious(fact: object) -> None:
        if isinstance(fact, StateChange):
            # Facts come after the state they tell of is published.
            told.append((fact.new.name, client.channel.state().name, len(client.channel.subchannels())))

    client = face.open([backend.address], listeners=[curious])
    client.wait_until_ready()

    becomes(lambda: told, [("READY", "READY", 1)])


def test_wait_until_ready_says_what_is_lacking(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    backends[1].set("NOT_SERVING", "svc")
    backends[2].kill()
    client = face.open(addresses(backends))
    client.wait_until_ready(1)
    client.wait_for_states("R", "T", "T")
    with pytest.raises(TimeoutError) as caught:
        client.wait_until_ready(2, timeout=0.2)
    text = str(caught.value)

    assert text.startswith("1 of 2 subchannels READY after 0.2 s: 3 subchannels for service 'svc': 1 READY, 2 TRANS")
    assert f"{backends[1].address}: NOT_SERVING" in text
    assert f"{backends[2].address}: " in text
    assert "refused" in text.lower()
    assert backends[0].address not in text


def test_wait_until_ready_waits(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].set("NOT_SERVING", "svc")
    client = face.open(addresses(backends))
    client.wait_until_ready()
    with pytest.raises(TimeoutError):
        client.wait_until_ready(2, timeout=0)
    backends[0].set("SERVING", "svc")
    client.wait_until_ready(2)

    assert {client.call() for _ in range(2)} == {"b0", "b1"}


@pytest.mark.parametrize(("timeout", "min_ready"), [(-1, 1), (1, 0), ("1", 1), (1, True), (1, 1.5)])
def test_wait_until_ready_checks_its_arguments(face: Face, fleet: Fleet, timeout: Any, min_ready: Any) -> None:
    (backend,) = fleet.lend()
    client = face.open([backend.address])

    with pytest.raises(ConfigError, match=r"timeout|min_ready"):
        client.wait_until_ready(min_ready, timeout)
    assert client.state() == "IDLE"
