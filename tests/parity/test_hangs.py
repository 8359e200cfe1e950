"""Backends that hang, or are cut off without a word: no Watch can tell, but a heartbeat can.

grpcio itself goes on sending them their share of the calls for as long as it lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from healthlb import HealthCheck, Heartbeat
from healthlb.core.messages import HeartbeatLoss, LoadShedding, StateChange
from healthlb.telemetry.logs import describe
from tests.backends.clients import eventually, failure
from tests.backends.proxy import ChaosProxy
from tests.parity.contest import FACES, Contest, contest
from tests.parity.face import Client, Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.tally import Tally
from tests.parity.test_draining import goes_on, open_stream

RATE = 40
QUICK = HealthCheck(heartbeat=Heartbeat(interval=1.0, timeout=0.5))
# For threads that are late on a busy machine.
SLACK = 1.5


def out_after(clients: dict[str, Client], address: str, since: float) -> dict[str, float]:
    """Wait until each of these clients has taken the address out; return how long after `since` it did."""
    found: dict[str, float] = {}

    def are_out() -> bool:
        for name, client in clients.items():
            if name not in found and client.subchannel(address).state.name == "TRANSIENT_FAILURE":
                found[name] = round(time.monotonic() - since, 3)
        return len(found) == len(clients)

    eventually(are_out)
    return found


def back_after(run: Contest, backend: str, since: float, names: Sequence[str] | None = None) -> dict[str, float]:
    """Wait until each (of these names) gets calls answered by the backend; return how long after `since` the first began."""
    loads = {name: run.loads[name] for name in names or run.loads}
    for load in loads.values():
        load.wait_until(lambda outcome: outcome.backend == backend)
    return {
        name: round(min(o.began_at for o in load.outcomes if o.backend == backend and o.began_at >= since) - since, 3)
        for name, load in loads.items()
    }


def suffer(run: Contest, address: str, begin: Callable[[], None], end: Callable[[], None], tally: Tally) -> None:
    """Hang b0, wait until ours are rid of it, heal it, and compare."""
    begun_at = time.monotonic()
    begin()
    gone = out_after({name: run.clients[name] for name in FACES}, address, begun_at)
    out_at = time.monotonic()
    run.wait_for(3 * RATE)
    healed_at = time.monotonic()
    end()
    returned = back_after(run, "b0", healed_at)
    missed = {name: load.by_backend(out_at) for name, load in run.loads.items()}
    tally.note("out after, s", gone)
    tally.note("back after, s", returned)
    tally.note("failed calls, begun once ours were rid of it", run.failed(out_at))

    assert all(seconds < 1.5 + SLACK for seconds in gone.values()), gone
    for name in FACES:
        native = f"native {name}"
        assert returned[name] <= returned[native] + 1.0, returned
        # Once it is out it costs nothing, while grpcio loses its share; of three it is every third.
        assert run.failed(out_at)[name] == 0, run.loads[name].failures()
        assert run.failed(out_at)[native] >= RATE // 3, missed


def test_sigstop(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    with contest(faces, addresses(backends), RATE, timeout=1.0, health=QUICK) as run:
        streams = [open_stream(client, backends[0]) for client in run.ours]
        suffer(run, backends[0].address, backends[0].pause, backends[0].resume, tally)
        # Fresh connections were made, and the old ones drained: what is in flight on them was not touched.
        assert [goes_on(stream, "b0") for stream in streams] == [True, True]


def test_blackhole(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    with ChaosProxy(backends[0].address) as proxy:
        targets = [proxy.address, *addresses(backends[1:])]
        with contest(faces, targets, RATE, timeout=1.0, health=QUICK) as run:
            cut, mend = (lambda: proxy.set_mode("blackhole")), (lambda: proxy.set_mode("pass"))
            suffer(run, proxy.address, cut, mend, tally)


def test_an_idle_channel_notices_too(faces: tuple[Face, Face], fleet: Fleet) -> None:
    backends = fleet.lend(2)
    clients = {face.name: face.ready(addresses(backends), health=QUICK) for face in faces}
    paused_at = time.monotonic()
    backends[0].pause()
    gone = out_after(clients, backends[0].address, paused_at)
    reasons = {client.subchannel(backends[0].address).reason for client in clients.values()}
    backends[0].resume()
    resumed_at = time.monotonic()
    for client in clients.values():
        client.wait_until_ready(2)
    returned = time.monotonic() - resumed_at

    assert all(seconds < 1.5 + SLACK for seconds in gone.values()), gone
    assert reasons == {"no heartbeat"}
    assert returned < 1.0 + SLACK
    for client in clients.values():
        assert [fact.is_excluded for fact in client.facts.of(HeartbeatLoss)] == [True]


def test_at_the_defaults_it_takes_13_seconds_at_most(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(2)
    clients = {face.name: face.ready(addresses(backends)) for face in faces}
    paused_at = time.monotonic()
    backends[0].pause()
    gone = out_after(clients, backends[0].address, paused_at)
    tally.note("SIGSTOP of an idle channel's backend at the defaults: out after, s", gone)
    backends[0].resume()

    assert all(seconds < 13.0 + SLACK for seconds in gone.values()), gone


def test_a_deadline_raises_suspicion(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    health = HealthCheck(heartbeat=Heartbeat(interval=60.0, timeout=0.5))
    with contest(faces, addresses(backends), RATE, timeout=1.0, health=health) as run:
        paused_at = time.monotonic()
        backends[0].pause()
        gone = out_after({name: run.clients[name] for name in FACES}, backends[0].address, paused_at)
        out_at = time.monotonic()
        run.wait_for(RATE)
        backends[0].resume()
    tally.note("SIGSTOP, calls of 1 s, heartbeats of 0.5 s once a minute: out after, s", gone)

    # One call deadline and one heartbeat's timeout, far from the interval.
    assert all(seconds < 1.5 + SLACK for seconds in gone.values()), gone
    for name in FACES:
        assert run.failed(out_at)[name] == 0


def test_slow_calls_alone_exclude_nobody(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), health=HealthCheck(heartbeat=Heartbeat(interval=60.0, timeout=5.0)))
    before = backends[0].stats().checks
    backends[0].behave(sleep=60)
    calls = [client.start(timeout=0.3) for _ in range(4)]
    codes = [call.end().name for call in calls]
    eventually(lambda: backends[0].stats().checks > before)

    # The deadline made it a suspect; its answer to the heartbeat cleared it.
    assert sorted(codes) == ["DEADLINE_EXCEEDED"] * 2 + ["OK"] * 2
    assert client.states() == ["READY", "READY"]
    assert client.facts.of(HeartbeatLoss) == []


def fewest_ready(client: Client, count: int) -> int:
    """Return how many of `count` subchannels were READY when they were fewest, once all were."""
    ready: set[str] = set()
    fewest = count
    has_begun = False
    for fact in client.facts.of(StateChange):
        (ready.add if fact.new.name == "READY" else ready.discard)(fact.address)
        has_begun = has_begun or len(ready) == count
        fewest = min(fewest, len(ready)) if has_begun else fewest
    return fewest


def test_the_calls_of_who_hangs_are_refused_where_the_others_are_late(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends), health=QUICK)
    assert {client.call() for _ in range(20)} == {"b0", "b1"}
    backends[0].pause()
    eventually(lambda: client.subchannel(backends[0].address).reason == "no heartbeat")
    texts: list[str] = []

    def is_refused() -> bool:
        # The other one answers Checks, and all of its calls too late.
        calls = [client.start(sleep=0.4, timeout=0.1) for _ in range(20)]
        texts.extend(
            error.details() for error in (failure(call.take) for call in calls) if error.code().name == "UNAVAILABLE"
        )
        return bool(texts)

    eventually(is_refused)
    assert texts[0].startswith("1 of 2 subchannels hang, and the others have too much to do")
    refused = [failure(lambda: client.call(0.1, sleep=0.4)).code().name for _ in range(20)]

    began = client.facts.of(LoadShedding)[0]
    assert (began.is_over, began.hung, began.total) == (False, 1, 2)
    assert 0.3 < began.share < 0.7
    assert describe(began) == f"load shedding: {texts[0].partition('. What to do')[0]}"
    assert describe(replace(began, is_over=True, calls=1_000)) == "load shedding is over: calls refused: 1,000"
    assert set(refused) == {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def test_hung_checks_take_out_half_at_most(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(4, kind="hung_check")
    health = HealthCheck(heartbeat=Heartbeat(interval=0.3, timeout=0.2, ping=False))
    client = face.ready(addresses(backends), health=health)
    # No calls meanwhile: their success would be sign of life enough.
    # Who is kept in is told of once, however often it does not answer.
    eventually(lambda: sum(not fact.is_excluded for fact in client.facts.of(HeartbeatLoss)) == 2)

    # A fleet whose Checks hang, all else being well, keeps half of itself in rotation.
    assert fewest_ready(client, 4) >= 2
    assert client.call() in {"b0", "b1", "b2", "b3"}


@pytest.mark.parametrize("direction", ["half_up", "half_down"])
def test_a_network_that_works_one_way_only(faces: tuple[Face, Face], fleet: Fleet, direction: str) -> None:
    backends = fleet.lend(2)
    with ChaosProxy(backends[0].address) as proxy:
        targets = [proxy.address, backends[1].address]
        clients = {face.name: face.ready(targets, health=QUICK) for face in faces}
        cut_at = time.monotonic()
        proxy.set_mode(direction)  # type: ignore[arg-type]
        gone = out_after(clients, proxy.address, cut_at)
        proxy.set_mode("pass")
        for client in clients.values():
            client.wait_until_ready(2)

    assert all(seconds < 1.5 + SLACK for seconds in gone.values()), gone
