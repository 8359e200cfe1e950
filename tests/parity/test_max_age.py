"""Servers that end every connection after a while (P4, H27): with gRPC that is no event, nor may it be one here."""

from __future__ import annotations

import pytest

from tests.backends.clients import eventually
from tests.parity.contest import contest
from tests.parity.face import Face, becomes
from tests.parity.fleet import Fleet, addresses
from tests.parity.tally import Tally

RATE = 200


@pytest.mark.parametrize("grace", [None, 200])
def test_h27_connections_that_age_cost_no_call(face: Face, fleet: Fleet, tally: Tally, grace: int | None) -> None:
    options = {"max_connection_age_ms": 1000, **({} if grace is None else {"max_connection_age_grace_ms": grace})}
    backends = fleet.lend(3, kind="max_age", options=options)
    before = [len(backend.stats().peers.get("Watch", ())) for backend in backends]
    with contest([face], addresses(backends), RATE) as run:
        run.wait_for(3 * RATE)
        # Ours and native's: each opens its Watch anew on every backend at least twice.
        for backend, first in zip(backends, before, strict=True):
            eventually(lambda backend=backend, first=first: len(backend.stats().peers["Watch"]) >= first + 6)
        states = run.clients[face.name].facts
        seen = [state for backend in backends for state, _ in states.states(backend.address)]
    tally.note(f"max_connection_age 1 s, grace {grace}: failed calls", run.failed())

    assert run.failed()[face.name] <= run.failed()[f"native {face.name}"], run.texts()
    assert "TRANSIENT_FAILURE" not in seen


def test_h27_an_idle_channel_moves_its_watch(face: Face, fleet: Fleet) -> None:
    (backend,) = fleet.lend(kind="max_age", options={"max_connection_age_ms": 1000})
    before = backend.stats()
    client = face.ready([backend.address])
    eventually(lambda: len(backend.stats().peers["Watch"]) >= len(before.peers.get("Watch", ())) + 3)
    backend.set("NOT_SERVING", "svc")
    client.wait_for_states("T")
    # One at a time: the old ones are cancelled.
    becomes(lambda: backend.stats().watches_open, 1)
    backend.set("SERVING", "svc")
    client.wait_for_states("R")

    assert client.call() == "b0"
    reasons = {reason for state, reason in client.facts.states(backend.address) if state == "TRANSIENT_FAILURE"}
    assert reasons == {"NOT_SERVING"}
