"""Faults that show at once, under load, side by side with grpcio's own round_robin and health checking."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping

import grpc

from tests.backends import Backend
from tests.parity.contest import FACES, Contest, contest
from tests.parity.face import Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.tally import Tally

RATE = 40
IDEMPOTENT = tuple(f"idempotent {name}" for name in FACES)


def assert_no_worse(failed: Mapping[str, int], small: int, told: object) -> None:
    """Fewer failed calls than grpcio, or hardly more; and none of those that may be made again."""
    for name in FACES:
        assert failed[name] <= max(failed["native sync"], failed["native aio"]) + small, told
    assert [failed[name] for name in IDEMPOTENT] == [0, 0], told


def test_kill_under_load_costs_no_more_than_native(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    with contest(faces, addresses(backends), RATE, has_idempotent=True) as run:
        for backend in backends[:2]:
            backend.kill()
            run.wait_for(RATE)
    tally.note("kill -9, two of three: failed calls", run.failed())

    # What is lost is what was under way on the two: at this rate hardly more than one call on each.
    assert_no_worse(run.failed(), small=3, told=run.texts())
    for load in run.loads.values():
        assert {outcome.code for outcome in load.failed()} <= {grpc.StatusCode.UNAVAILABLE}


def test_graceful_stops_cost_no_more_than_native(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    failed: Counter[str] = Counter()
    told = []
    for _ in range(5):
        with contest(faces, addresses(backends), RATE, has_idempotent=True) as run:
            backends[0].begin_stop(60.0)
            run.wait_for(RATE)
            # Its grace is a minute, but nobody's Watch holds it back.
            backends[0].wait_exit()
        failed.update(run.failed())
        told.append(run.texts())
        backends[0].restart()
    tally.note("five graceful stops: failed calls", failed)

    # A server that stops cancels calls that come in before its GOAWAY is heard: everybody's, by chance.
    assert_no_worse(failed, small=3, told=told)
    assert {text for one in told for texts in one.values() for text in texts} <= {"CANCELLED: CANCELLED"}


def flip(backend: Backend, run: Contest) -> dict[str, float]:
    """Turn a backend unhealthy; return how long after that each began its last call to it."""
    flipped_at = time.monotonic()
    backend.set("NOT_SERVING", "svc")
    run.wait_for(20)
    return {name: max(0.0, load.last_to(backend.name) - flipped_at) for name, load in run.loads.items()}


def test_h26_a_flip_stops_calls_as_soon_as_native_does(faces: tuple[Face, Face], fleet: Fleet, tally: Tally) -> None:
    backends = fleet.lend(3)
    late = []
    with contest(faces, addresses(backends), RATE) as run:
        for _ in range(5):
            late.append(flip(backends[0], run))
            backends[0].set("SERVING", "svc")
            run.wait_for_answers_of("b0")
    medians = {name: round(statistics.median(one[name] for one in late), 4) for name in run.loads}
    tally.note("flip: the last call to it begins after, s", medians)

    assert set(run.failed().values()) == {0}
    for name in FACES:
        assert medians[name] <= medians[f"native {name}"] + 0.05, late
