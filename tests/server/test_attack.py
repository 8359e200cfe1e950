"""Clients that take nothing, or send half of a request: the others must not notice. The stock servicer is the reference."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health

from tests.backends.clients import Watching, eventually, failure
from tests.server.served import PATIENCE, Served, connected, request
from tests.server.stuck import open_half_sent, open_stuck_watch
from tests.server.test_kinds import REGISTER

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)
ATTACKS: dict[str, Any] = {
    "takes nothing": open_stuck_watch,
    "takes one": lambda address, source: open_stuck_watch(address, source, 1),
    "sends half": lambda address, source: open_half_sent(address, "Watch", source),
}


@contextmanager
def storm(attack: str, address: str, source: str) -> Iterator[None]:
    """100 connections a second."""
    is_over, opened = threading.Event(), list[socket.socket]()

    def run() -> None:
        due = time.monotonic()
        while not is_over.is_set():
            opened.append(ATTACKS[attack](address, source))
            due += 0.01
            time.sleep(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        for connection in opened:
            connection.close()


def slowest_news(served: Served, seconds: float) -> float:
    """Seconds until a watcher, and one that comes in, heard of the slowest of many changes."""
    slowest = 0.0
    with connected(served) as stub:
        watching, deadline, status = Watching(stub.channel), time.monotonic() + seconds, SERVING
        assert watching.next() == SERVING
        while time.monotonic() < deadline or status != SERVING:
            status = SERVING + NOT_SERVING - status
            begun = time.monotonic()
            served.set("", status)
            assert watching.next() == status
            slowest = max(slowest, time.monotonic() - begun)
            with connected(served) as other:
                begun = time.monotonic()
                late = Watching(other.channel)
                assert late.next() == status
                slowest = max(slowest, time.monotonic() - begun)
                late.cancel()
    return slowest


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.9"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_news_within_a_second(kind: str, attack: str, source: str) -> None:
    with closing(Served(kind, workers=4)) as served:
        calm = slowest_news(served, 1.0)
        with storm(attack, served.address, source):
            attacked = slowest_news(served, 3.0)

        # A machine that is busy with other things is slow without an attack, too.
        assert attacked < max(1.0, 5 * calm)
        eventually(lambda: served.registry.watcher_count() == 0)


def test_who_takes_nothing_is_cut_off_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    with closing(Served()) as served, ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(closing(open_stuck_watch(served.address)))

        # First those that are in the way of others, since one client may not hold so many; the rest later.
        eventually(lambda: served.servicer._senders.cut_off == 60)
        eventually(lambda: served.registry.watcher_count() == 0)
        # Once in ten seconds, not for each.
        assert 1 <= caplog.text.count("took or sent nothing: ipv4:127.0.0.1") <= 3


@pytest.mark.parametrize("server", ["sync", "stock"])
def test_requests_that_never_arrive_in_full_hold_no_thread_of_the_server(server: str) -> None:
    options: dict[str, Any] = {}
    if server == "stock":
        options = {"servicer": health.HealthServicer(), "register": REGISTER["generated"]}
    with closing(Served(workers=4, **options)) as served, connected(served) as stub, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(closing(open_half_sent(served.address)))
        if server == "stock":
            time.sleep(0.5)
            error = failure(lambda: stub.Check(request(), timeout=1))
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            return

        assert stub.Check(request(), timeout=PATIENCE).status == SERVING
        assert Watching(stub.channel).next() == SERVING
        eventually(lambda: served.servicer._senders.cut_off == 30)


def test_a_crowd_that_reads_is_not_cut_off() -> None:
    with closing(Served(workers=4)) as served, ExitStack() as stack:
        stubs = [stack.enter_context(connected(served)) for _ in range(20)]
        calls = [stub.Watch(request()) for stub in stubs for _ in range(20)]
        assert {next(call).status for call in calls} == {SERVING}
        for status in (NOT_SERVING, SERVING):
            served.set("", status)
            assert {next(call).status for call in calls} == {status}

        assert served.servicer._senders.cut_off == 0
