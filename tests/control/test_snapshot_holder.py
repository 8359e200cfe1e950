from __future__ import annotations

import threading
import time

from healthlb.control.snapshot_holder import SnapshotHolder
from healthlb.core.messages import ConnectivityState
from healthlb.core.snapshot import Snapshot

READY, CONNECTING = ConnectivityState.READY, ConnectivityState.CONNECTING


def snapshot(generation: int, state: ConnectivityState = READY) -> Snapshot:
    return Snapshot(generation, state)


def test_a_waiter_sees_the_next_generation() -> None:
    holder = SnapshotHolder(snapshot(1))
    seen: list[tuple[bool, int]] = []

    def wait() -> None:
        seen.append((holder.wait(1, None), holder.snapshot.generation))

    threads = [threading.Thread(target=wait) for _ in range(10)]
    for thread in threads:
        thread.start()
    holder.publish(snapshot(2))
    for thread in threads:
        thread.join(10.0)

    assert seen == [(True, 2)] * 10


def test_nobody_waits_for_what_is_there() -> None:
    assert SnapshotHolder(snapshot(2)).wait(1, time.monotonic() - 1.0)


def test_a_waiter_gives_up_at_its_deadline() -> None:
    holder = SnapshotHolder(snapshot(1))
    deadline = time.monotonic() + 0.01

    assert not holder.wait(1, deadline)
    assert time.monotonic() >= deadline


def test_a_watcher_is_called_once() -> None:
    holder = SnapshotHolder(snapshot(1))
    seen: list[int] = []
    holder.when_changed(1, lambda: seen.append(holder.snapshot.generation))
    assert seen == []
    holder.publish(snapshot(2))
    holder.publish(snapshot(3))

    assert seen == [2]


def test_a_watcher_that_comes_late_is_called_at_once() -> None:
    holder = SnapshotHolder(snapshot(2))
    seen: list[int] = []
    holder.when_changed(1, lambda: seen.append(holder.snapshot.generation))

    assert seen == [2]


def test_a_watcher_that_is_forgotten_is_not_called() -> None:
    holder = SnapshotHolder(snapshot(1))
    seen: list[str] = []
    first = holder.when_changed(1, lambda: seen.append("first"))
    holder.when_changed(1, lambda: seen.append("second"))
    holder.forget(first)
    holder.forget(first)
    holder.publish(snapshot(2))

    assert seen == ["second"]


def test_a_watcher_may_ask_again_from_within() -> None:
    holder = SnapshotHolder(snapshot(1))
    seen: list[int] = []

    def watch() -> None:
        seen.append(holder.snapshot.generation)
        holder.when_changed(holder.snapshot.generation, watch)

    holder.when_changed(1, watch)
    for generation in (2, 3, 4):
        holder.publish(snapshot(generation))

    assert seen == [2, 3, 4]


def test_the_snapshot_is_there_before_anybody_is_told() -> None:
    holder = SnapshotHolder(snapshot(1))
    seen: list[tuple[str, int]] = []
    holder.observe = lambda state: seen.append((state.name, holder.snapshot.generation))
    holder.deliver = lambda watcher: seen.append(("delivered", holder.snapshot.generation))
    holder.when_changed(1, lambda: None)
    holder.publish(snapshot(2, CONNECTING))

    assert seen == [("CONNECTING", 2), ("delivered", 2)]


def test_no_generation_is_missed_by_many_readers() -> None:
    """A reader that waits for each next generation reaches the last one, whatever the race."""
    holder = SnapshotHolder(snapshot(0))
    last = 500
    reached: list[int] = []

    def follow() -> None:
        generation = 0
        while generation < last:
            assert holder.wait(generation, time.monotonic() + 30.0)
            generation = holder.snapshot.generation
        reached.append(generation)

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(1, last + 1):
        holder.publish(snapshot(generation))
    for thread in threads:
        thread.join(60.0)

    assert reached == [last] * 4
