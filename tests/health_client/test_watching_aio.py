"""The Watches of the asyncio health client: one to iterate over, one that calls back."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

import healthlb.aio
from healthlb import ChannelUnusable, ConfigError, InvalidResponse, ServingStatus
from healthlb.aio import HealthClient
from tests.backends.backend import Backend
from tests.backends.clients import PATIENCE
from tests.health_client.raw import RawHealth
from tests.lifecycle.support import eventually_async
from tests.server.served import Served

UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN = ServingStatus
KINDS = ("address", "plain", "intercepted", "ours")
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


class PassingOn(grpc.aio.UnaryStreamClientInterceptor):
    """Iterates over the responses itself."""

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        call = await continuation(details, request)

        async def responses() -> AsyncIterator[Any]:
            async for message in call:
                yield message

        return responses()


@asynccontextmanager
async def opened(kind: str, address: str) -> AsyncIterator[HealthClient]:
    """Open a client over one kind of channel."""
    if kind == "address":
        async with HealthClient(address) as client:
            yield client
    elif kind == "ours":
        async with healthlb.aio.HealthAwareChannel([address], service=None) as channel, HealthClient(channel) as client:
            yield client
    else:
        interceptors = [PassingOn()] if kind == "intercepted" else []
        async with (
            grpc.aio.insecure_channel(address, interceptors=interceptors) as plain,
            HealthClient(plain) as client,
        ):
            yield client


def run(work: Callable[[], Coroutine[Any, Any, None]], loop: str = "asyncio", *, debug: bool = True) -> None:
    """Run a test on a loop of its own; none of its tasks may be left."""

    async def watched() -> None:
        before = len(asyncio.all_tasks())
        await work()
        await eventually_async(lambda: len(asyncio.all_tasks()) <= before)

    with asyncio.Runner(debug=debug, loop_factory=LOOPS[loop]) as runner:
        runner.run(asyncio.wait_for(watched(), 60))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with closing(Served("aio")) as served:
        yield served


@pytest.fixture
def raw() -> Iterator[RawHealth]:
    with RawHealth() as raw:
        yield raw


async def set_status(served: Served, status: ServingStatus) -> None:
    await asyncio.to_thread(served.set, "svc", status)


class Heard:
    """A callback that keeps what it hears."""

    def __init__(self) -> None:
        self.statuses: asyncio.Queue[ServingStatus] = asyncio.Queue()
        self.threads: set[threading.Thread] = set()

    def __call__(self, status: ServingStatus) -> None:
        self.threads.add(threading.current_thread())
        self.statuses.put_nowait(status)

    async def next(self) -> ServingStatus:
        return await asyncio.wait_for(self.statuses.get(), PATIENCE)


# --- on every kind of channel ----------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_follow_the_status(served: Served, kind: str, loop: str) -> None:
    async def work() -> None:
        await set_status(served, SERVING)
        async with opened(kind, served.address) as client:
            heard = Heard()
            async with client.watch("svc") as statuses, client.watch("svc", callback=heard) as watch:
                assert (await anext(statuses), await heard.next()) == (SERVING, SERVING)
                for status in (NOT_SERVING, SERVING):
                    await set_status(served, status)
                    assert (await anext(statuses), await heard.next()) == (status, status)
                    assert str(statuses.answer) == str(watch.answer) == status.name
                address = served.address if kind == "ours" else None
                assert statuses.answer is not None
                assert statuses.answer.address == address
            assert [status async for status in statuses] == []
            assert watch.is_closed
            await set_status(served, NOT_SERVING)
            assert heard.statuses.empty()
            assert heard.threads == {threading.current_thread()}

    run(work, loop)


@pytest.mark.parametrize("kind", KINDS)
def test_closing_the_client_ends_all_watches(served: Served, kind: str) -> None:
    async def work() -> None:
        await set_status(served, SERVING)
        async with opened(kind, served.address) as client:
            heard = Heard()
            statuses, watch = client.watch("svc"), client.watch("svc", callback=heard)
            unused = client.watch("svc")
            assert (await anext(statuses), await heard.next()) == (SERVING, SERVING)
            waiting = asyncio.ensure_future(collect(statuses))
            await asyncio.sleep(0)
            await client.close()
            await client.close()
            assert await asyncio.wait_for(waiting, PATIENCE) == []
            assert statuses.is_closed
            assert watch.is_closed
            assert unused.is_closed

    run(work)


async def collect(statuses: AsyncIterator[ServingStatus]) -> list[ServingStatus]:
    return [status async for status in statuses]


def test_a_thousand_callbacks_are_no_thread(raw: RawHealth) -> None:
    async def work() -> None:
        heard = Heard()
        async with HealthClient(raw.address) as client:
            await client.check()
            before = threading.active_count()
            watches = [client.watch(f"svc-{number}", callback=heard) for number in range(1000)]
            assert {await heard.next() for _ in range(1000)} == {SERVING}
            await asyncio.to_thread(raw.send, b"\x08\x02")
            assert {await heard.next() for _ in range(1000)} == {NOT_SERVING}
            assert threading.active_count() <= before + 1  # to_thread's
            for watch in watches[:500]:
                await watch.close()
            await eventually_async(lambda: raw.watches == 500)
        await eventually_async(lambda: raw.watches == 0)

    run(work, debug=False)


def test_it_says_what_grpcios_own_stub_hears(served: Served) -> None:
    async def work() -> None:
        async with grpc.aio.insecure_channel(served.address) as channel, HealthClient(channel) as client:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            await set_status(served, SERVING)
            theirs, ours = stub.Watch(health_pb2.HealthCheckRequest(service="svc")), client.watch("svc")
            for status in (SERVING, NOT_SERVING, UNKNOWN, SERVING):
                await set_status(served, status)
                assert ((await theirs.read()).status, await anext(ours)) == (status, status)
            theirs.cancel()

    run(work)


# --- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.INTERNAL])
def test_a_watch_that_ends(raw: RawHealth, kind: str, code: grpc.StatusCode) -> None:
    raw.end = code

    async def work() -> None:
        seen = []
        heard = Heard()
        async with opened(kind, raw.address) as client:
            try:
                async for status in client.watch("svc"):
                    seen.append(status)
                ended_with = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                ended_with = error.code()
            watch = client.watch("svc", callback=heard)
            assert [await heard.next(), await heard.next()] == [SERVING, UNKNOWN]
            await eventually_async(lambda: watch.is_closed)
            assert (seen, ended_with) == ([SERVING], code)
            assert watch.answer is not None
            assert watch.answer.code is code

    run(work)


def test_servers_without_watch_and_with_garbage(raw: RawHealth) -> None:
    raw.messages = [b"\xff\xff\x1b[31m" * 1000]

    async def work() -> None:
        async with HealthClient(raw.address) as client:
            with pytest.raises(InvalidResponse, match="not a HealthCheckResponse"):
                await anext(client.watch("svc"))
            await eventually_async(lambda: raw.watches == 0)
        with Backend(name="b0", kind="no_health") as backend:
            async with HealthClient(backend.address) as client:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await anext(client.watch("svc"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(work)


@pytest.mark.needs(
    "grpcio", "1.83", reason="closing a channel does not end a call that is read beneath other coroutines"
)
@pytest.mark.parametrize("kind", ["plain", "ours"])
def test_a_channel_that_is_closed_cancels_nobody(served: Served, kind: str) -> None:
    async def work() -> None:
        await set_status(served, SERVING)
        async with opened(kind, served.address) as client:
            heard = Heard()
            followed, single = client.watch("svc", follow=True), client.watch("svc")
            watches = [client.watch("svc", callback=heard, follow=follow) for follow in (True, False)]
            assert [await anext(followed), await anext(single)] == [SERVING, SERVING]
            assert [await heard.next(), await heard.next()] == [SERVING, SERVING]
            await client._target.channel.close()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(single)
            assert caught.value.code() is grpc.StatusCode.CANCELLED
            with pytest.raises((ValueError, grpc.aio.UsageError), match=r"(?i)closed"):
                await collect(followed)
            assert [await heard.next(), await heard.next()] == [UNKNOWN, UNKNOWN]
            await eventually_async(lambda: all(watch.is_closed for watch in watches))

    run(work)


@pytest.mark.parametrize("kind", ["address", "ours"])
def test_a_server_that_dies_and_comes_back(kind: str) -> None:
    async def work() -> None:
        with Backend(name="b0", services=("svc",)) as backend:
            async with opened(kind, backend.address) as client:
                heard = Heard()
                client.watch("svc", callback=heard, follow=True)
                statuses = client.watch("svc", follow=True)
                assert (await heard.next(), await anext(statuses)) == (SERVING, SERVING)
                await asyncio.to_thread(backend.kill)
                assert (await heard.next(), await anext(statuses)) == (UNKNOWN, UNKNOWN)
                assert statuses.answer is not None
                assert statuses.answer.code is grpc.StatusCode.UNAVAILABLE
                await asyncio.to_thread(backend.restart)
                assert (await heard.next(), await anext(statuses)) == (SERVING, SERVING)

    run(work, debug=False)


def test_a_watch_that_ends_after_a_word_is_begun_again_in_silence(raw: RawHealth) -> None:
    raw.end = grpc.StatusCode.UNAVAILABLE

    async def work() -> None:
        async with HealthClient(raw.address) as client:
            statuses = client.watch("svc", follow=True)
            assert await anext(statuses) is SERVING
            waiting = asyncio.ensure_future(anext(statuses))
            await eventually_async(lambda: raw.begun >= 4)
            assert not waiting.done()
            raw.messages = [b"\x08\x02"]
            assert await waiting is NOT_SERVING

    run(work)


# --- cancellation, loops, what is left -------------------------------------------------------------


def test_who_is_cancelled_while_waiting_may_wait_again(served: Served) -> None:
    async def work() -> None:
        await set_status(served, SERVING)
        async with HealthClient(served.address) as client:
            statuses = client.watch("svc")
            assert await anext(statuses) is SERVING
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(statuses), 0.02)
            await set_status(served, NOT_SERVING)
            assert await anext(statuses) is NOT_SERVING

    run(work)


def test_a_cancelled_task_ends_its_watch(raw: RawHealth) -> None:
    async def work() -> None:
        async with HealthClient(raw.address) as client:
            heard = asyncio.Event()

            async def follow() -> None:
                async for _ in client.watch("svc", follow=True):
                    heard.set()

            task = asyncio.ensure_future(follow())
            await asyncio.wait_for(heard.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            await eventually_async(lambda: raw.watches == 0)

    run(work)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_and_nothing_is_a_cycle(raw: RawHealth, kind: str) -> None:
    async def work() -> None:
        async with opened(kind, raw.address) as client:
            heard = Heard()
            gc.collect()
            gc.disable()
            try:
                subscription, closed, dropped = (
                    client.watch("svc", callback=heard),
                    client.watch("svc"),
                    client.watch("svc"),
                )
                assert (await heard.next(), await anext(closed), await anext(dropped)) == (SERVING,) * 3
                await subscription.close()
                await closed.close()
                left = [weakref.ref(one) for one in (subscription, closed, dropped)]
                del subscription, closed, dropped
                await eventually_async(lambda: raw.watches == 0)
                await eventually_async(lambda: not [ref for ref in left if ref() is not None])
            finally:
                gc.enable()
            link = client._link()
            assert (link.subscriptions, link.iterators) == (set(), set())

    run(work, debug=False)


def test_a_loop_that_ends_first_is_silent(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> Any:
        client = HealthClient(served.address)
        client.watch("svc", callback=lambda status: None, follow=True)
        statuses = client.watch("svc", follow=True)
        await anext(statuses)
        return client, statuses

    left = [asyncio.run(leave(), debug=True) for _ in range(3)]
    del left
    gc.collect()
    asyncio.run(asyncio.sleep(0.2))

    # grpcio's poller stumbles over other loops' events, before 1.83.
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [one.getMessage() for one in errors if not one.exc_info or one.exc_info[0] is not BlockingIOError] == []


def test_a_client_belongs_to_its_loop(served: Served) -> None:
    async def begin(client: HealthClient) -> Any:
        await client.check()
        return client.watch("svc")

    client = HealthClient(served.address)
    with pytest.raises(ChannelUnusable, match="inside a running event loop"):
        client.watch("svc")
    statuses = asyncio.run(begin(client))
    for use in (begin(client), anext(statuses)):
        with pytest.raises(ChannelUnusable, match="bound to the event loop of its first use"):
            asyncio.run(use)


# --- callbacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_callback_that_raises_hears_the_next(
    served: Served, caplog: pytest.LogCaptureFixture, is_coroutine: bool
) -> None:
    heard = Heard()

    def raising(status: ServingStatus) -> None:
        heard(status)
        raise [SystemExit, asyncio.CancelledError][status is SERVING]("mine")

    async def awaited(status: ServingStatus) -> None:
        await asyncio.sleep(0)
        heard(status)
        raise asyncio.CancelledError("mine")

    async def work() -> None:
        await set_status(served, SERVING)
        async with HealthClient(served.address) as client:
            client.watch("svc", callback=awaited if is_coroutine else raising)
            assert await heard.next() is SERVING
            await set_status(served, NOT_SERVING)
            assert await heard.next() is NOT_SERVING

    # In the main thread SystemExit raised by a callback is its own, not one that a signal handler raised.
    with caplog.at_level(logging.ERROR, "healthlb"):
        run(work)

    assert len([record for record in caplog.records if "watch callback" in record.getMessage()]) == 2


def test_a_callback_that_closes_its_watch_in_a_flood_hears_no_more(raw: RawHealth) -> None:
    heard = list[ServingStatus]()

    async def work() -> None:
        async def once(status: ServingStatus) -> None:
            heard.append(status)
            raw.send(*FLOOD)
            await eventually_async(lambda: raw.watches == 0)  # it was too much
            watch.close()

        async with HealthClient(raw.address) as client:
            watch = client.watch("svc", callback=once, follow=True)
            await eventually_async(lambda: watch.is_closed)
            await asyncio.sleep(1.0)  # longer than the pause until a Watch that was too much is begun again

    run(work)

    assert (heard, raw.begun) == ([SERVING], 1)


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_callback_that_cancels_its_task_ends_its_watch(
    raw: RawHealth, caplog: pytest.LogCaptureFixture, is_coroutine: bool
) -> None:
    heard = Heard()

    def cancelling(status: ServingStatus) -> None:
        heard(status)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def awaited(status: ServingStatus) -> None:
        cancelling(status)
        await asyncio.sleep(0)

    async def work() -> None:
        async with HealthClient(raw.address) as client:
            watch = client.watch("svc", callback=awaited if is_coroutine else cancelling, follow=True)
            assert await heard.next() is SERVING
            await eventually_async(lambda: watch.is_closed)
            assert not client._link().subscriptions

    run(work)

    assert caplog.records == []


@pytest.mark.parametrize("end", ["close", "await close", "await client"])
def test_a_callback_may_close(served: Served, end: str) -> None:
    async def work() -> None:
        await set_status(served, SERVING)
        closed = asyncio.Event()
        async with HealthClient(served.address) as client:

            async def once(status: ServingStatus) -> None:
                if end == "close":
                    watch.close()
                elif end == "await close":
                    await watch.close()
                else:
                    await client.close()
                await asyncio.sleep(0)  # the callback goes on: it is not cancelled
                closed.set()

            others = [client.watch("svc"), client.watch("svc", callback=lambda status: None)]
            await anext(others[0])
            link = client._opened
            watch = client.watch("svc", callback=once)
            await asyncio.wait_for(closed.wait(), PATIENCE)
            is_over = end == "await client"
            assert [other.is_closed for other in others] == [is_over, is_over]
            assert (link.channel._channel.closed()) is is_over
            await watch.close()
            assert watch.is_closed

    run(work)


FLOOD = [bytes((8, status)) for _ in range(2000) for status in (1, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_flood_the_newest_status_is_told(raw: RawHealth, kind: str) -> None:
    heard, begun = list[ServingStatus](), time.monotonic()

    async def work() -> None:
        async with opened(kind, raw.address) as client:
            client.watch("svc", callback=heard.append)
            await eventually_async(lambda: heard == [SERVING])
            raw.send(*FLOOD)
            raw.messages = [b"\x08\x03"]  # what a Watch begins with from now on
            raw.send(b"\x08\x03")
            await eventually_async(lambda: heard[-1] is SERVICE_UNKNOWN)

    run(work)

    # All in turn, at ten milliseconds each, would be 40 seconds.
    assert len(heard) <= 100 * (time.monotonic() - begun) + 2


@pytest.mark.parametrize("form", ["callback", "iterator"])
def test_who_is_slow_passes_over_what_is_old(raw: RawHealth, form: str) -> None:
    heard, may_go_on = list[ServingStatus](), asyncio.Event()

    async def slow(status: ServingStatus) -> None:
        heard.append(status)
        await may_go_on.wait()

    async def work() -> None:
        async def iterate() -> None:
            async for status in client.watch("svc"):
                await slow(status)

        async with HealthClient(raw.address) as client:
            reading = asyncio.ensure_future(iterate()) if form == "iterator" else client.watch("svc", callback=slow)
            await eventually_async(lambda: heard == [SERVING])
            raw.send(*FLOOD[:600], b"\x08\x03")
            await asyncio.sleep(0.5)
            may_go_on.set()
            await eventually_async(lambda: heard[-1] is SERVICE_UNKNOWN)
            if isinstance(reading, asyncio.Task):
                reading.cancel()

    run(work)

    assert len(heard) < 300


def test_callbacks_that_are_none(served: Served) -> None:
    async def work() -> None:
        async with HealthClient(served.address) as client:
            with pytest.raises(ConfigError, match="callback must be callable"):
                client.watch("svc", callback=7)  # type: ignore[call-overload]

    run(work)
