"""Pickers that look at calls, on real backends."""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from healthlb import Overload
from healthlb.pickers import CallEnd, CallInfo, Code, LoadReport, RingHash, RoundRobin, Subchannel
from tests.backends import Backend
from tests.backends.clients import eventually
from tests.parity.face import ARITIES, Cancelled, Client, Face
from tests.parity.fleet import Fleet, addresses
from tests.parity.load import Load
from tests.parity.tally import Tally

SLOW = 0.1
LOAD_AWARE = ("least_request", "peak_ewma")


def spread(client: Client, count: int, **wanted: Any) -> Counter[str]:
    """The backends that answer so many calls, one after the other."""
    return Counter(client.call(**wanted) for _ in range(count))


# --- one slow backend of three -----------------------------------------------------------------------


def test_o7_load_aware_pickers_go_round_a_slow_backend(face: Face, fleet: Fleet, tally: Tally) -> None:
    """O7: at the same load, at the same time, on the same backends."""
    backends = fleet.lend(3)
    backends[0].behave(sleep=SLOW)
    loads = {}
    with ExitStack() as stack:
        for picker in ("round_robin", *LOAD_AWARE):
            client = face.ready(addresses(backends), picker=picker)
            loads[picker] = stack.enter_context(Load(client, rate=60))
        for load in loads.values():
            load.wait_for(200)
    seconds = {name: [one.ended_at - one.began_at for one in load.outcomes] for name, load in loads.items()}
    means = {name: statistics.fmean(values) for name, values in seconds.items()}
    tails = {name: statistics.quantiles(values, n=100)[89] for name, values in seconds.items()}
    shares = {
        name: sum(one.backend == "b0" for one in load.outcomes) / len(load.outcomes) for name, load in loads.items()
    }
    tally.note("one slow backend of three: mean, s", means)
    tally.note("one slow backend of three: p90, s", tails)
    tally.note("one slow backend of three: its share", shares)

    assert not [one for load in loads.values() for one in load.failed()]
    assert shares["round_robin"] == pytest.approx(1 / 3, abs=0.03)
    assert shares["least_request"] < 0.25
    assert shares["peak_ewma"] < 0.1
    for name in LOAD_AWARE:
        assert means[name] < 0.85 * means["round_robin"]
    assert tails["peak_ewma"] < SLOW <= tails["round_robin"]


def test_o7_load_aware_pickers_queue_up_at_no_small_backend(face: Face, fleet: Fleet, tally: Tally) -> None:
    """O7: a third of the calls is more than the smallest of three can do; p99 at the same rate, one after the other."""
    backends = fleet.lend(3, options={"workers": 2})
    for backend, seconds in zip(backends, (0.1, 0.02, 0.01), strict=True):
        backend.behave(sleep=seconds)
    tails = {}
    for picker in ("round_robin", *LOAD_AWARE):
        with Load(face.ready(addresses(backends), picker=picker), rate=90) as load:
            load.wait_for(180)
        assert not load.failed()
        tails[picker] = statistics.quantiles([one.ended_at - one.began_at for one in load.outcomes], n=100)[98]
    tally.note("one small backend of three: p99, s", tails)

    for name in LOAD_AWARE:
        assert tails[name] < 0.6 * tails["round_robin"]


@pytest.mark.parametrize("picker", LOAD_AWARE)
def test_p16_a_backend_that_fails_fast_draws_no_calls(face: Face, fleet: Fleet, picker: str) -> None:
    """P16, F8."""
    backends = fleet.lend(3)
    backends[0].behave(fail="INTERNAL")
    for backend in backends[1:]:
        backend.behave(sleep=0.02)
    with Load(face.ready(addresses(backends), picker=picker, failover=None), rate=80) as load:
        load.wait_for(240)

    assert len(load.failed()) / len(load.outcomes) < 0.12


# --- ring_hash -----------------------------------------------------------------------------------------


def test_one_users_calls_go_to_one_backend_which_has_them_back_after_a_restart(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    client = face.ready(addresses(backends), picker=lambda: RingHash(request_hash_header="x-user"), outliers=None)
    users = [f"user-{number}" for number in range(30)]
    homes = {user: client.call(user=user) for user in users}
    assert set(homes.values()) == {"b0", "b1", "b2"}
    assert all(spread(client, 3, user=user) == {home: 3} for user, home in homes.items())

    backends[0].kill()
    client.wait_for_states("T", "R", "R")
    moved = {user for user, home in homes.items() if client.call(user=user) != home}
    assert moved == {user for user, home in homes.items() if home == "b0"}

    backends[0].restart()
    client.wait_for_states("R", "R", "R")
    assert {user: client.call(user=user) for user in users} == homes


def test_a_ring_from_a_service_config(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(3)
    config = {"loadBalancingConfig": [{"ring_hash": {"minRingSize": 1024, "requestHashHeader": "x-user"}}]}
    client = face.ready(addresses(backends), service_config=config)

    assert len(spread(client, 10, user="ada")) == 1
    assert set(spread(client, 60)) == {"b0", "b1", "b2"}


# --- weighted_round_robin --------------------------------------------------------------------------------

REPORTING = {
    "loadBalancingConfig": [
        {"weighted_round_robin": {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s", "enableOobLoadReport": False}}
    ]
}


@pytest.mark.parametrize("arity", ["blocking", *ARITIES])
def test_backends_get_what_their_load_reports_say(face: Face, fleet: Fleet, arity: str) -> None:
    """A51, A58: 100 queries a second at 50 %, 25 % and 12.5 % utilization weigh 1, 2 and 4."""
    backends = fleet.lend(3)
    for backend, report in zip(backends, ("100,0.5", "100,0.25", "100,0.125"), strict=True):
        backend.behave(report=report)
    client = face.ready(addresses(backends), service_config=REPORTING)

    def call() -> str:
        if arity == "blocking":
            return client.call()
        return client.start(arity).take()[0].decode().partition(":")[0]

    def has_weights() -> bool:
        return len({call() for _ in range(3)}) < 3

    eventually(has_weights)
    counts = Counter(call() for _ in range(140))

    assert [counts[name] for name in ("b0", "b1", "b2")] == pytest.approx([20, 40, 80], abs=4)


def test_grpcio_shows_no_binary_load_report(face: Face, fleet: Fleet) -> None:
    """C-core keeps it to itself (grpcio 1.85.1), hence the text; once it shows it, the docs have to say so."""
    client = face.ready(addresses(fleet.lend(1)))
    ongoing = client.start(report="100,0.5")
    ongoing.take()

    assert set(ongoing.trailing()) == {"endpoint-load-metrics", "x-backend"}


# --- what a factory hears ----------------------------------------------------------------------------------


class Hearing(RoundRobin):
    """Round robin that keeps what it hears."""

    needs_latency = True
    needs_reports = True

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Subchannel, CallEnd]] = []
        self.lists: list[Sequence[Any]] = []

    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        self.heard.append((sub, end))

    def endpoints(self, endpoints: Sequence[Any]) -> None:
        self.lists.append(endpoints)


class HearingOfFailures(Hearing):
    needs_latency = False
    needs_reports = False


class Deaf(Hearing):
    def call_ended(self, sub: Subchannel, end: CallEnd) -> None:
        super().call_ended(sub, end)
        raise RuntimeError("I cannot hear")


def hearing(
    face: Face, fleet: Fleet, made: Callable[[], Hearing] = Hearing, **arguments: Any
) -> tuple[Client, Hearing]:
    factory = made()
    backend: Backend = fleet.lend(1)[0]
    backend.behave(report="100,0.5")
    return face.ready([backend.address], picker=lambda: factory, **arguments), factory


def heard(factory: Hearing, count: int) -> list[CallEnd]:
    eventually(lambda: len(factory.heard) >= count)
    return [end for _, end in factory.heard]


def test_a_factory_hears_how_long_calls_took_and_what_was_reported(face: Face, fleet: Fleet) -> None:
    client, factory = hearing(face, fleet)
    client.call(sleep=0.05)
    client.start("unary_unary", sleep=0.05).take()
    for arity in ARITIES[1:]:
        client.start(arity).take()
    ends = heard(factory, 5)

    assert {end.code for end in ends} == {Code.OK}
    assert all(end.report == LoadReport(cpu_utilization=0.5, qps=100.0) for end in ends)
    assert [end.seconds is None for end in ends] == [False, False, True, True, True]
    assert all(0.05 <= (end.seconds or 0.0) < 1.0 for end in ends[:2])
    assert [end.at for end in ends] == sorted(end.at for end in ends)
    assert {sub.load.in_flight for sub, _ in factory.heard} == {0}


def test_a_factory_hears_of_every_failed_attempt(face: Face, fleet: Fleet) -> None:
    client, factory = hearing(face, fleet, HearingOfFailures, failover=None)
    client.call()
    for begin in (lambda: client.call(fail="NOT_FOUND"), lambda: client.start(fail="INTERNAL").take()):
        with pytest.raises(grpc.RpcError):
            begin()
    ends = heard(factory, 2)

    assert [end.code for end in ends] == [Code.NOT_FOUND, Code.INTERNAL]
    assert [end.is_failure for end in ends] == [False, True]
    assert [end.report for end in ends] == [None, None]


def test_a_factory_hears_of_a_cancelled_call_how_long_it_had_taken(face: Face, fleet: Fleet) -> None:
    client, factory = hearing(face, fleet)
    ongoing = client.start(sleep=5.0)
    ongoing.cancel()
    with pytest.raises((Cancelled, grpc.RpcError)):
        ongoing.take()
    (end,) = heard(factory, 1)

    assert end.code is Code.CANCELLED
    assert end.seconds is not None
    assert end.seconds < 5.0


def test_a_factory_that_raises_harms_no_call(face: Face, fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    client, factory = hearing(face, fleet, Deaf)
    assert client.call() == "b0"
    assert client.start().take() == [b"b0"]
    heard(factory, 2)

    eventually(lambda: sum("call_ended of the picker factory" in record.message for record in caplog.records) == 2)


def test_a_factory_hears_of_all_endpoints_once(face: Face, fleet: Fleet) -> None:
    backends = fleet.lend(2)
    backends[1].set("NOT_SERVING", "svc")
    factory = Hearing()
    client = face.ready(addresses(backends), min_ready=1, picker=lambda: factory)
    backends[1].set("SERVING", "svc")
    client.wait_for_states("R", "R")

    assert [[endpoint.address for endpoint in endpoints] for endpoints in factory.lists] == [addresses(backends)]


class ChoosesNone:
    """A factory whose picker returns None."""

    def build(self, ready: Sequence[Subchannel]) -> ChoosesNone:
        return self

    def pick(self, call: CallInfo) -> None:
        return None


@pytest.mark.parametrize("overload", [Overload(), Overload(max_wait=0.3)])
def test_a_call_says_that_the_picker_chose_none(face: Face, fleet: Fleet, overload: Overload) -> None:
    client = face.ready(addresses(fleet.lend(2)), picker=ChoosesNone, overload=overload)
    with pytest.raises(grpc.RpcError) as caught:
        client.call(timeout=0.6)

    expected = "2 subchannels for service 'svc': 2 READY; the picker ChoosesNone returned None from pick"
    assert expected in (caught.value.details() or "")


def test_a_factory_that_hears_takes_no_thread_of_its_own(face: Face, fleet: Fleet) -> None:
    """What was started before the second channel is for all channels of the process."""
    targets = addresses(fleet.lend(2))
    face.ready(targets, picker="round_robin").call()
    before = set(threading.enumerate())
    face.ready(targets, picker=Hearing).call()
    started = {thread.name for thread in set(threading.enumerate()) - before}

    assert started <= {"healthlb-callbacks"}, "one for a sync channel, whatever its picker"
