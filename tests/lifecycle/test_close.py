"""Closing a sync channel: at any time, from anywhere, as often as one likes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import healthlb
from healthlb.sync.intake import Taken
from tests.backends import Backend
from tests.backends.clients import failure
from tests.lifecycle.support import PATIENCE, UNARY, eventually

SLOW = (("x-sleep", "60"),)


def call(channel: grpc.Channel, **arguments: Any) -> Any:
    """Make a unary call; long enough for any machine."""
    unary: Any = channel.unary_unary(UNARY)
    return unary(b"", timeout=4 * PATIENCE, **arguments)


def in_flight(channel: healthlb.HealthAwareChannel) -> int:
    """Return how many calls are under way."""
    return sum(status.in_flight for status in channel.subchannels())


@pytest.fixture(params=["unused", "connecting", "ready"])
def channel(request: pytest.FixtureRequest, targets: list[str], silent: str) -> healthlb.HealthAwareChannel:
    """Return a channel in some part of its life."""
    made = healthlb.HealthAwareChannel([silent] if request.param == "connecting" else targets, "svc")
    if request.param == "connecting":
        made.subscribe(lambda state: None, try_to_connect=True)
    if request.param == "ready":
        made.wait_until_ready(PATIENCE)
    return made


def test_a_closed_channel_takes_no_calls(channel: healthlb.HealthAwareChannel) -> None:
    made_before: Any = channel.unary_unary(UNARY)
    channel.close()

    for attempt in (
        lambda: made_before(b""),
        lambda: made_before.with_call(b""),
        lambda: made_before.future(b""),
        lambda: channel.unary_unary(UNARY)(b""),
        lambda: channel.unary_stream("/test.Echo/ServerStream")(b""),
        lambda: channel.stream_unary("/test.Echo/ClientStream")(iter([b""])),
        lambda: channel.stream_unary("/test.Echo/ClientStream").future(iter([b""])),
        lambda: channel.stream_stream("/test.Echo/Bidi")(iter([b""])),
        lambda: channel.wait_until_ready(1.0),
    ):
        with pytest.raises(ValueError, match="closed channel"):
            attempt()
    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN


def test_close_again(channel: healthlb.HealthAwareChannel) -> None:
    for _ in range(3):
        channel.close()

    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN
    assert "SHUTDOWN" in repr(channel)


def test_close_from_many_threads(channel: healthlb.HealthAwareChannel) -> None:
    barrier = threading.Barrier(16)

    def close() -> None:
        barrier.wait(PATIENCE)
        channel.close()

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(close) for _ in range(16)]:
            done.result(PATIENCE)

    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN


def waits(channel: grpc.Channel, how: str) -> Callable[[], Any]:
    """Return what waits for a subchannel in one of the four forms, for as long as it takes."""
    unary: Any = channel.unary_unary(UNARY)
    stream: Any = channel.unary_stream("/test.Echo/ServerStream")
    return {
        "call": lambda: unary(b"", wait_for_ready=True),
        "with_call": lambda: unary.with_call(b"", wait_for_ready=True),
        "future": lambda: unary.future(b"", wait_for_ready=True).result(),
        "stream": lambda: next(stream(b"", wait_for_ready=True)),
    }[how]


@pytest.mark.parametrize("how", ["call", "with_call", "future", "stream"])
def test_close_ends_calls_that_wait(how: str, silent: str) -> None:
    channel = healthlb.HealthAwareChannel([silent], "svc")
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(failure(waits(channel, how))))
    thread.start()
    eventually(lambda: channel.state() is grpc.ChannelConnectivity.CONNECTING)
    channel.close()
    thread.join(PATIENCE)

    assert [error.code() for error in ended] == [grpc.StatusCode.CANCELLED]


def test_close_ends_calls_under_way(targets: list[str]) -> None:
    channel = healthlb.HealthAwareChannel(targets, "svc")
    channel.wait_until_ready(PATIENCE)
    blocked: list[Any] = []
    thread = threading.Thread(target=lambda: blocked.append(failure(lambda: call(channel, metadata=SLOW))))
    thread.start()
    unary: Any = channel.unary_unary(UNARY)
    futures = [unary.future(b"", metadata=SLOW) for _ in range(8)]
    eventually(lambda: in_flight(channel) == 9)
    channel.close()
    thread.join(PATIENCE)

    errors = [*blocked, *(failure(lambda future=future: future.result(PATIENCE)) for future in futures)]  # type: ignore[misc]
    assert [(error.code(), error.details()) for error in errors] == [(grpc.StatusCode.CANCELLED, "Channel closed!")] * 9


def test_close_ends_waits_for_ready_and_for_changes(silent: str) -> None:
    channel = healthlb.HealthAwareChannel([silent], "svc")
    ended: list[BaseException] = []
    seen: list[grpc.ChannelConnectivity] = []
    channel.subscribe(seen.append)

    def wait() -> None:
        try:
            channel.wait_until_ready(4 * PATIENCE)
        except healthlb.ChannelClosed as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: channel.state() is grpc.ChannelConnectivity.CONNECTING)
    channel.close()
    thread.join(PATIENCE)
    eventually(lambda: grpc.ChannelConnectivity.SHUTDOWN in seen)

    assert [type(error) for error in ended] == [healthlb.ChannelClosed]
    assert seen[0] is grpc.ChannelConnectivity.IDLE


def test_close_does_not_wait_for_a_slow_server(targets: list[str]) -> None:
    channel = healthlb.HealthAwareChannel(targets, "svc")
    channel.wait_until_ready(PATIENCE)
    unary: Any = channel.unary_unary(UNARY)
    future = unary.future(b"", metadata=SLOW)
    started = time.monotonic()
    channel.close()

    assert time.monotonic() - started < 4.0
    assert future.done() or future.code() is grpc.StatusCode.CANCELLED


def test_close_from_a_done_callback(targets: list[str]) -> None:
    channel = healthlb.HealthAwareChannel(targets[:1], "svc")
    channel.wait_until_ready(PATIENCE)
    unary: Any = channel.unary_unary(UNARY)
    took: list[float] = []

    def close(future: object) -> None:
        started = time.monotonic()
        channel.close()
        took.append(time.monotonic() - started)

    others = [unary.future(b"", metadata=SLOW) for _ in range(4)]
    unary.future(b"", metadata=(("x-sleep", "0.2"),)).add_done_callback(close)
    eventually(lambda: bool(took))

    assert took[0] < 4.0
    assert {failure(lambda other=other: other.result(PATIENCE)).code() for other in others} == {  # type: ignore[misc]
        grpc.StatusCode.CANCELLED
    }


def test_close_from_a_listener(targets: list[str]) -> None:
    closed = threading.Event()

    def listener(fact: object) -> None:
        channel.close()
        closed.set()

    channel = healthlb.HealthAwareChannel(targets, "svc", listeners=[listener])
    channel.subscribe(lambda state: None, try_to_connect=True)

    assert closed.wait(PATIENCE)
    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN


def test_close_from_a_subscriber(targets: list[str]) -> None:
    closed = threading.Event()

    def subscriber(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            channel.close()
            closed.set()

    channel = healthlb.HealthAwareChannel(targets, "svc")
    channel.subscribe(subscriber, try_to_connect=True)

    assert closed.wait(PATIENCE)
    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN


def subscribe_and_close(targets: list[str], callback_closes: bool) -> list[grpc.ChannelConnectivity]:
    """Subscribe to a channel that is closed before, or by what is told first; return what was told."""
    channel = healthlb.HealthAwareChannel(targets, "svc")
    seen: list[grpc.ChannelConnectivity] = []

    def subscriber(state: grpc.ChannelConnectivity) -> None:
        seen.append(state)
        channel.close()

    if not callback_closes:
        channel.close()
    channel.subscribe(subscriber, try_to_connect=True)
    eventually(lambda: grpc.ChannelConnectivity.SHUTDOWN in seen)
    return seen


def test_to_subscribe_beside_a_close_raises_nothing_as_with_grpcio(targets: list[str]) -> None:
    for _ in range(20):
        assert subscribe_and_close(targets, callback_closes=True)[-1] is grpc.ChannelConnectivity.SHUTDOWN

    assert subscribe_and_close(targets, callback_closes=False) == [grpc.ChannelConnectivity.SHUTDOWN]


def test_follow_state_beside_a_close_raises_nothing(targets: list[str]) -> None:
    for _ in range(20):
        seen: list[healthlb.ConnectivityChange] = []
        with healthlb.HealthAwareChannel(targets, "svc") as channel:

            def close(change: healthlb.ConnectivityChange, channel: Any = channel, seen: Any = seen) -> None:
                seen.append(change)
                channel.close()

            follower = healthlb.follow_state(channel, close, try_to_connect=True)
            eventually(lambda seen=seen: bool(seen) and seen[-1].state is grpc.ChannelConnectivity.SHUTDOWN)  # type: ignore[misc]
            follower.close()


class ClosingFactory:
    """Closes its channel in the middle of publishing: on the control thread."""

    def __init__(self, close: Callable[[], None]) -> None:
        """Remember how."""
        self._close = close

    def build(self, ready: object) -> Any:
        """Close, and return what never picks."""
        self._close()
        return self

    def pick(self, call: object) -> None:
        """Return nothing."""


def test_close_from_the_control_thread(targets: list[str]) -> None:
    channel = healthlb.HealthAwareChannel(targets, "svc", picker=lambda: ClosingFactory(lambda: channel.close()))
    error = failure(lambda: call(channel))

    assert error.code() is grpc.StatusCode.CANCELLED
    assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN


class ClosingResolver:
    """Closes its channel, then goes on as if nothing had happened."""

    def __init__(self, address: str) -> None:
        """Know one address."""
        self.channel: healthlb.HealthAwareChannel
        self._address = address

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Close on the control thread."""
        self.channel.close()
        update([healthlb.Endpoint(self._address)])


def test_close_from_a_resolver(targets: list[str]) -> None:
    resolver = ClosingResolver(targets[0])
    resolver.channel = channel = healthlb.HealthAwareChannel(resolver, "svc")
    error = failure(lambda: call(channel))

    assert error.code() is grpc.StatusCode.CANCELLED


def test_close_before_the_first_call_waits(targets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that starts the channel was made before the close, however late its thread comes to wait."""
    resolver = ClosingResolver(targets[0])
    resolver.channel = channel = healthlb.HealthAwareChannel(resolver, "svc")
    check = Taken.check_metadata

    def check_late(taken: Taken) -> None:
        eventually(lambda: channel.state() is grpc.ChannelConnectivity.SHUTDOWN)
        check(taken)

    monkeypatch.setattr(Taken, "check_metadata", check_late)
    error = failure(lambda: call(channel))

    assert error.code() is grpc.StatusCode.CANCELLED


def test_close_during_first_use(targets: list[str]) -> None:
    """Whoever comes first, the call ends well, or with ValueError, or with CANCELLED."""
    outcomes = set()
    for _ in range(20):
        channel = healthlb.HealthAwareChannel(targets, "svc")
        thread = threading.Thread(target=channel.close)
        thread.start()
        try:
            call(channel)
        except (ValueError, grpc.RpcError) as error:
            outcomes.add(error.code() if isinstance(error, grpc.Call) else type(error))
        thread.join(PATIENCE)

        assert channel.state() is grpc.ChannelConnectivity.SHUTDOWN
    assert outcomes <= {grpc.StatusCode.CANCELLED, healthlb.ChannelClosed}


def test_calls_that_start_while_closing(targets: list[str]) -> None:
    for _ in range(5):
        channel = healthlb.HealthAwareChannel(targets, "svc")
        channel.wait_until_ready(PATIENCE)
        unary: Any = channel.unary_unary(UNARY)
        outcomes: set[object] = set()
        begun = threading.Barrier(9)

        def use(form: Callable[[], Any], begun: threading.Barrier, outcomes: set[object]) -> None:
            begun.wait(PATIENCE)
            while True:
                try:
                    form()
                except grpc.RpcError as error:
                    outcomes.add(error.code())  # type: ignore[attr-defined]
                except healthlb.ChannelClosed as error:
                    outcomes.add(str(error))
                    return

        forms = [lambda unary=unary: unary(b""), lambda unary=unary: unary.future(b"").result(PATIENCE)] * 4  # type: ignore[misc]
        with ThreadPoolExecutor(8) as pool:
            users = [pool.submit(use, form, begun, outcomes) for form in forms]
            begun.wait(PATIENCE)
            channel.close()
            for user in users:
                user.result(PATIENCE)

        assert outcomes <= {"Cannot invoke RPC on closed channel!", grpc.StatusCode.CANCELLED}


def test_a_server_sees_no_more_of_a_closed_channel(backends: list[Backend]) -> None:
    with healthlb.HealthAwareChannel([backend.address for backend in backends], "svc") as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        unary: Any = channel.unary_unary(UNARY)
        futures = [unary.future(b"", metadata=SLOW) for _ in range(4)]
        eventually(lambda: sum(backend.stats().in_flight for backend in backends) >= 4)

    eventually(lambda: not any(backend.stats().watches_open for backend in backends))
    eventually(lambda: not any(backend.stats().in_flight for backend in backends))
    assert all(future.cancelled() or future.code() is grpc.StatusCode.CANCELLED for future in futures)
