"""Calls in flight on a backend that is found hung: those that may be are sent elsewhere, and none is executed unasked.

The server process is stopped (SIGSTOP) while it executes them; executions are read from the servers' own journals.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from healthlb import Failover, HealthCheck, Heartbeat, RetryBudget
from healthlb.core.messages import Rescue
from tests.backends import Backend
from tests.backends.clients import PATIENCE, eventually
from tests.failover.support import ANY, Call, outcome, ready
from tests.parity.face import ARITIES, Client, Face, becomes
from tests.parity.fleet import Fleet

QUICK = HealthCheck(heartbeat=Heartbeat(interval=0.6, timeout=0.4))
LONG = 60.0
STORY = "rescued: the backend was found hung"


def hang(backend: Backend, *calls: Call) -> None:
    """Stop a backend's process once it executes these calls."""
    eventually(lambda: all(call.executions(backend) == [1] for call in calls))
    backend.pause()


def rescued(client: Client, count: int) -> set[str]:
    """Wait until so many calls were rescued, and no more; return where from."""
    becomes(lambda: sum(fact.calls for fact in client.facts.of(Rescue)), count)
    return {fact.address for fact in client.facts.of(Rescue)}


def test_idempotent_calls_go_elsewhere_at_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=LONG)
    client = ready(face, backends, health=QUICK)
    blocking = Call(client)
    calls = [Call(client) for _ in ARITIES]
    ongoing = [call.begin(arity) for call, arity in zip(calls, ARITIES, strict=True)]
    stopping = threading.Thread(target=hang, args=(backends[0], blocking, *calls))
    stopping.start()

    assert blocking.make() == "b1"
    for one, arity in zip(ongoing, ARITIES, strict=True):
        assert outcome(one, arity).startswith(b"b1")
    stopping.join()
    assert [call.executions(*backends) for call in (blocking, *calls)] == [[1, 1]] * 5
    assert rescued(client, 5) == {backends[0].address}


def test_a_call_that_may_be_hedged_goes_elsewhere_before(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=LONG)
    client = ready(face, backends, replace(ANY, hedging_delay=LONG), health=QUICK)
    call = Call(client)
    stopping = threading.Thread(target=hang, args=(backends[0], call))
    stopping.start()

    assert call.make() == "b1"
    stopping.join()
    assert call.executions(*backends) == [1, 1]


def test_the_story_is_whole(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=LONG)
    backends[1].behave(fail="INTERNAL")
    client = ready(face, backends, health=QUICK)
    call = Call(client)
    stopping = threading.Thread(target=hang, args=(backends[0], call))
    stopping.start()

    with pytest.raises(grpc.RpcError) as caught:
        call.make()
    stopping.join()
    attempts = caught.value.attempts  # type: ignore[attr-defined]
    assert [(one.address, one.code.name) for one in attempts] == [
        (backends[0].address, "UNAVAILABLE"),
        (backends[1].address, "INTERNAL"),
    ]
    assert attempts[0].details == STORY


@pytest.mark.parametrize("failover", [Failover(), replace(ANY, rescue=False)], ids=["not idempotent", "off"])
def test_any_other_call_stays_and_is_executed_once(face: Face, fleet: Fleet, failover: Failover) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=1.0)
    client = ready(face, backends, failover, health=QUICK)
    calls = [Call(client) for _ in ARITIES]
    ongoing = [call.begin(arity) for call, arity in zip(calls, ARITIES, strict=True)]
    hang(backends[0], *calls)
    client.wait_for_states("TRANSIENT_FAILURE", "READY")
    time.sleep(0.2)
    backends[0].resume()

    for one, arity in zip(ongoing, ARITIES, strict=True):
        assert outcome(one, arity).startswith(b"b0")
    assert [call.executions(*backends) for call in calls] == [[1, 0]] * 4
    assert client.facts.of(Rescue) == []


def test_initial_metadata_that_nobody_asked_for_keep_no_call(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=1.0)
    client = ready(face, backends, health=QUICK)
    calls = {arity: Call(client, headers=1) for arity in ARITIES}
    ongoing = {arity: call.begin(arity) for arity, call in calls.items()}
    hang(backends[0], *calls.values())
    rescued(client, 4)
    backends[0].resume()

    assert {outcome(one, arity)[:2] for arity, one in ongoing.items()} == {b"b1"}
    rescued(client, 4)


def test_a_call_whose_initial_metadata_were_asked_for_stays(face: Face, fleet: Fleet) -> None:
    """C-core hands those of one request and one response out with the end."""
    backends = fleet.lend(2)
    backends[0].behave(sleep=1.0)
    client = ready(face, backends, health=QUICK)
    call, beside = Call(client, headers=1), Call(client)
    ongoing, other = call.begin("stream_unary"), beside.begin("stream_unary")
    metadata = client.run(ongoing._call.initial_metadata)  # type: ignore[attr-defined]
    hang(backends[0], call, beside)
    rescued(client, 1)
    backends[0].resume()

    assert dict(tuple(metadata))["x-backend"] == "b0"
    assert (ongoing.result()[:2], other.result()[:2]) == (b"b0", b"b1")
    assert call.executions(*backends) == [1, 0]
    rescued(client, 1)


def test_a_committed_stream_stays(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    client = ready(face, backends, health=QUICK)
    call = Call(client)
    stream = call.begin("stream_stream", requests=None)
    stream.write(b"a")
    assert stream.read() == b"b0:a"
    backends[0].pause()
    client.wait_for_states("TRANSIENT_FAILURE", "READY")
    time.sleep(0.2)
    backends[0].resume()
    stream.write(b"b")
    stream.finish()

    assert stream.drain() == [b"b0:b"]
    assert call.executions(*backends) == [1, 0]
    assert client.facts.of(Rescue) == []


def test_rescues_keep_to_the_budget(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=2.0)
    small = Failover(idempotent=True, budget=RetryBudget(ratio=0.0, min_per_second=0.3, ttl=10.0))
    client = ready(face, backends, small, health=QUICK)
    calls = [Call(client) for _ in range(8)]
    ongoing = [call.begin() for call in calls]
    hang(backends[0], *calls)
    assert rescued(client, 3) == {backends[0].address}
    time.sleep(0.2)
    backends[0].resume()

    answers = [one.result() for one in ongoing]
    assert sorted(answers) == [b"b0"] * 5 + [b"b1"] * 3
    assert sorted(call.executions(*backends) for call in calls) == [[1, 0]] * 5 + [[1, 1]] * 3


def test_calls_that_begin_while_it_hangs_go_elsewhere_too(face: Face, fleet: Fleet) -> None:
    """Those that never reach the process are in flight on its connection as well."""
    backends = fleet.lend(2)
    client = ready(face, backends, health=QUICK)
    assert client.call() == "b0"
    backends[0].pause()
    calls = [Call(client) for _ in range(3)]
    ongoing = [call.begin(timeout=PATIENCE) for call in calls]

    assert [one.result() for one in ongoing] == [b"b1"] * 3
    backends[0].resume()
    assert all(call.executions(backends[1]) == [1] for call in calls)


class Passing(grpc.aio.UnaryUnaryClientInterceptor):
    """Passes calls on."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See grpcio."""
        return await continuation(client_call_details, request)


def test_a_call_behind_an_interceptor_goes_elsewhere_too(aio_face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[0].behave(sleep=LONG)
    client = ready(aio_face, backends, health=QUICK, interceptors=[Passing()])
    call = Call(client)
    ongoing = call.begin()
    hang(backends[0], call)

    assert ongoing.result() == b"b1"
    assert call.executions(*backends) == [1, 1]
    assert rescued(client, 1) == {backends[0].address}
