"""A call that blocks, made in a callback or a deserializer, ends as on a plain channel: with its answer or its deadline.

grpcio takes in the events of a channel's other calls on one thread, and runs callbacks there: a call that blocks
cannot wait for that thread, nor for our own thread for callbacks. Nor can one of another thread that a callback waits for.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import healthlb
from healthlb import Failover
from tests.lifecycle.support import PATIENCE, UNARY, eventually

SLOW = (("x-sleep", "0.1"),)
FAIL = (*SLOW, ("x-fail", "UNAVAILABLE"))
HEDGED = Failover(idempotent=True, hedging_delay=0.02, budget=None)


@pytest.fixture(params=["plain", "default", "hedged"])
def channel(request: Any, targets: list[str]) -> Iterator[Any]:
    """Return one whose calls go to one backend, and so over one thread of grpcio's."""
    if request.param == "plain":
        opened: Any = grpc.insecure_channel(targets[0])
    else:
        failover = HEDGED if request.param == "hedged" else Failover()
        opened = healthlb.HealthAwareChannel(targets[:1], "svc", failover=failover, outliers=None)
    with opened:
        opened.unary_unary(UNARY)(b"", timeout=PATIENCE)
        yield opened


def nested(channel: Any) -> list[Any]:
    """Make each call that blocks; return what came of it. The second hedged one outlives the delay."""
    unary, stream = channel.unary_unary(UNARY), channel.stream_unary("/test.Echo/ClientStream")
    return [
        unary(b"", PATIENCE),
        unary.with_call(b"", PATIENCE, SLOW)[0],
        stream(iter([b"", b""]), PATIENCE),
        code_of(lambda: unary(b"", 0.1, (("x-sleep", "30"),))),
        code_of(lambda: stream(iter([b""]), 0.1, (("x-sleep", "30"),))),
    ]


def code_of(call: Callable[[], Any]) -> Any:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code = caught.value.code()
    del caught
    return code


DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED
EXPECTED = [b"b0", b"b0", b"b0:2", DEADLINE, DEADLINE]


def done_callback(channel: Any, act: Callable[..., Any], metadata: Any = SLOW, timeout: float = PATIENCE) -> Any:
    future = channel.unary_unary(UNARY).future(b"", timeout, metadata)
    future.add_done_callback(act)
    return future


def cancelled(channel: Any, act: Callable[..., Any]) -> None:
    done_callback(channel, act, (("x-sleep", "30"),)).cancel()


def deserializer(channel: Any, act: Callable[..., Any]) -> None:
    channel.unary_unary(UNARY, None, lambda body: (act(), body)[1]).future(b"", PATIENCE, SLOW).result()


def deserializer_of_a_blocking_call(channel: Any, act: Callable[..., Any]) -> None:
    channel.unary_unary(UNARY, None, lambda body: (act(), body)[1])(b"", PATIENCE, SLOW)


def stream(channel: Any, act: Callable[..., Any], name: str = "add_done_callback") -> None:
    call = channel.unary_stream("/test.Echo/ServerStream")(b"", PATIENCE, SLOW)
    getattr(call, name)(act)
    list(call)


def client_stream(channel: Any, act: Callable[..., Any]) -> None:
    future = channel.stream_unary("/test.Echo/ClientStream").future(iter([b""]), PATIENCE, SLOW)
    future.add_done_callback(act)
    future.result()


def bidi(channel: Any, act: Callable[..., Any]) -> None:
    call = channel.stream_stream("/test.Echo/Bidi")(iter([b""]), PATIENCE, SLOW)
    call.add_done_callback(act)
    list(call)


def on_another_thread(channel: Any, act: Callable[..., Any]) -> None:
    def wait(_: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(act).result()

    done_callback(channel, wait)


PLACES: dict[str, Callable[[Any, Callable[..., Any]], Any]] = {
    "done callback": done_callback,
    "after UNAVAILABLE": lambda channel, act: done_callback(channel, act, FAIL),
    "after its deadline": lambda channel, act: done_callback(channel, act, (("x-sleep", "30"),), 0.1),
    "cancelled": cancelled,
    "deserializer": deserializer,
    "deserializer of a blocking call": deserializer_of_a_blocking_call,
    "stream": stream,
    "stream, add_callback": lambda channel, act: stream(channel, act, "add_callback"),
    "client stream": client_stream,
    "bidi": bidi,
    "another thread that a callback waits for": on_another_thread,
}


@pytest.mark.parametrize("place", PLACES)
def test_calls_that_block(place: str, channel: Any) -> None:
    found: list[Any] = []

    def act(*_: Any) -> None:
        found.append(nested(channel))

    threading.Thread(target=PLACES[place], args=(channel, act), daemon=True).start()

    eventually(lambda: found == [EXPECTED])
    assert channel.unary_unary(UNARY).future(b"", PATIENCE).result() == b"b0"


def test_calls_that_wait_for_a_connection_in_the_callback_of_one_that_has(silent: str) -> None:
    """It runs on the thread that delivers what else ends a wait, or begins a hedge."""
    found: list[Any] = []
    with healthlb.HealthAwareChannel([silent], "svc", failover=HEDGED) as channel:
        unary: Any = channel.unary_unary(UNARY)
        stream: Any = channel.stream_unary("/test.Echo/ClientStream")

        def act(_: Any) -> None:
            found.append(code_of(lambda: unary(b"", timeout=0.1)))
            found.append(code_of(lambda: stream(iter([b""]), timeout=0.1)))

        unary.future(b"", timeout=0.1).add_done_callback(act)
        eventually(lambda: len(found) == 2)

    assert found == [DEADLINE, DEADLINE]


SINGLE = ("SingleThreadedUnaryStream", 1)


@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_a_single_threaded_stream_is_read(kind: str, targets: list[str]) -> None:
    """Made in the callback, or before; and one whose server says nothing ends at its deadline."""
    make: Any = grpc.insecure_channel if kind == "plain" else healthlb.HealthAwareChannel
    found: list[Any] = []
    with make(targets[0] if kind == "plain" else targets[:1], options=[SINGLE]) as channel:
        stream: Any = channel.unary_stream("/test.Echo/ServerStream")
        expected = list(stream(b"", PATIENCE))
        before = stream(b"", PATIENCE, SLOW)

        def act(_: Any) -> None:
            found.append(list(before))
            found.append(list(stream(b"", PATIENCE)))
            found.append(code_of(lambda: list(stream(b"", 0.1, (("x-sleep", "30"),)))))

        done_callback(channel, act)
        eventually(lambda: len(found) == 3)

    assert found == [expected, expected, DEADLINE]


def test_a_single_threaded_stream_that_waits_for_a_connection_ends_at_its_deadline(silent: str) -> None:
    found: list[Any] = []
    with healthlb.HealthAwareChannel([silent], "svc", options=[SINGLE]) as channel:

        def act(_: Any) -> None:
            found.append(code_of(lambda: list(channel.unary_stream("/test.Echo/ServerStream")(b"", timeout=0.1))))

        channel.unary_unary(UNARY).future(b"", timeout=0.1).add_done_callback(act)
        eventually(lambda: found == [DEADLINE])


@pytest.mark.parametrize("failover", [Failover(), HEDGED], ids=["default", "hedged"])
def test_a_call_that_ctrl_c_has_ended_is_not_in_flight(failover: Failover, targets: list[str]) -> None:
    slow = (("x-sleep", "30"),)
    with healthlb.HealthAwareChannel(targets, "svc", failover=failover) as channel:
        unary: Any = channel.unary_unary(UNARY)
        stream: Any = channel.stream_unary("/test.Echo/ClientStream")
        unary(b"", timeout=PATIENCE)
        for call in (lambda: unary(b"", PATIENCE, slow), lambda: stream(iter([b""]), PATIENCE, slow)):
            interrupt = threading.Thread(target=_interrupt_once_in_flight, args=(channel,))
            interrupt.start()
            with pytest.raises(KeyboardInterrupt):
                call()
            interrupt.join()
            eventually(lambda: not any(status.in_flight for status in channel.subchannels()))


def _interrupt_once_in_flight(channel: healthlb.HealthAwareChannel) -> None:
    eventually(lambda: any(status.in_flight for status in channel.subchannels()))
    signal.raise_signal(signal.SIGINT)
