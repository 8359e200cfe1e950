"""The control thread of the sync face: what raises through it, and what holds it up."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest

import healthlb
from healthlb.control import thread as thread_module
from healthlb.control import watchdog
from tests.backends import Backend
from tests.backends.clients import failure
from tests.lifecycle.support import PATIENCE, UNARY, control_threads, eventually

READY = grpc.ChannelConnectivity.READY
FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the watchdog look ten times as often, so that the tests are short."""
    monkeypatch.setattr(watchdog, "LOOK", 0.1)


@pytest.fixture
def good(targets: list[str]) -> Iterator[healthlb.HealthAwareChannel]:
    """Open a channel whose resolver does nothing wrong."""
    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        yield channel


class Resolver:
    """Does the first step once, and gives the addresses after that."""

    def __init__(self, step: Callable[[], object], addresses: Sequence[str], before: Sequence[str] = ()) -> None:
        """Do nothing yet."""
        self.step = step
        self.addresses = addresses
        self.before = before
        self.runs = 0

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Give what is known before, do the step, then give the rest."""
        self.runs += 1
        if self.runs == 1:
            if self.before:
                update([healthlb.Endpoint(address) for address in self.before])
                await asyncio.sleep(0.5)
            self.step()
        update([healthlb.Endpoint(address) for address in self.addresses])
        await asyncio.Event().wait()


def begin(channel: healthlb.HealthAwareChannel) -> None:
    """Have it connect, without waiting for that."""
    channel.subscribe(lambda state: None, try_to_connect=True)


def follows(channel: healthlb.HealthAwareChannel, backend: Backend) -> None:
    """Check that a change of health is heard."""
    backend.set("NOT_SERVING", "svc")
    eventually(lambda: FAILURE in [sub.state for sub in channel.subchannels()])
    backend.set("SERVING", "svc")
    eventually(lambda: [sub.state for sub in channel.subchannels()] == [READY, READY])


def calls_until(channel: healthlb.HealthAwareChannel, condition: Callable[[], bool]) -> None:
    """Call until the condition holds; no call may fail."""
    ends_at = time.monotonic() + PATIENCE
    call: Any = channel.unary_unary(UNARY)
    while not condition():
        assert time.monotonic() < ends_at
        assert call(b"", timeout=PATIENCE) in (b"b0", b"b1")


def calls_for(channel: healthlb.HealthAwareChannel, seconds: float) -> None:
    """Call for so long; no call may fail."""
    ends_at = time.monotonic() + seconds
    calls_until(channel, lambda: time.monotonic() > ends_at)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), RuntimeError("broken")])
def test_x1_what_a_task_of_the_users_raises_ends_no_thread(
    error: BaseException, good: healthlb.HealthAwareChannel, backends: list[Backend], targets: list[str]
) -> None:
    """asyncio lets SystemExit through the loop."""

    def step() -> None:
        raise error

    async def task() -> None:
        step()

    started: list[asyncio.Task[None]] = []
    threads = control_threads()
    resolver = Resolver(lambda: started.append(asyncio.get_running_loop().create_task(task())), targets)
    with healthlb.HealthAwareChannel(resolver, "svc") as bad:
        bad.wait_until_ready(PATIENCE, min_ready=2)
        eventually(lambda: started[0].done())
        follows(good, backends[0])

        assert control_threads() == threads
    started[0].exception()


def test_x1_a_loop_that_is_stopped_goes_on(
    good: healthlb.HealthAwareChannel, backends: list[Backend], targets: list[str]
) -> None:
    with healthlb.HealthAwareChannel(Resolver(lambda: asyncio.get_running_loop().stop(), targets), "svc") as bad:
        bad.wait_until_ready(PATIENCE, min_ready=2)
        follows(good, backends[0])


def test_x1_a_resolver_that_blocks_holds_up_nobody_else(
    good: healthlb.HealthAwareChannel, backends: list[Backend], targets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()
    started = threading.Event()

    def block() -> None:
        started.set()
        goes_on.wait(4 * PATIENCE)

    resolver = Resolver(block, targets)
    waiting = good.unary_unary(UNARY)
    assert waiting(b"", timeout=PATIENCE) in (b"b0", b"b1")  # type: ignore[misc]
    with healthlb.HealthAwareChannel(resolver, "svc") as bad:
        begin(bad)
        assert started.wait(PATIENCE)
        follows(good, backends[0])
        error = failure(lambda: bad.unary_unary(UNARY)(b"", timeout=PATIENCE))  # type: ignore[misc]

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "block has held up the control thread for" in error.details() or "resolve has held up" in error.details()
        assert any("stands still" in record.getMessage() for record in caplog.records)
        levels = [record.levelno for record in caplog.records if "takes over" in record.getMessage()]
        assert levels == [logging.ERROR]

        goes_on.set()
        bad.wait_until_ready(PATIENCE, min_ready=2)
        assert resolver.runs == 2
    eventually(lambda: len(control_threads()) == 1)


def test_x1_calls_under_way_notice_nothing_of_a_fresh_thread(
    good: healthlb.HealthAwareChannel, targets: list[str], silent: str
) -> None:
    goes_on = threading.Event()
    started = threading.Event()

    def block() -> None:
        started.set()
        goes_on.wait(4 * PATIENCE)

    unary: Any = good.unary_unary(UNARY)
    with (
        healthlb.HealthAwareChannel(Resolver(block, targets), "svc") as bad,
        healthlb.HealthAwareChannel([silent], "svc") as stuck,
    ):
        slow = unary.future(b"", metadata=(("x-sleep", "2.5"),))
        begin(bad)
        assert started.wait(PATIENCE)
        expires: Any = stuck.unary_unary(UNARY)
        expiring = expires.future(b"", timeout=1.5)
        ends_at = time.monotonic() + 1.5
        while time.monotonic() < ends_at:
            assert unary(b"", timeout=PATIENCE) in (b"b0", b"b1")

        assert failure(lambda: expiring.result(PATIENCE)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert slow.result(PATIENCE) in (b"b0", b"b1")
        eventually(lambda: [sub.state for sub in good.subchannels()] == [READY, READY])
        goes_on.set()


def test_x1_close_waits_for_no_code_of_another_channel(targets: list[str]) -> None:
    goes_on = threading.Event()
    started = threading.Event()

    def block() -> None:
        started.set()
        goes_on.wait(4 * PATIENCE)

    good = healthlb.HealthAwareChannel(targets, "svc")
    good.wait_until_ready(PATIENCE, min_ready=2)
    unary: Any = good.unary_unary(UNARY)
    with healthlb.HealthAwareChannel(Resolver(block, targets), "svc") as bad:
        slow = unary.future(b"", metadata=(("x-sleep", "30"),))
        begin(bad)
        assert started.wait(PATIENCE)
        begun_at = time.monotonic()
        good.close()

        # It is held up after 0.2 to 0.3 s here; close gives up waiting after 5.
        assert time.monotonic() - begun_at < 2.5
        assert slow.code() is grpc.StatusCode.CANCELLED
        assert good.state() is grpc.ChannelConnectivity.SHUTDOWN
        goes_on.set()
    eventually(lambda: control_threads() == [])


def test_x1_a_blocked_resolver_holds_up_no_close_of_the_last_channel(
    targets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The thread is to end with its last channel, and the watchdog looks on until it has."""
    goes_on = threading.Event()
    started = threading.Event()

    def block() -> None:
        started.set()
        goes_on.wait(4 * PATIENCE)

    channel = healthlb.HealthAwareChannel(Resolver(block, targets), "svc")
    begin(channel)
    assert started.wait(PATIENCE)
    begun_at = time.monotonic()
    channel.close()

    # It is held up after 0.2 to 0.3 s here; close gives up waiting after 5.
    assert time.monotonic() - begun_at < 2.5
    assert "the control thread stands still" in caplog.text
    goes_on.set()
    eventually(lambda: control_threads() == [])
    eventually(lambda: "healthlb-watchdog" not in [thread.name for thread in threading.enumerate()])
    assert "fresh thread" not in caplog.text


def test_x1_a_resolver_that_blocks_later_keeps_its_list(backends: list[Backend], targets: list[str]) -> None:
    goes_on = threading.Event()
    started = threading.Event()

    def block() -> None:
        started.set()
        goes_on.wait(4 * PATIENCE)

    with healthlb.HealthAwareChannel(Resolver(block, targets, before=targets), "svc") as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        assert started.wait(PATIENCE)
        calls_until(channel, lambda: len(control_threads()) == 2)
        calls_until(channel, lambda: [sub.state for sub in channel.subchannels()] == [READY, READY])
        follows(channel, backends[0])
        calls_for(channel, 1.0)
        goes_on.set()


class Refreshed(Resolver):
    """Counts how often it is asked for a new list."""

    refreshed = 0

    def refresh(self) -> None:
        """Count."""
        self.refreshed += 1


def test_x1_a_resolver_that_is_back_can_be_asked_to_refresh() -> None:
    """In a channel that takes up to 30 s, as with any list that is asked for again."""
    resolver = Refreshed(lambda: None, ())
    stall = watchdog.Stall("held up")
    stalled = watchdog.StalledResolver(resolver, stall)

    assert stalled.refresh is None
    stall.is_over.set()
    assert stalled.refresh is not None
    stalled.refresh()
    assert resolver.refreshed == 1


def test_x1_others_keep_their_lists_where_their_resolvers_fail(targets: list[str]) -> None:
    """A fresh thread asks all resolvers anew, and one that is down by then has given its list already."""
    goes_on = threading.Event()

    class Once(Resolver):
        async def resolve(self, update: Callable[[Any], None]) -> None:
            if self.runs:
                self.runs += 1
                raise OSError("down")
            await super().resolve(update)

    once = Once(lambda: None, targets)
    blocking = Resolver(lambda: goes_on.wait(4 * PATIENCE), targets, before=targets)
    with (
        healthlb.HealthAwareChannel(once, "svc") as channel,
        healthlb.HealthAwareChannel(blocking, "svc") as bad,
    ):
        channel.wait_until_ready(PATIENCE, min_ready=2)
        begin(bad)
        calls_until(channel, lambda: once.runs > 1)
        calls_for(channel, 1.0)
        goes_on.set()


class BlockingFactory:
    """Blocks once, in its first build; or in a later one that is asked for."""

    def __init__(self, started: threading.Event, goes_on: threading.Event, *, is_due: bool = True) -> None:
        """Build at first."""
        self._started = started
        self._goes_on = goes_on
        self.is_due = is_due

    def build(self, ready: Sequence[Any]) -> BlockingFactory:
        """Block."""
        if self.is_due and not self._started.is_set():
            self._started.set()
            self._goes_on.wait(4 * PATIENCE)
        self._ready = tuple(ready)
        return self

    def pick(self, call: object) -> Any:
        """Return the first."""
        return self._ready[0]


def test_x1_a_build_that_blocks_is_told_to_its_calls(
    good: healthlb.HealthAwareChannel, backends: list[Backend], targets: list[str]
) -> None:
    goes_on = threading.Event()
    started = threading.Event()
    factory = BlockingFactory(started, goes_on)
    with healthlb.HealthAwareChannel(targets, "svc", picker=lambda: factory) as bad:
        begin(bad)
        assert started.wait(PATIENCE)
        follows(good, backends[0])
        eventually(lambda: bad.state() is READY)
        error = failure(lambda: bad.unary_unary(UNARY)(b"", timeout=PATIENCE))  # type: ignore[misc]

        assert error.code() is grpc.StatusCode.INTERNAL
        assert "BlockingFactory.build has held up the control thread" in error.details()
        goes_on.set()

        def works() -> bool:
            try:
                return bad.unary_unary(UNARY)(b"", timeout=PATIENCE) == b"b0"  # type: ignore[misc]
            except grpc.RpcError:
                return False

        eventually(works)


def test_x1_a_build_that_blocks_later_leaves_the_last_picker(
    backends: list[Backend], targets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    goes_on = threading.Event()
    started = threading.Event()
    factory = BlockingFactory(started, goes_on, is_due=False)
    with healthlb.HealthAwareChannel(targets, "svc", picker=lambda: factory) as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        calls_for(channel, 0.2)
        factory.is_due = True
        backends[0].set("NOT_SERVING", "svc")
        assert started.wait(PATIENCE)
        calls_until(channel, lambda: [sub.state for sub in channel.subchannels()] == [FAILURE, READY])
        backends[0].set("SERVING", "svc")
        calls_until(channel, lambda: [sub.state for sub in channel.subchannels()] == [READY, READY])
        calls_for(channel, 0.5)
        goes_on.set()

    told = [record.getMessage() for record in caplog.records if "could not be built" in record.getMessage()]
    assert told
    assert all(text.startswith("the picker BlockingFactory could not be built: TimeoutError") for text in told)


def test_x1_a_thread_that_ends_is_followed_by_another(
    backends: list[Backend], targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no reason to; here it does so in the middle of its work."""
    ends = threading.Event()
    keep_running = watchdog.keep_running

    def run_and_end(loop: asyncio.AbstractEventLoop, is_ending: Callable[[], bool]) -> None:
        if ends.is_set():
            keep_running(loop, is_ending)
            return
        loop.run_until_complete(asyncio.to_thread(ends.wait))

    monkeypatch.setattr(thread_module, "keep_running", run_and_end)
    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        (before,) = control_threads()
        ends.set()
        eventually(lambda: not before.is_alive())
        follows(channel, backends[0])

        assert channel.unary_unary(UNARY)(b"", timeout=PATIENCE) in (b"b0", b"b1")  # type: ignore[misc]
        assert len(control_threads()) == 1


def test_a_blocking_call_in_a_resolver_is_refused(good: healthlb.HealthAwareChannel, targets: list[str]) -> None:
    own: list[healthlb.HealthAwareChannel] = []
    resolver = Resolver(lambda: own[0].unary_unary(UNARY)(b""), targets)  # type: ignore[misc]
    with healthlb.HealthAwareChannel(resolver, "svc") as channel:
        own.append(channel)
        error = failure(lambda: channel.unary_unary(UNARY)(b"", timeout=PATIENCE))  # type: ignore[misc]

        assert "ChannelUnusable: a resolver or a picker factory runs on the thread" in error.details()
        channel.wait_until_ready(PATIENCE, min_ready=2)
