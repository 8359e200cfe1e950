"""A backend that says more than anybody can follow, and listeners that cannot keep up."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb.core.facts import DroppedFacts, Overflow, StateChange, StatusFlood
from healthlb.sync import fact_queue
from healthlb.sync.fact_queue import FactQueue
from healthlb.telemetry.logs import describe
from tests.lifecycle.support import eventually, eventually_async

NOT_SERVING, UNKNOWN, SERVING = 2, 0, 1


class Flood:
    """A server whose Watches alternate between two statuses as fast as they can, until it is told to settle."""

    def __init__(self) -> None:
        self.settled: int | None = None
        self.sent = 0
        self.statuses = (NOT_SERVING, SERVING)
        self._is_over = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, details: Any) -> Any:
        """Handle every method as Watch."""
        return grpc.unary_stream_rpc_method_handler(self._watch)

    def _watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        while self.settled is None and not self._is_over.is_set():
            self.sent += 1
            yield bytes((8, self.statuses[self.sent % 2]))
        if self.settled is not None:
            yield bytes((8, self.settled))
            self._is_over.wait()

    def stop(self) -> None:
        """Stop."""
        self._is_over.set()
        self._server.stop(0).wait()


@pytest.fixture
def flood() -> Iterator[Flood]:
    made = Flood()
    yield made
    made.stop()


def check(flood: Flood, facts: list[Any]) -> None:
    """It has sent far more than was told of, and that is told."""
    told = Counter(type(fact) for fact in facts)
    assert flood.sent > 2000
    assert told[StateChange] < 250
    assert told[StatusFlood] in (1, 2)
    assert len(facts) < 600


def test_a_flood_of_statuses_is_followed_at_a_bounded_rate(flood: Flood) -> None:
    facts = list[Any]()
    with healthlb.HealthAwareChannel([flood.address], "svc", listeners=[facts.append]) as channel:
        channel.subscribe(lambda state: None, try_to_connect=True)
        eventually(lambda: flood.sent > 2000)
        flood.settled = SERVING
        channel.wait_until_ready(10)
        eventually(lambda: channel.subchannels()[0].reason == "SERVING")

        eventually(lambda: any(isinstance(fact, StatusFlood) for fact in facts))
        check(flood, facts)


async def test_a_flood_of_statuses_is_followed_at_a_bounded_rate_aio(flood: Flood) -> None:
    facts = list[Any]()
    async with healthlb.aio.HealthAwareChannel([flood.address], "svc", listeners=[facts.append]) as channel:
        channel.get_state(try_to_connect=True)
        await eventually_async(lambda: flood.sent > 2000)
        flood.settled = SERVING
        await channel.wait_until_ready(10)
        await eventually_async(lambda: channel.subchannels()[0].reason == "SERVING")

        check(flood, facts)


def test_facts_that_wait_for_a_listener_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fact_queue, "MOST_FACTS", 5)
    entered, go_on, heard = threading.Event(), threading.Event(), list[Any]()

    def listen(fact: object) -> None:
        heard.append(fact)
        entered.set()
        go_on.wait(30)

    queue = FactQueue([listen])
    queue.put(Overflow(0, "max_in_flight", 1, 0))
    assert entered.wait(30)
    for number in range(1, 21):
        queue.put(Overflow(number, "max_in_flight", 1, number))
    go_on.set()
    eventually(lambda: len(heard) == 7)

    newest = [Overflow(number, "max_in_flight", 1, number) for number in range(16, 21)]
    assert heard == [Overflow(0, "max_in_flight", 1, 0), DroppedFacts(16, 15), *newest]
    assert describe(heard[1]) == "channel: listeners are too slow, so facts were dropped: 15"
    queue.put(Overflow(21, "max_in_flight", 1, 21))
    eventually(lambda: heard[-1] == Overflow(21, "max_in_flight", 1, 21))


def test_a_subscriber_that_blocks_hears_the_newest_states(monkeypatch: pytest.MonkeyPatch) -> None:
    from healthlb.core.states import ConnectivityState
    from healthlb.sync import connectivity

    monkeypatch.setattr(connectivity, "_MOST_WAITING", 3)
    entered, go_on, heard = threading.Event(), threading.Event(), list[Any]()

    def hear(state: grpc.ChannelConnectivity) -> None:
        heard.append(state)
        entered.set()
        go_on.wait(30)

    made = connectivity.Subscriptions(ConnectivityState.IDLE)
    made.add(hear)
    assert entered.wait(30)
    for _ in range(50):
        made.observe(ConnectivityState.READY)
        made.observe(ConnectivityState.CONNECTING)
    made.observe(ConnectivityState.TRANSIENT_FAILURE)
    go_on.set()
    eventually(lambda: len(heard) == 4)

    assert [state.name for state in heard] == ["IDLE", "READY", "CONNECTING", "TRANSIENT_FAILURE"]
