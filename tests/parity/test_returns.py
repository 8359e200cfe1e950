"""Backends that come back: grpcio's own backoff keeps them out for longer the longer they were away."""

from __future__ import annotations

import time

import pytest

from tests.backends import Backend
from tests.backends.clients import eventually
from tests.backends.proxy import ChaosProxy
from tests.parity.contest import FACES, contest
from tests.parity.face import Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.tally import Tally
from tests.parity.test_hangs import SLACK, back_after

RATE = 20


def wait(seconds: float) -> None:
    """Let a fault last."""
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        time.sleep(0.05)


@pytest.mark.parametrize(("away", "with_native"), [(10.0, True), (30.0, False)])
def test_after_an_outage_it_is_in_rotation_again_within_1_5_seconds(
    faces: tuple[Face, Face], fleet: Fleet, tally: Tally, away: float, with_native: bool
) -> None:
    """After 30 s grpcio's own backoff takes 12 to 20 s more, which nobody waits for here."""
    backends = fleet.lend(3)
    with contest(faces, addresses(backends), RATE, timeout=5.0) as run:
        backends[0].kill()
        wait(away)
        backends[0].restart()
        serving_at = backends[0].stats().started_at
        back_at = time.monotonic()
        returned = back_after(run, "b0", serving_at, None if with_native else FACES)
        run.wait_for(RATE)
    tally.note(f"back in rotation after {away:g} s down, s", returned)

    for name in FACES:
        # And the first calls that it gets succeed, whatever strayed to it while it was away.
        assert run.failed(back_at)[name] == 0, run.loads[name].failures()
        assert returned[name] <= 1.5 + SLACK, returned
        assert returned[name] <= returned.get(f"native {name}", returned[name]) + 0.5, returned


def test_the_only_one_comes_back(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(1)
    clients = {face.name: face.ready(addresses(backends)) for face in faces}
    backends[0].kill()
    for client in clients.values():
        client.wait_for_states("T")
    waiting = {name: client.start(wait_for_ready=True, timeout=None) for name, client in clients.items()}
    strays = [client.start(timeout=None) for client in clients.values() for _ in range(3)]
    assert {call.end().name for call in strays} == {"UNAVAILABLE"}
    wait(3.0)
    backends[0].restart()
    serving_at = backends[0].stats().started_at
    answers = {name: call.result() for name, call in waiting.items()}
    took = time.monotonic() - serving_at

    assert set(answers.values()) == {b"b0"}
    assert took <= 1.5 + SLACK
    assert {client.call() for client in clients.values()} == {"b0"}


def flap(backend: Backend, count: int) -> None:
    """Kill and restart it so often."""
    for _ in range(count):
        backend.kill()
        backend.restart()


def test_a_backend_that_restarts_again_and_again_is_used_each_time(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = face.ready(addresses(backends))
    flap(backends[0], 3)
    client.wait_until_ready(2)

    assert {client.call() for _ in range(2)} == {"b0", "b1"}
    eventually(lambda: backends[0].stats().watches_open == 1)


def test_a_port_that_takes_connections_and_says_nothing_is_tried_afresh(faces: tuple[Face, Face], fleet: Fleet) -> None:
    (backend,) = fleet.lend()
    with ChaosProxy(backend.address) as proxy:
        proxy.set_mode("blackhole")
        clients = [face.open([proxy.address]) for face in faces]
        calls = [client.start(wait_for_ready=True, timeout=None) for client in clients]
        eventually(lambda: proxy.accepted >= 3 * len(clients))
        # Each connection is given 20 s (a slow handshake is none the worse), but others race it.
        assert {client.state() for client in clients} == {"CONNECTING"}
        proxy.set_mode("pass")

        assert [call.result() for call in calls] == [b"b0"] * 2
