"""Faults that show at once, under load, side by side with grpcio's own round_robin and health checking.

One rule: the same backends, the same moment, the same load. What is compared with what grpcio does is never compared
with a number that was measured elsewhere.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from tests.backends import Backend
from tests.parity.face import Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.load import Load
from tests.parity.tally import Tally

PAIRS = ("sync", "aio")
Contest = dict[str, Load]


@contextmanager
def contest(faces: tuple[Face, Face], backends: list[Backend], rate: float) -> Iterator[Contest]:
    """Both faces, and grpcio in each, under the same load."""
    clients = {}
    for face in faces:
        clients[face.name] = face.ready(addresses(backends))
        clients[f"native {face.name}"] = face.native(addresses(backends))
    with ExitStack() as stack:
        loads = {name: Load(client, rate) for name, client in clients.items()}
        for load in loads.values():
            stack.enter_context(load)
        for load in loads.values():
            load.wait_until(lambda outcome: outcome.backend == "b0")
        yield loads
    for client in clients.values():
        client.close()


def wait_for_all(loads: Contest, count: int) -> None:
    """Return once each has made `count` more calls."""
    for load in loads.values():
        load.wait_for(count)


def assert_no_worse(failed: dict[str, int], small: int) -> None:
    """Fewer failures than grpcio in the same face, or hardly more."""
    for name in PAIRS:
        assert failed[name] <= failed[f"native {name}"] + small, failed


def test_kill_under_load_costs_no_more_than_native(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    with contest(faces, backends, rate=60) as loads:
        for backend in backends[:2]:
            backend.kill()
            wait_for_all(loads, 60)
    failed = {name: len(load.failed()) for name, load in loads.items()}
    tally.note("kill -9, two of three", failed)

    # What is lost is what was under way on the two: at this rate hardly more than one call on each.
    assert_no_worse(failed, small=3)
    for load in loads.values():
        assert {outcome.code for outcome in load.failed()} <= {grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("_repetition", range(5))
def test_graceful_stop_costs_no_more_than_native(
    faces: tuple[Face, Face], fleet: Fleet, tally: Tally, _repetition: int
) -> None:
    backends = fleet.lend(3)
    with contest(faces, backends, rate=60) as loads:
        backends[0].begin_stop(60.0)
        wait_for_all(loads, 60)
        # Its grace is a minute, but nobody's Watch holds it back.
        backends[0].wait_exit()
    failed = {name: len(load.failed()) for name, load in loads.items()}
    tally.note("graceful stop", failed)

    assert_no_worse(failed, small=0)


def test_h26_a_flip_stops_calls_as_soon_as_native_does(
    faces: tuple[Face, Face], fleet: Fleet, tally: Tally
) -> None:
    backends = fleet.lend(3)
    late: dict[str, list[float]] = {}
    with contest(faces, backends, rate=60) as loads:
        for _ in range(5):
            flipped_at = time.monotonic()
            backends[0].set("NOT_SERVING", "svc")
            wait_for_all(loads, 20)
            for name, load in loads.items():
                late.setdefault(name, []).append(load.last_to("b0") - flipped_at)
            backends[0].set("SERVING", "svc")
            for load in loads.values():
                load.wait_until(lambda outcome: outcome.backend == "b0")
    medians = {name: statistics.median(seconds) for name, seconds in late.items()}
    tally.note("flip: the last call begins after, s", {name: round(value, 4) for name, value in medians.items()})

    assert [len(load.failed()) for load in loads.values()] == [0] * 4
    for name in PAIRS:
        assert medians[name] <= medians[f"native {name}"] + 0.05, late
