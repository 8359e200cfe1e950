"""Clients that leave, hang or die while statuses change: nobody else may notice (P36)."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing
from typing import Any

import pytest

from healthlb.server.senders import Lane, Senders
from tests.backends.clients import Watching, eventually
from tests.server.load import Load, run
from tests.server.served import KINDS, PATIENCE, Served, connected, request
from tests.server.stuck import open_stuck_watch

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = range(4)


def test_clients_that_cancel_on_the_first_update_do_not_hang_the_server(served_without_threads: Served) -> None:
    served = served_without_threads
    is_over = threading.Event()

    def come_and_go() -> None:
        with connected(served) as stub:
            while not is_over.is_set():
                call = stub.Watch(request("svc"))
                next(call), next(call)
                call.cancel()

    clients = [threading.Thread(target=come_and_go, daemon=True) for _ in range(12)]
    for client in clients:
        client.start()
    for number in range(200):
        served.set("svc", SERVING if number % 2 else NOT_SERVING)
        time.sleep(0.01)
    with connected(served) as stub:
        assert stub.Check(request("svc"), timeout=PATIENCE).status == SERVING
    is_over.set()
    for number in range(20):  # Whoever still waits for an update gets one.
        served.set("svc", number % 2)
        time.sleep(0.02)
    for client in clients:
        client.join(PATIENCE)
    assert not any(client.is_alive() for client in clients)
    eventually(lambda: served.registry.watcher_count() == 0)


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_client_that_takes_nothing_delays_nobody(kind: str) -> None:
    with closing(Served(kind, workers=4)) as served, connected(served) as stub, ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(closing(open_stuck_watch(served.address)))
        eventually(lambda: served.registry.watcher_count() == 20)
        watching = Watching(stub.channel)
        assert watching.next() == SERVING
        for status in (NOT_SERVING, SERVING) * 5:
            begun = time.monotonic()
            served.set("", status)

            assert time.monotonic() - begun < 0.5
            assert watching.next() == status
            assert time.monotonic() - begun < 2.0
        stack.close()
        eventually(lambda: served.registry.watcher_count() == 1)


def test_more_stuck_clients_than_senders_are_cut_off() -> None:
    with closing(Served(workers=4)) as served, connected(served) as stub, ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(closing(open_stuck_watch(served.address)))
        eventually(lambda: served.registry.watcher_count() + served.servicer._senders.cut_off >= 40)
        watching = Watching(stub.channel)

        assert watching.next() == SERVING
        served.set("", NOT_SERVING)
        assert watching.next() == NOT_SERVING
        eventually(lambda: served.servicer._senders.cut_off > 0)


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_no_last_status_is_lost_under_load(kind: str) -> None:
    figures = run(kind, Load(watchers=60, leavers=20, sets_per_second=100, seconds=3.0))

    assert figures.wrong_last_values == 0
    assert figures.watchers_left == 0
    assert figures.sets > 50


class Message:
    """Something to send that counts."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.left = count
        self.error = error

    def send(self) -> bool:
        if self.error is not None:
            raise self.error
        self.left -= 1
        return self.left > 0

    def cut_off(self) -> None:
        raise AssertionError


def test_watches_of_one_lane_take_turns() -> None:
    senders = Senders(lambda name: None)
    lane = Lane(senders)
    messages = [Message(3) for _ in range(10)]
    for message in messages:
        lane.put(message)

    eventually(lambda: all(message.left == 0 for message in messages))


def test_a_call_that_breaks_leaves_its_lane_open(caplog: pytest.LogCaptureFixture) -> None:
    lane = Lane(Senders(lambda name: None))
    broken, fine = Message(1, RuntimeError("broken")), Message(1)
    lane.put(broken)
    lane.put(fine)

    eventually(lambda: fine.left == 0)
    assert "a Watch could not be served" in caplog.text


def test_an_announcement_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    heard = []

    def fan_out(name: str) -> None:
        heard.append(name)
        raise RuntimeError("broken")

    senders = Senders(fan_out)
    senders.announce("a")
    senders.announce("b")
    senders.enter()

    eventually(lambda: heard == ["a", "b"])
    eventually(lambda: caplog.text.count("a status could not be announced") == 2)
    senders.leave()


@pytest.mark.parametrize("served", [kind for kind in KINDS if kind != "aio"], indirect=True)
def test_a_call_that_was_over_leaves_nothing(served: Served) -> None:
    class Over:
        """The context of a call whose client left before the handler ran (P38)."""

        def peer(self) -> str:
            return "unix:"

        def add_callback(self, callback: Any) -> bool:
            return False

    served.servicer.Watch(request("svc"), Over(), None if served.kind == "blocking" else pytest.fail)

    assert served.registry.watcher_count() == 0
