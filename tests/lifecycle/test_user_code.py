"""What users plug in may raise, block, or answer nonsense: it is logged, and the rest goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb.core.facts import StateChange
from tests.backends import Backend
from tests.backends.clients import failure
from tests.lifecycle.support import PATIENCE, UNARY, eventually, eventually_async

READY = grpc.ChannelConnectivity.READY
FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what healthlb has logged as an error, with the text of the exception."""
    found = []
    for record in caplog.records:
        if record.name == "healthlb" and record.levelno >= logging.ERROR:
            found.append(f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}")
    return found


def changes(facts: Sequence[Any], address: str) -> list[str]:
    """Return the states that an address went through."""
    return [fact.new.name for fact in facts if isinstance(fact, StateChange) and fact.address == address]


# --- listeners -------------------------------------------------------------------------------------------


def test_listener_that_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    before: list[object] = []
    after: list[object] = []

    def broken(fact: object) -> None:
        raise ValueError("broken listener")

    with healthlb.HealthAwareChannel(targets, "svc", listeners=[before.append, broken, after.append]) as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        eventually(lambda: bool(before) and len(before) == len(after))
    eventually(lambda: bool(before) and len(before) == len(after))

    assert before == after
    assert len([text for text in errors(caplog) if "broken listener" in text]) == len(before)


async def test_aio_listener_that_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    before: list[object] = []
    after: list[object] = []

    def broken(fact: object) -> None:
        raise ValueError("broken listener")

    listeners = [before.append, broken, after.append]
    async with healthlb.aio.HealthAwareChannel(targets, "svc", listeners=listeners) as channel:
        await channel.wait_until_ready(PATIENCE, min_ready=2)
    await eventually_async(lambda: bool(before) and len(before) == len(after))

    assert before == after
    assert len([text for text in errors(caplog) if "broken listener" in text]) == len(before)


def test_p26_listener_that_blocks_delays_nothing(backends: list[Backend], targets: list[str]) -> None:
    """Neither calls nor health changes of any channel, and it hears of everything all the same."""
    goes_on = threading.Event()
    heard: list[object] = []

    def blocked(fact: object) -> None:
        goes_on.wait(PATIENCE)
        heard.append(fact)

    with healthlb.HealthAwareChannel(targets, "svc", listeners=[blocked]) as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        backends[0].set("NOT_SERVING", "svc")
        eventually(lambda: [status.state for status in channel.subchannels()] == [FAILURE, READY])
        assert {channel.unary_unary(UNARY)(b"") for _ in range(8)} == {b"b1"}  # type: ignore[misc]
        backends[0].set("SERVING", "svc")
        channel.wait_until_ready(PATIENCE, min_ready=2)
        assert heard == []
        goes_on.set()
        eventually(lambda: changes(heard, targets[0])[-2:] == ["TRANSIENT_FAILURE", "READY"])


def test_listener_and_subscriber_that_remove_themselves(targets: list[str]) -> None:
    heard: list[object] = []
    seen: list[object] = []

    def once(fact: object) -> None:
        heard.append(fact)
        channel.remove_listener(once)

    def first(state: grpc.ChannelConnectivity) -> None:
        seen.append(state)
        channel.unsubscribe(first)

    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        channel.add_listener(once)
        channel.subscribe(first)
        channel.wait_until_ready(PATIENCE, min_ready=2)
        eventually(lambda: bool(heard) and bool(seen))

        assert seen == [grpc.ChannelConnectivity.IDLE]


def test_subscriber_that_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    seen: list[grpc.ChannelConnectivity] = []

    def broken(state: grpc.ChannelConnectivity) -> None:
        raise ValueError("broken subscriber")

    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        channel.subscribe(broken)
        channel.subscribe(seen.append, try_to_connect=True)
        eventually(lambda: READY in seen)

    assert any("broken subscriber" in text for text in errors(caplog))


# --- done callbacks --------------------------------------------------------------------------------------


def test_done_callback_that_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    done: list[object] = []

    def broken(future: object) -> None:
        raise ValueError("broken callback")

    with healthlb.HealthAwareChannel(targets, "svc") as channel:
        unary: Any = channel.unary_unary(UNARY)
        for _ in range(20):
            future = unary.future(b"", metadata=(("x-sleep", "0.02"),))
            future.add_done_callback(broken)
            future.add_done_callback(done.append)
            assert future.result(PATIENCE) in (b"b0", b"b1")
        eventually(lambda: len(done) == 20)

    told = [record for record in caplog.records if record.name == "grpc._channel"]
    assert len([record for record in told if "broken callback" in record.getMessage()]) == 20


async def test_aio_done_callback_that_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    done: list[object] = []

    def broken(call: object) -> None:
        raise ValueError("broken callback")

    async with healthlb.aio.HealthAwareChannel(targets, "svc") as channel:
        for _ in range(20):
            call = channel.unary_unary(UNARY)(b"")
            call.add_done_callback(broken)
            call.add_done_callback(done.append)
            assert await call in (b"b0", b"b1")
        await eventually_async(lambda: len(done) == 20)

    assert len([text for text in errors(caplog) if "broken callback" in text]) == 20


def test_done_callback_that_blocks_delays_no_other_channel(
    backends: list[Backend], targets: list[str], silent: str
) -> None:
    """Calls that wait end beside the control thread, which every channel shares."""
    goes_on = threading.Event()
    blocked = threading.Event()

    def block(future: object) -> None:
        blocked.set()
        goes_on.wait(PATIENCE)

    with healthlb.HealthAwareChannel([silent], "svc") as stuck, healthlb.HealthAwareChannel(targets, "svc") as other:
        unary: Any = stuck.unary_unary(UNARY)
        unary.future(b"", timeout=0.3).add_done_callback(block)
        assert blocked.wait(PATIENCE)
        other.wait_until_ready(PATIENCE, min_ready=2)
        backends[0].set("NOT_SERVING", "svc")
        eventually(lambda: [status.state for status in other.subchannels()] == [FAILURE, READY])
        backends[0].set("SERVING", "svc")
        goes_on.set()


def test_done_callback_that_blocks_while_its_channel_closes(targets: list[str]) -> None:
    """`close` gives up on it after a while; other channels notice nothing."""
    goes_on = threading.Event()
    blocked = threading.Event()

    def block(future: object) -> None:
        blocked.set()
        goes_on.wait(4 * PATIENCE)

    with healthlb.HealthAwareChannel(targets, "svc") as other:
        channel = healthlb.HealthAwareChannel(targets[:1], "svc")
        channel.wait_until_ready(PATIENCE)
        unary: Any = channel.unary_unary(UNARY)
        unary.future(b"", metadata=(("x-sleep", "0.3"),)).add_done_callback(block)
        assert blocked.wait(PATIENCE)
        future = unary.future(b"", metadata=(("x-sleep", "60"),))
        closing = threading.Thread(target=channel.close)
        closing.start()
        eventually(lambda: channel.state() is grpc.ChannelConnectivity.SHUTDOWN)
        started = time.monotonic()
        other.wait_until_ready(PATIENCE)

        assert time.monotonic() - started < 4.0
        goes_on.set()
        closing.join(PATIENCE)
        assert failure(lambda: future.result(PATIENCE)).code() is grpc.StatusCode.CANCELLED


# --- pickers ---------------------------------------------------------------------------------------------


class BrokenFactory:
    """Builds nothing, ever or from the second time on."""

    def __init__(self, good: int) -> None:
        """Fail after `good` builds."""
        self._good = good

    def build(self, ready: Sequence[healthlb.Subchannel]) -> Any:
        """Fail, or return what takes the first."""
        self._good -= 1
        if self._good < 0:
            raise ValueError("broken factory")
        return FirstPicker(ready)


class FirstPicker:
    """Takes the first there was."""

    def __init__(self, ready: Sequence[healthlb.Subchannel]) -> None:
        """Remember them."""
        self._ready = tuple(ready)

    def pick(self, call: healthlb.CallInfo) -> healthlb.Subchannel | None:
        """Return the first."""
        return self._ready[0] if self._ready else None


NEVER_BUILT = "the picker BrokenFactory could not be built: ValueError: broken factory"


def test_u1_factory_that_always_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with healthlb.HealthAwareChannel(targets, "svc", picker=lambda: BrokenFactory(0)) as channel:
        for wait_for_ready in (False, True):
            error = failure(lambda: channel.unary_unary(UNARY)(b"", wait_for_ready=wait_for_ready))  # type: ignore[misc]  # noqa: B023

            assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, NEVER_BUILT)
        assert any("broken factory" in text for text in errors(caplog))


def test_factory_that_raises_later_keeps_the_last_picker(
    backends: list[Backend], targets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with healthlb.HealthAwareChannel(targets[:1], "svc", picker=lambda: BrokenFactory(1)) as channel:
        channel.wait_until_ready(PATIENCE)
        assert channel.unary_unary(UNARY)(b"") == b"b0"  # type: ignore[misc]
        backends[0].set("NOT_SERVING", "svc")
        eventually(lambda: channel.state() is FAILURE)
        eventually(lambda: any("broken factory" in text for text in errors(caplog)))
        backends[0].set("SERVING", "svc")

        assert channel.unary_unary(UNARY)(b"", wait_for_ready=True, timeout=PATIENCE) == b"b0"  # type: ignore[misc]


async def test_aio_factory_that_always_raises(targets: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc", picker=lambda: BrokenFactory(0)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(UNARY)(b"")

        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, NEVER_BUILT)
        assert any("broken factory" in text for text in errors(caplog))


def test_c19_factory_that_raises_after_a_removal_parks_no_call(
    backends: list[Backend], targets: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    resolver = GivenResolver()
    with healthlb.HealthAwareChannel(resolver, "svc", picker=lambda: BrokenFactory(1)) as channel:
        unary: Any = channel.unary_unary(UNARY)
        channel.subscribe(lambda state: None, try_to_connect=True)
        eventually(lambda: resolver.update is not None)
        resolver.give(targets[:1])
        assert unary(b"", timeout=PATIENCE) == b"b0"
        resolver.give(targets[1:])
        eventually(lambda: [sub.state for sub in channel.subchannels() if sub.address == targets[1]] == [READY])
        eventually(lambda: len(channel.subchannels()) == 1)

        assert {unary(b"", timeout=PATIENCE) for _ in range(10)} == {b"b1"}
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len([record for record in warnings if "BrokenFactory" in record.getMessage()]) == 1


class GivenResolver:
    """Hands over what it is given, from whatever thread that is."""

    def __init__(self) -> None:
        """Know nobody who listens."""
        self.update: Callable[[Any], None] | None = None

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Wait for `give`."""
        self.update = update
        await asyncio.Event().wait()

    def give(self, addresses: Sequence[str]) -> None:
        """Hand these over."""
        assert self.update is not None
        self.update([healthlb.Endpoint(address) for address in addresses])


class RememberingFactory:
    """Its pickers go on taking the first subchannel that there ever was."""

    def __init__(self) -> None:
        """Know none."""
        self._first: healthlb.Subchannel | None = None

    def build(self, ready: Sequence[healthlb.Subchannel]) -> RememberingFactory:
        """Return itself."""
        if self._first is None and ready:
            self._first = ready[0]
        return self

    def pick(self, call: healthlb.CallInfo) -> healthlb.Subchannel | None:
        """Return what may be gone."""
        return self._first


def test_pick_of_what_was_removed(backends: list[Backend], targets: list[str]) -> None:
    with healthlb.HealthAwareChannel(targets[:1], "svc", picker=RememberingFactory) as channel:
        unary: Any = channel.unary_unary(UNARY)
        assert unary(b"", timeout=PATIENCE) == b"b0"
        backends[0].restart()
        channel.wait_until_ready(PATIENCE)

        assert unary(b"", timeout=PATIENCE, wait_for_ready=True) == b"b0"


class RaisingPicker:
    """Picks nothing."""

    def build(self, ready: object) -> RaisingPicker:
        """Return itself."""
        return self

    def pick(self, call: object) -> None:
        """Raise, against the contract."""
        raise LookupError("broken picker")


def test_h37_pick_that_raises(targets: list[str]) -> None:
    """The caller hears of it; a call that waits ends with it."""
    with healthlb.HealthAwareChannel(targets, "svc", picker=RaisingPicker) as channel:
        unary: Any = channel.unary_unary(UNARY)
        for _ in range(100):
            error = failure(lambda: unary(b"", timeout=PATIENCE))

            assert error.code() is grpc.StatusCode.INTERNAL
            assert error.details() == "the picker RaisingPicker raised LookupError: broken picker"


async def test_aio_pick_that_raises(targets: list[str]) -> None:
    async with healthlb.aio.HealthAwareChannel(targets, "svc", picker=RaisingPicker) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="the picker RaisingPicker raised LookupError: broken picker"):
            await asyncio.wait_for(channel.unary_unary(UNARY)(b""), PATIENCE)


# --- resolvers -------------------------------------------------------------------------------------------


class ScriptedResolver:
    """Does what it is told to, from one call of `resolve` to the next."""

    def __init__(self, *steps: Callable[[Callable[[Any], None]], Any]) -> None:
        """Take the steps, the last of them for ever."""
        self._steps = list(steps)
        self.calls = 0

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Do the next step."""
        self.calls += 1
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        result = step(update)
        if result is not None:
            await result


def tell(*addresses: str) -> Callable[[Callable[[Any], None]], None]:
    """Return a step that names these."""
    return lambda update: update([healthlb.Endpoint(address) for address in addresses])


def fail(update: object) -> None:
    """Raise."""
    raise ValueError("broken resolver")


def test_resolver_that_raises_then_works(targets: list[str]) -> None:
    resolver = ScriptedResolver(fail, tell(*targets))
    with healthlb.HealthAwareChannel(resolver, "svc") as channel:
        assert channel.unary_unary(UNARY)(b"", wait_for_ready=True, timeout=PATIENCE) in (b"b0", b"b1")  # type: ignore[misc]
    assert resolver.calls == 2


def test_resolver_that_always_raises(targets: list[str]) -> None:
    with healthlb.HealthAwareChannel(ScriptedResolver(fail), "svc") as channel:
        error = failure(lambda: channel.unary_unary(UNARY)(b"", timeout=PATIENCE))  # type: ignore[misc]

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "broken resolver" in error.details()


def test_resolver_that_returns_keeps_its_last_word(targets: list[str]) -> None:
    resolver = ScriptedResolver(tell(*targets))
    with healthlb.HealthAwareChannel(resolver, "svc") as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        channel.unary_unary(UNARY)(b"")  # type: ignore[misc]

        assert resolver.calls == 1


@pytest.mark.parametrize(
    "update",
    [["not an address"], [None], 7, None, [healthlb.Endpoint("not an address")]],
    ids=["no address", "None in it", "a number", "None", "malformed"],
)
def test_resolver_that_says_nonsense(update: Any, targets: list[str]) -> None:
    resolver = ScriptedResolver(lambda take: take(update), tell(*targets))
    with healthlb.HealthAwareChannel(resolver, "svc") as channel:
        assert channel.unary_unary(UNARY)(b"", wait_for_ready=True, timeout=PATIENCE) in (b"b0", b"b1")  # type: ignore[misc]


def test_resolver_that_blocks_the_loop(targets: list[str]) -> None:
    """It holds up all health (its contract forbids it); calls go on, and `close` does not wait for ever."""
    goes_on = threading.Event()
    started = threading.Event()

    def block(update: object) -> None:
        started.set()
        goes_on.wait(4 * PATIENCE)

    with healthlb.HealthAwareChannel(targets, "svc") as good:
        good.wait_until_ready(PATIENCE, min_ready=2)
        bad = healthlb.HealthAwareChannel(ScriptedResolver(block), "svc")
        bad.subscribe(lambda state: None, try_to_connect=True)
        assert started.wait(PATIENCE)
        assert {good.unary_unary(UNARY)(b"", timeout=PATIENCE) for _ in range(16)} == {b"b0", b"b1"}  # type: ignore[misc]
        before = time.monotonic()
        bad.close()

        assert time.monotonic() - before < PATIENCE
        goes_on.set()


async def test_aio_resolver_that_raises_then_works(targets: list[str]) -> None:
    resolver = ScriptedResolver(fail, tell(*targets))
    async with healthlb.aio.HealthAwareChannel(resolver, "svc") as channel:
        assert await channel.unary_unary(UNARY)(b"", wait_for_ready=True, timeout=PATIENCE) in (b"b0", b"b1")
    assert resolver.calls == 2


async def test_aio_resolver_that_cancels_itself(targets: list[str]) -> None:
    """A cancelled wait inside of it is a failure like any other, not the end of the channel."""

    async def cancelled() -> None:
        raise asyncio.CancelledError

    resolver = ScriptedResolver(lambda update: cancelled(), tell(*targets))
    async with healthlb.aio.HealthAwareChannel(resolver, "svc") as channel:
        assert await channel.unary_unary(UNARY)(b"", wait_for_ready=True, timeout=PATIENCE) in (b"b0", b"b1")
