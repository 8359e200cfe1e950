"""Backends that say SERVING and cannot be used: passive health takes them out, and takes them back.

grpcio's own round_robin goes on sending them their share of the calls.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import grpc
import pytest

from healthlb import Failover, HealthCheck, Heartbeat, Outliers
from healthlb.core.messages import Ejection, Return
from tests.backends.clients import eventually
from tests.backends.proxy import ChaosProxy
from tests.parity.face import Asked, Client, Face, becomes, steering
from tests.parity.fleet import Fleet, addresses, executed
from tests.parity.tally import Tally

SHORT = Outliers(base_ejection_time=1.0, jitter=0.0)
# No test waits for the end of these.
LONG = Outliers(base_ejection_time=30.0)
ANY = Failover(idempotent=True)
FAILURES = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED")


def call(client: Client, count: int, timeout: float = 5.0) -> Counter[str]:
    """Make calls one after the other; count them by who answered or by how they failed."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        try:
            seen[client.call(timeout)] += 1
        except grpc.RpcError as error:
            seen[error.code().name] += 1
    return seen


def call_until_ejected(client: Client, address: str, count: int, timeout: float = 5.0) -> Counter[str]:
    """Make `count` calls, of which the five that one backend fails are all before its ejection is in force.

    Calls that follow each other without a pause may be picked before the channel's thread has had its turn.
    """
    seen: Counter[str] = Counter()
    while sum(seen[code] for code in FAILURES) < 5 and seen.total() < count:
        seen += call(client, 1, timeout)
    eventually(lambda: client.subchannel(address).ejected)
    return seen + call(client, count - seen.total(), timeout)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNKNOWN"])
def test_who_fails_every_call_is_out_within_ten(face: Face, fleet: Fleet, tally: Tally, code: str) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), outliers=LONG)
    backends[0].behave(fail=code)
    before = executed(backends[0])
    seen = call_until_ejected(client, backends[0].address, 60)
    reached = executed(backends[0]) - before
    native = call(face.native(addresses(backends)), 30)
    tally.note(
        f"SERVING and {code}, calls that reach it of 60", {"ours": reached, "native, failed of 30": native[code]}
    )
    status = client.subchannel(backends[0].address)

    assert (reached, seen[code]) == (5, 5)
    assert native[code] >= 5
    assert (status.ejected, status.state.name, status.serving) == (True, "TRANSIENT_FAILURE", 1)
    assert status.reason.startswith("ejected for 3")
    assert status.reason.endswith("s: 5 calls failed in a row")
    assert [sub.ejected for sub in client.subchannels()] == [True, False, False]
    eventually(lambda: [fact.cause for fact in client.facts.of(Ejection)] == ["5 calls failed in a row"])


def test_who_answers_none_in_time_is_out_within_ten(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), outliers=LONG)
    call(client, 6)
    backends[0].behave(sleep=60)
    before = executed(backends[0])
    seen = call_until_ejected(client, backends[0].address, 45, timeout=0.3)

    assert (executed(backends[0]) - before, seen["DEADLINE_EXCEEDED"]) == (5, 5)
    assert client.subchannel(backends[0].address).ejected


def test_a_deadline_that_nobody_meets_ejects_nobody(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends))
    for backend in backends:
        backend.behave(sleep=60)

    assert call(client, 30, timeout=0.1) == {"DEADLINE_EXCEEDED": 30}
    assert client.states() == ["READY"] * 3
    assert client.facts.of(Ejection) == []


@pytest.mark.parametrize("code", ["NOT_FOUND", "PERMISSION_DENIED", "ABORTED", "CANCELLED"])
def test_the_applications_codes_eject_nobody(face: Face, fleet: Fleet, code: str) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    backends[0].behave(fail=code)

    assert call(client, 40) == {code: 20, "b1": 20}
    assert client.facts.of(Ejection) == []


@pytest.mark.parametrize("failover", [Failover(), ANY], ids=["once", "repeated"])
def test_a_lost_connection_is_one_failure_however_many_calls_were_on_it(
    face: Face, fleet: Fleet, failover: Failover
) -> None:
    backends = fleet.lend(3)
    with ChaosProxy(backends[0].address) as proxy:
        client = face.ready([proxy.address, *addresses(backends[1:])], outliers=LONG, failover=failover)
        calls = [client.begin("unary_unary", Asked(metadata=steering({"sleep": 0.5}))) for _ in range(60)]
        eventually(lambda: client.subchannel(proxy.address).in_flight == 20)
        proxy.set_mode("reset")
        proxy.set_mode("pass")
        for one in calls:
            with contextlib.suppress(grpc.RpcError):
                one.result()
        eventually(lambda: client.states() == ["READY"] * 3)
        seen = call(client, 30)

    assert client.facts.of(Ejection) == []
    assert seen == {backend.name: 10 for backend in backends}


def test_the_last_one_stays(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    for backend in backends:
        backend.behave(fail="INTERNAL")

    assert call(client, 60) == {"INTERNAL": 60}
    assert client.state() == "READY"
    assert sum(sub.ejected for sub in client.subchannels()) <= 1


def test_addresses_where_nothing_ever_was_count_in_no_share(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    dead = [f"127.0.0.1:{port}" for port in range(1, 5)]
    client = face.ready([*addresses(backends), *dead], min_ready=3, outliers=LONG, panic_threshold=0.5)
    client.wait_for_states(*"RRRTTTT")
    for backend in backends[:2]:
        backend.behave(fail="INTERNAL")

    assert not client.run(client.channel.is_panicking)
    eventually(lambda: bool(call(client, 6)) and sum(sub.ejected for sub in client.subchannels()) == 2)
    # Now two of the three that were ever connected are out.
    eventually(lambda: bool(client.run(client.channel.is_panicking)))


def test_none_is_off(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), outliers=None)
    backends[0].behave(fail="INTERNAL")

    assert call(client, 60)["INTERNAL"] == 20
    assert client.states() == ["READY"] * 3


def test_it_returns_through_one_call(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), outliers=SHORT, failover=ANY)
    backends[0].behave(fail="INTERNAL")
    call(client, 15)
    eventually(lambda: client.subchannel(backends[0].address).reason.startswith("on probe"))
    before = executed(backends[0])
    failed = call(client, 30)["INTERNAL"]
    eventually(lambda: len(client.facts.of(Ejection)) == 2)
    longer = [round(fact.duration / 1e9, 3) for fact in client.facts.of(Ejection)]

    assert (failed, executed(backends[0]) - before, longer) == (1, 1, [1.0, 2.0])

    backends[0].behave()
    eventually(lambda: client.subchannel(backends[0].address).reason.startswith("on probe"))

    assert client.call() == "b0"
    eventually(lambda: [fact.cause for fact in client.facts.of(Return)] == ["the probe was answered"])
    assert client.states() == ["READY"] * 3
    assert call(client, 30) == {"b0": 10, "b1": 10, "b2": 10}


def test_only_one_of_many_at_once_is_the_probe(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), outliers=SHORT, failover=ANY)
    backends[0].behave(fail="UNKNOWN")
    call(client, 15)
    eventually(lambda: client.subchannel(backends[0].address).reason.startswith("on probe"))
    backends[0].behave(sleep=0.5)
    before = executed(backends[0])
    calls = [client.start() for _ in range(20)]
    answers = Counter(_answer(ongoing) for ongoing in calls)

    assert (executed(backends[0]) - before, answers["b0"]) == (1, 1)
    eventually(lambda: client.states() == ["READY"] * 3)


@pytest.mark.parametrize("is_hung", [False, True])
def test_without_calls_nobody_stays_out(face: Face, fleet: Fleet, is_hung: bool) -> None:
    backends = fleet.lend(3)
    # With a ping, the heartbeat would find the hang before the calls do.
    health = HealthCheck(heartbeat=Heartbeat(ping=False))
    client = face.ready(addresses(backends), min_ready=3, outliers=SHORT, health=health)
    if is_hung:
        backends[0].pause()
    else:
        backends[0].behave(fail="INTERNAL")
    eventually(lambda: bool(call(client, 3, timeout=0.2)) and len(client.facts.of(Ejection)) > 0)
    backends[0].resume()

    client.wait_until_ready(3)
    eventually(lambda: client.states() == ["READY"] * 3)


@pytest.mark.parametrize("timeout", [2.0, 10.0], ids=["replaced", "resumed"])
def test_an_answer_ends_an_ejection_for_silence_and_none_for_failures(face: Face, fleet: Fleet, timeout: float) -> None:
    backends = fleet.lend(4)
    # With a ping, the heartbeat would find the hang before the calls do.
    health = HealthCheck(heartbeat=Heartbeat(interval=60.0, timeout=timeout, ping=False))
    client = face.ready(addresses(backends), health=health, outliers=LONG)
    backends[0].pause()
    backends[1].behave(fail="INTERNAL")
    out = [backend.address for backend in backends[:2]]
    eventually(
        lambda: bool(call(client, 4, timeout=0.2)) and [sub.ejected for sub in client.subchannels()][:2] == [True] * 2
    )
    if timeout == 2.0:
        eventually(lambda: client.subchannel(out[0]).reason == "no heartbeat")
    backends[0].resume()

    # No call is made: the answer alone ends it.
    becomes(lambda: [(fact.address, fact.cause) for fact in client.facts.of(Return)], [(out[0], "it answers again")])
    assert [sub.ejected for sub in client.subchannels()] == [False, True, False, False]
    assert call(client, 30) == {"b0": 10, "b2": 10, "b3": 10}


def _answer(ongoing: Any) -> str:
    with contextlib.suppress(grpc.RpcError):
        return str(ongoing.result().decode())
    return ""


def test_an_error_says_who_is_ejected(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), outliers=LONG)
    backends[0].behave(fail="INTERNAL")
    call(client, 12)
    with pytest.raises(TimeoutError, match=r"1 READY, 1 TRANSIENT_FAILURE; .*: ejected for 3\d\.\d s: 5 calls failed"):
        client.wait_until_ready(min_ready=2, timeout=0.05)


def test_a_restarted_backend_is_back_at_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), outliers=LONG)
    backends[0].behave(fail="INTERNAL")
    call(client, 15)
    eventually(lambda: client.subchannel(backends[0].address).ejected)
    backends[0].restart()
    eventually(lambda: client.subchannel(backends[0].address).reason.startswith("on probe"))

    call(client, 1)
    eventually(lambda: client.states() == ["READY"] * 3)
