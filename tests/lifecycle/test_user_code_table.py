"""The contract of docs/user_code.md as a table: each kind of the user's code, and each thing that it may do wrong.

Whatever one channel's plug-in does, another channel goes on, and the calls of its own either work in the end or end with
a status that names it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import grpc
import pytest

import healthlb
import healthlb.aio
from healthlb.control import driver
from healthlb.core import resolution
from tests.backends import Backend
from tests.lifecycle.support import PATIENCE, UNARY, eventually, eventually_async

READY = grpc.ChannelConnectivity.READY
BLOCK = 0.3
NOBODY = "127.0.0.1:1"  # refused: what is not reachable has the resolver asked again
KINDS = ("resolver", "refresh", "build", "pick", "call_ended", "listener", "callback", "log")
RAISES: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: ValueError("broken plug-in"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
}
DEEDS = (*RAISES, "block", "re-entry", "garbage", "other thread")


class PlugIn:
    """All kinds of user code in one, of which one does the deed, a few times."""

    needs_latency = True

    def __init__(self, kind: str, deed: str, addresses: Sequence[str]) -> None:
        """Be harmless but for the deed."""
        self.kind = kind
        self.deed = deed
        self.addresses = [*addresses, NOBODY]
        self.channel: Any = None
        self.done = 0
        self.ready: tuple[Any, ...] = ()

    def act(self, kind: str, harmless: Any = None) -> Any:
        """Do the deed where it is this kind's, the first three times; return what it returns, else what is harmless."""
        if kind != self.kind or self.done >= 3:
            return harmless
        self.done += 1
        if self.deed in RAISES:
            raise RAISES[self.deed]()
        if self.deed == "block":
            time.sleep(BLOCK)
        elif self.deed == "re-entry":
            self.look_in()
        elif self.deed == "other thread":
            thread = threading.Thread(target=self.look_in)
            thread.start()
            thread.join()
        return "garbage" if self.deed == "garbage" else harmless

    def look_in(self) -> None:
        """Use the channel that this is plugged into."""
        if self.channel is None:
            return
        self.channel.subchannels()
        self.channel.state()
        self.channel.add_listener(self.note)
        self.channel.remove_listener(self.note)
        self.channel.unary_unary(UNARY)

    def note(self, fact: object) -> None:
        """Hear of it."""

    async def resolve(self, update: Callable[[Any], None]) -> None:
        """Resolve."""
        endpoints = self.act("resolver", [healthlb.Endpoint(address) for address in self.addresses])
        if self.kind == "resolver" and self.deed == "other thread":
            await asyncio.to_thread(update, endpoints)
        else:
            update(endpoints)
        await asyncio.Event().wait()

    def refresh(self) -> Any:
        """Take a note."""
        return self.act("refresh")

    def build(self, ready: Sequence[Any]) -> Any:
        """Build."""
        self.ready = tuple(ready)
        return self.act("build", self)

    def pick(self, call: Any) -> Any:
        """Pick."""
        untried = [sub for sub in self.ready if sub.id not in call.exclude]
        return self.act("pick", next(iter(untried or self.ready), None))

    def call_ended(self, sub: object, end: object) -> Any:
        """Hear of a call."""
        return self.act("call_ended")

    def listen(self, fact: object) -> Any:
        """Hear of a fact."""
        return self.act("listener")

    def emit(self, record: logging.LogRecord) -> None:
        """Hear of a line of the log."""
        self.act("log")

    def call_back(self, call: object) -> Any:
        """Hear of the end of a call."""
        return self.act("callback")


@pytest.fixture(autouse=True)
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again in a twentieth of the time what broke: after 50 ms, not after 1 s, which no option tells."""
    monkeypatch.setattr(resolution, "Backoff", partial(healthlb.Backoff, initial=0.05))
    monkeypatch.setattr(driver, "_BUILD_AGAIN", 0.05)


@pytest.fixture
def plug(kind: str, deed: str, targets: list[str]) -> Iterator[PlugIn]:
    """Return what does the deed; it hears of the log, too."""
    made = PlugIn(kind, deed, targets)
    handler = logging.Handler()
    handler.emit = made.emit  # type: ignore[method-assign]
    log = logging.getLogger("healthlb")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield made
    log.removeHandler(handler)
    log.setLevel(before)


def is_told(error: Any) -> bool:
    """Whether a call's error says whose fault it is."""
    text = error.details() or ""
    return error.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE) and any(
        word in text for word in ("picker PlugIn", "no addresses", "resolver")
    )


def followed(subs: Sequence[healthlb.SubchannelStatus]) -> list[bool]:
    """Return which are READY."""
    return [sub.state is READY for sub in subs]


# On the caller's own thread, which is the main thread here, KeyboardInterrupt is Ctrl-C.
SYNC = [
    (kind, deed)
    for kind in KINDS
    for deed in DEEDS
    if deed != "KeyboardInterrupt" or kind not in ("pick", "call_ended")
]
AIO = [(kind, deed) for kind in KINDS for deed in DEEDS if deed != "KeyboardInterrupt"]


@pytest.mark.parametrize(("kind", "deed"), SYNC)
def test_sync(kind: str, deed: str, plug: PlugIn, backends: list[Backend], targets: list[str]) -> None:
    with (
        healthlb.HealthAwareChannel(targets, "svc") as good,
        healthlb.HealthAwareChannel(plug, "svc", picker=lambda: plug, listeners=[plug.listen]) as bad,
    ):
        good.wait_until_ready(PATIENCE, min_ready=2)
        plug.channel = bad
        unary: Any = bad.unary_unary(UNARY)

        def works() -> bool:
            # Of a call that is over already grpcio calls back at once, in the caller's own frame.
            future = unary.future(b"", timeout=PATIENCE, metadata=(("x-sleep", "0.05"),))
            future.add_done_callback(plug.call_back)
            try:
                return unary(b"", timeout=PATIENCE) in (b"b0", b"b1") and future.result(PATIENCE) in (b"b0", b"b1")
            except grpc.RpcError as error:
                assert is_told(error), error
                return False

        eventually(works)
        backends[0].set("NOT_SERVING", "svc")
        eventually(lambda: followed(good.subchannels()) == [False, True])
        eventually(lambda: followed(bad.subchannels()) == [False, True, False])
        backends[0].set("SERVING", "svc")
        eventually(lambda: followed(good.subchannels()) == [True, True])
        eventually(works)
        eventually(lambda: plug.done > 0)


@pytest.mark.parametrize(("kind", "deed"), AIO)
async def test_aio(kind: str, deed: str, plug: PlugIn, backends: list[Backend], targets: list[str]) -> None:
    async with (
        healthlb.aio.HealthAwareChannel(targets, "svc") as good,
        healthlb.aio.HealthAwareChannel(plug, "svc", picker=lambda: plug, listeners=[plug.listen]) as bad,
    ):
        await good.wait_until_ready(PATIENCE, min_ready=2)
        plug.channel = bad
        unary: Any = bad.unary_unary(UNARY)

        async def works() -> bool:
            try:
                call = unary(b"", timeout=PATIENCE)
                call.add_done_callback(plug.call_back)
                return await call in (b"b0", b"b1")
            except grpc.RpcError as error:
                assert is_told(error), error
                return False

        async def works_in_the_end() -> None:
            deadline = time.monotonic() + PATIENCE
            while not await works():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

        await works_in_the_end()
        backends[0].set("NOT_SERVING", "svc")
        await eventually_async(lambda: followed(good.subchannels()) == [False, True])
        await eventually_async(lambda: followed(bad.subchannels()) == [False, True, False])
        backends[0].set("SERVING", "svc")
        await eventually_async(lambda: followed(good.subchannels()) == [True, True])
        await works_in_the_end()
        await eventually_async(lambda: plug.done > 0)


# --- under no lock ----------------------------------------------------------------------------------------


class Stuck(PlugIn):
    """Stands still in one place until it is let go, once it is told to; and has looked in at the channel before."""

    def __init__(self, kind: str, addresses: Sequence[str]) -> None:
        """Do nothing yet."""
        super().__init__(kind, "", addresses)
        self.is_armed = threading.Event()
        self.is_stuck = threading.Event()
        self.goes_on = threading.Event()

    def act(self, kind: str, harmless: Any = None) -> Any:
        """Stand still."""
        if kind == self.kind and self.is_armed.is_set() and not self.is_stuck.is_set():
            self.look_in()
            self.is_stuck.set()
            self.goes_on.wait(4 * PATIENCE)
        return harmless


@pytest.fixture
def flipped(backends: list[Backend]) -> Iterator[Backend]:
    """Return a backend that is SERVING again afterwards."""
    yield backends[0]
    backends[0].set("SERVING", "svc")


@pytest.mark.parametrize("kind", ["build", "pick", "call_ended", "listener", "callback"])
def test_c22_no_lock_is_held_while_user_code_stands_still(kind: str, flipped: Backend, targets: list[str]) -> None:
    plug = Stuck(kind, targets)
    with healthlb.HealthAwareChannel(plug, "svc", picker=lambda: plug, listeners=[plug.listen]) as channel:
        plug.channel = channel
        channel.wait_until_ready(PATIENCE, min_ready=2)
        unary: Any = channel.unary_unary(UNARY)
        assert unary(b"", timeout=PATIENCE) in (b"b0", b"b1")
        plug.is_armed.set()
        # One call and one change of health, of which one meets it.
        future = threading.Thread(target=lambda: unary(b"", timeout=PATIENCE))
        future.start()
        called = unary.future(b"", timeout=PATIENCE, metadata=(("x-sleep", "0.1"),))
        called.add_done_callback(plug.call_back)
        flipped.set("NOT_SERVING", "svc")
        assert plug.is_stuck.wait(PATIENCE)

        begun_at = time.monotonic()
        plug.look_in()
        states: list[Any] = []
        channel.subscribe(states.append)
        eventually(lambda: bool(states))
        channel.unsubscribe(states.append)
        assert [unary(b"", timeout=PATIENCE) for _ in range(5)]
        assert unary.future(b"", timeout=PATIENCE).result(PATIENCE) in (b"b0", b"b1")
        assert list(
            channel.unary_stream("/test.Echo/ServerStream")(b"", timeout=PATIENCE, metadata=(("x-count", "2"),))
        )  # type: ignore[misc]
        assert not called.cancelled()
        assert time.monotonic() - begun_at < PATIENCE
        plug.goes_on.set()
        flipped.set("SERVING", "svc")
        channel.wait_until_ready(PATIENCE, min_ready=2)
        future.join(PATIENCE)
