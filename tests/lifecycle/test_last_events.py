"""Each event of a call comes once, and grpcio's thread of a channel ends with the last one of its calls.

Operations are started by several threads while the status of their call is on its way. C-core starts none on a call
whose status has been taken out of its queue, and no event comes for it.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import healthlb
from healthlb import Failover
from healthlb.sync import grpcio
from tests.failover.local import Local
from tests.failover.support import InOrder
from tests.lifecycle.support import PATIENCE, eventually

METHODS = {
    "unary_unary": "/test.Echo/Unary",
    "unary_stream": "/test.Echo/ServerStream",
    "stream_unary": "/test.Echo/ClientStream",
    "stream_stream": "/test.Echo/Bidi",
}


class Over:
    """C-core's call after its status was taken out of its queue: it starts no operation any more."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def operate(self, operations: Any, tag: Any) -> bool:
        return False

    def cancel(self, code: int, details: str) -> None:
        self._real.cancel(code, details)


@pytest.fixture
def spinning(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Collect what is opened, and see at the end that no thread died of an event too many."""
    opened: list[Any] = []
    make = grpcio.Opened.__init__

    def remember(self: Any, multi_callable: Any) -> None:
        make(self, multi_callable)
        opened.append(self)

    monkeypatch.setattr(grpcio.Opened, "__init__", remember)
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    yield opened
    assert not died


def calls_under_way(opened: list[Any]) -> list[int]:
    """Return how many calls grpcio's thread of each channel waits for."""
    return [method.start.__closure__[0].cell_contents.managed_calls for method in opened]


@pytest.mark.parametrize("arity", ["stream_unary", "stream_stream"])
@pytest.mark.parametrize("operation", ["request", "end of requests"])
def test_an_operation_that_c_core_does_not_start_is_not_waited_for(
    operation: str, arity: str, spinning: list[Any]
) -> None:
    go = threading.Event()

    def requests() -> Iterator[bytes]:
        go.wait(PATIENCE)
        if operation == "request":
            yield b"x"

    def never(requests: Any, context: Any) -> bytes:
        time.sleep(PATIENCE / 10)
        return b""

    server = Local(stream_unary=never, stream_stream=lambda requests, context: iter([never(requests, context)]))
    with server, healthlb.HealthAwareChannel([server.address], None) as channel:
        channel.wait_until_ready(PATIENCE)
        method: Any = getattr(channel, arity)(METHODS[arity])
        call = method(requests(), PATIENCE) if arity == "stream_stream" else method.future(requests(), PATIENCE)
        beneath = call._call
        attempt = beneath._current
        attempt.real = Over(attempt.real)
        go.set()
        eventually(lambda: beneath.requests.have_begun)
        call.cancel()

        eventually(lambda: not call._state.due)
        eventually(lambda: not any(calls_under_way(spinning)))


@pytest.mark.parametrize("arity", METHODS)
def test_calls_that_are_cancelled_at_any_moment_leave_no_thread(arity: str, spinning: list[Any]) -> None:
    drawn = random.Random(arity)

    def refuse(request: Any, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.UNAVAILABLE, "not here")

    def refuse_all(request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield refuse(request, context)

    def requests() -> Iterator[bytes]:
        for _ in range(drawn.randint(0, 2)):
            time.sleep(drawn.random() * 0.003)
            yield b"x"
        time.sleep(drawn.random() * 0.002)

    refusing = Local(unary_unary=refuse, unary_stream=refuse_all, stream_unary=refuse, stream_stream=refuse_all)
    serving = Local(
        unary_unary=lambda request, context: request,
        unary_stream=lambda request, context: iter([request] * 2),
        stream_unary=lambda requests, context: b"".join(requests),
        stream_stream=lambda requests, context: iter(list(requests)),
    )
    with refusing as first, serving as second:
        targets = [first.address, second.address]
        failover = Failover(idempotent=True)
        with healthlb.HealthAwareChannel(targets, None, failover=failover, picker=InOrder, outliers=None) as channel:
            channel.wait_until_ready(PATIENCE, 2)
            method: Any = getattr(channel, arity)(METHODS[arity])
            form = method if arity.endswith("stream") else method.future
            interval = sys.getswitchinterval()
            sys.setswitchinterval(1e-5)
            try:
                for _ in range(400):
                    call = form(requests() if arity.startswith("stream") else b"x", PATIENCE)
                    time.sleep(drawn.random() * 0.006)
                    call.cancel()
            finally:
                sys.setswitchinterval(interval)
            eventually(lambda: not any(calls_under_way(spinning)))


class Telling(InOrder):
    """Has a callback hear of each attempt that has ended."""

    needs_latency = True

    def __init__(self) -> None:
        self.heard: Any = None

    def call_ended(self, sub: Any, end: Any) -> None:
        self.heard(end)


def test_a_hedged_call_whose_response_came_sends_no_hedge_and_ends_once(
    spinning: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is cancelled while the word of the response is on its way to the caller, and the hedging delay is over."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        return request

    factory = Telling()
    with Local(unary_unary=answer) as first, Local(unary_unary=answer) as second:
        failover = Failover(idempotent=True, hedging_delay=0.2)
        targets = [first.address, second.address]
        with healthlb.HealthAwareChannel(
            targets, None, failover=failover, picker=lambda: factory, outliers=None
        ) as channel:
            channel.wait_until_ready(PATIENCE, 2)
            method: Any = channel.unary_unary(METHODS["unary_unary"])
            heard = threading.Event()

            def cancel_late(end: Any) -> None:
                heard.set()
                time.sleep(0.6)
                call.cancel()

            factory.heard = cancel_late
            call = method.future(b"x", PATIENCE)
            assert heard.wait(PATIENCE)

            assert call.code() is grpc.StatusCode.CANCELLED
            eventually(lambda: not any(calls_under_way(spinning)))
            eventually(lambda: not any(status.in_flight for status in channel.subchannels()))
            assert (first.calls, second.calls) == (1, 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_hedged_call_that_is_cancelled_at_any_moment_ends_once(
    spinning: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Where one attempt has its response while the other is made the call's own by `cancel`, one of them counts."""
    drawn = random.Random(1)

    def slow(request: bytes, context: grpc.ServicerContext) -> bytes:
        time.sleep(drawn.random() * 0.006)
        return request

    with Local(unary_unary=slow) as first, Local(unary_unary=slow) as second:
        failover = Failover(idempotent=True, hedging_delay=0.002, budget=None)
        targets = [first.address, second.address]
        with healthlb.HealthAwareChannel(targets, None, failover=failover, outliers=None) as channel:
            channel.wait_until_ready(PATIENCE, 2)
            method: Any = channel.unary_unary(METHODS["unary_unary"])
            interval = sys.getswitchinterval()
            sys.setswitchinterval(1e-5)
            try:
                for _ in range(800):
                    call = method.future(b"x", PATIENCE)
                    time.sleep(drawn.random() * 0.01)
                    call.cancel()
            finally:
                sys.setswitchinterval(interval)
            eventually(lambda: not any(calls_under_way(spinning)))
            eventually(lambda: not any(status.in_flight for status in channel.subchannels()))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
