"""One control plane for all sync channels, started at first use only, gone with the last of them."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

import healthlb
from tests.backends import Backend
from tests.lifecycle.support import PATIENCE, UNARY, control_threads, eventually


def watches_started(backends: list[Backend]) -> int:
    """Return how many Watches all of them have seen."""
    return sum(backend.stats().watches_started for backend in backends)


@pytest.mark.parametrize("form", ["call", "future", "stream", "wait"])
def test_first_use_from_many_threads_makes_one_control_plane(
    form: str, backends: list[Backend], targets: list[str]
) -> None:
    before = watches_started(backends)
    barrier = threading.Barrier(32)
    with healthlb.HealthAwareChannel(targets, "svc") as channel, ThreadPoolExecutor(32) as pool:
        unary: Any = channel.unary_unary(UNARY)
        stream: Any = channel.unary_stream("/test.Echo/ServerStream")
        forms: dict[str, Callable[[], Any]] = {
            "call": lambda: unary(b"", timeout=PATIENCE),
            "future": lambda: unary.future(b"", timeout=PATIENCE).result(),
            "stream": lambda: list(stream(b"", timeout=PATIENCE, metadata=(("x-count", "1"),))),
            "wait": lambda: channel.wait_until_ready(PATIENCE),
        }

        def use() -> None:
            barrier.wait(PATIENCE)
            forms[form]()

        for user in [pool.submit(use) for _ in range(32)]:
            user.result(2 * PATIENCE)
        channel.wait_until_ready(PATIENCE, min_ready=2)

        assert len(control_threads()) == 1
        assert watches_started(backends) - before == 2


def test_p26_many_channels_share_the_control_thread(targets: list[str]) -> None:
    channels = [healthlb.HealthAwareChannel(targets, "svc") for _ in range(16)]

    assert control_threads() == []
    for channel in channels:
        channel.wait_until_ready(PATIENCE)
    assert len(control_threads()) == 1
    for channel in channels[1:]:
        channel.close()
    assert len(control_threads()) == 1
    assert channels[0].unary_unary(UNARY)(b"") in (b"b0", b"b1")  # type: ignore[misc]
    channels[0].close()
    eventually(lambda: not control_threads())


def test_a_new_control_thread_follows_the_last(targets: list[str]) -> None:
    for _ in range(10):
        with healthlb.HealthAwareChannel(targets, "svc") as channel:
            assert channel.unary_unary(UNARY)(b"", timeout=PATIENCE) in (b"b0", b"b1")  # type: ignore[misc]


@pytest.mark.parametrize("is_cyclic", [False, True], ids=["dropped", "in a cycle"])
@pytest.mark.parametrize("use", ["unused", "connecting", "ready", "subscribed", "listened to"])
def test_a_collected_channel_leaves_nothing(
    use: str, is_cyclic: bool, backends: list[Backend], targets: list[str], silent: str
) -> None:
    gc.collect()
    before = threading.active_count()
    channel = healthlb.HealthAwareChannel([silent] if use == "connecting" else targets, "svc")
    if use == "connecting":
        channel.subscribe(lambda state: None, try_to_connect=True)
    if use in ("ready", "subscribed", "listened to"):
        channel.wait_until_ready(PATIENCE)
    if use == "subscribed":
        channel.subscribe(lambda state: None)
    if use == "listened to":
        channel.add_listener(lambda fact: None)
    if is_cyclic:
        channel.cycle = channel  # type: ignore[attr-defined]
    stub: Any = channel.unary_unary(UNARY)
    gone = weakref.ref(channel._subchannels)
    del channel, stub
    gc.collect()

    eventually(lambda: gone() is None)
    eventually(lambda: not control_threads())
    eventually(lambda: not any(backend.stats().watches_open for backend in backends))
    eventually(lambda: threading.active_count() <= before + 1)  # grpcio's own poller stays


def test_a_channel_dropped_with_calls_in_flight(targets: list[str]) -> None:
    """A call keeps its channel, as with grpcio; the last one takes it along."""
    channel = healthlb.HealthAwareChannel(targets, "svc")
    channel.wait_until_ready(PATIENCE)
    unary: Any = channel.unary_unary(UNARY)
    future = unary.future(b"", metadata=(("x-sleep", "0.1"),))
    del channel, unary
    gc.collect()

    assert future.result(PATIENCE) in (b"b0", b"b1")
    del future
    gc.collect()
    eventually(lambda: not control_threads())


def test_collecting_one_channel_while_another_publishes(targets: list[str]) -> None:
    """Garbage is collected wherever it is: under a lock that the control thread wants, too."""
    kept = healthlb.HealthAwareChannel(targets, "svc")
    kept.wait_until_ready(PATIENCE)
    garbage: Any = healthlb.HealthAwareChannel(targets, "svc")
    garbage.wait_until_ready(PATIENCE)
    garbage.cycle = garbage
    with kept._subchannels.holder._changed:
        kept._subchannels._control.thread.run_soon(
            lambda: kept._subchannels.holder.publish(kept._subchannels.holder.snapshot)
        )  # type: ignore[union-attr]
        done = threading.Event()
        del garbage

        def collect() -> None:
            gc.collect()
            done.set()

        collect()

        assert done.is_set()
    kept.close()


def test_a_fast_path_makes_no_threads(targets: list[str]) -> None:
    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        unary: Any = channel.unary_unary(UNARY)
        unary(b"")
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "healthlb-callbacks"])
        before = threading.active_count()
        for _ in range(200):
            unary(b"")

        assert threading.active_count() <= before


def test_state_and_status_of_an_unused_channel_start_nothing(targets: list[str]) -> None:
    channel = healthlb.HealthAwareChannel(targets, "svc")
    before = threading.active_count()
    seen: list[grpc.ChannelConnectivity] = []
    channel.subscribe(seen.append)
    eventually(lambda: seen == [grpc.ChannelConnectivity.IDLE])

    assert channel.state() is grpc.ChannelConnectivity.IDLE
    assert channel.subchannels() == ()
    assert "IDLE" in repr(channel)
    eventually(lambda: threading.active_count() <= before)
    assert control_threads() == []
    channel.close()
