"""What programs do with the interceptors of an asyncio channel: append later, call another method, leave no thread."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

import healthlb
import healthlb.aio
from tests.lifecycle.support import PATIENCE, UNARY, Nursery

LISTS = {
    "unary_unary": "_unary_unary_interceptors",
    "unary_stream": "_unary_stream_interceptors",
    "stream_unary": "_stream_unary_interceptors",
    "stream_stream": "_stream_stream_interceptors",
}


class Seen:
    """What the interceptors of a test have seen."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.names: list[str] = []

    def interceptor(self, arity: str, name: str, method: bytes | None = None) -> grpc.aio.ClientInterceptor:
        """Return one that notes its name, and goes on with another method where one is given."""
        kind = getattr(grpc.aio, "".join(part.title() for part in arity.split("_")) + "ClientInterceptor")

        async def intercept(_: Any, continuation: Any, details: Any, request: Any) -> Any:
            self.names.append(name)
            wanted = details if method is None else details._replace(method=method)
            return await continuation(wanted, request)

        made: grpc.aio.ClientInterceptor = type(name, (kind,), {f"intercept_{arity}": intercept})()
        return made


@pytest.mark.parametrize("arity", list(LISTS))
async def test_interceptors_that_are_appended_later_run_after_the_others(arity: str, targets: list[str]) -> None:
    """Google's generated asyncio clients add theirs to the channel's lists, by these names."""
    methods = {
        "unary_unary": UNARY,
        "unary_stream": "/test.Echo/ServerStream",
        "stream_unary": "/test.Echo/ClientStream",
    }
    seen = Seen()
    first = seen.interceptor(arity, "first")
    async with healthlb.aio.HealthAwareChannel(targets, "svc", interceptors=[first]) as channel:
        getattr(channel, LISTS[arity]).append(seen.interceptor(arity, "later"))
        request: Any = [b"a"] if arity.startswith("stream") else b"a"
        call = getattr(channel, arity)(methods.get(arity, "/test.Echo/Bidi"))(request, timeout=PATIENCE)
        if arity.endswith("stream"):
            assert [response async for response in call]
        else:
            assert await call

    assert seen.names == ["first", "later"]


@pytest.mark.parametrize("arity", list(LISTS))
async def test_there_is_a_list_for_each_arity(arity: str, targets: list[str]) -> None:
    seen = Seen()
    made = [seen.interceptor(arity, "one") for arity in LISTS]
    channel = healthlb.aio.HealthAwareChannel(targets, "svc", interceptors=made)

    assert [getattr(channel, name) for name in LISTS.values()] == [[one] for one in made]


async def test_close_ends_calls_whose_interceptors_have_not_begun(targets: list[str]) -> None:
    """As plain does: a fresh channel is closed at once."""
    for make in (grpc.aio.insecure_channel, healthlb.aio.HealthAwareChannel):
        seen = Seen()
        channel = make(targets[0], interceptors=[seen.interceptor("unary_unary", "one")])
        call = channel.unary_unary(UNARY)(b"")
        await channel.close()

        with pytest.raises(asyncio.CancelledError):
            await call
        assert seen.names == []


async def test_another_method_is_called_by_its_own_policy(targets: list[str]) -> None:
    """The multi-callable's method may not be executed twice, the one that the interceptor calls may."""
    seen = Seen()
    other = seen.interceptor("unary_unary", "other", method=b"/test.Echo/Unary")
    failover = healthlb.Failover(idempotent=["/test.Echo/Unary"], budget=None)
    async with healthlb.aio.HealthAwareChannel(
        targets, "svc", interceptors=[other], failover=failover, outliers=None
    ) as channel:
        await channel.wait_until_ready(PATIENCE, min_ready=2)
        call = channel.unary_unary("/test.Echo/Nothing")(b"", metadata=(("x-fail", "UNAVAILABLE"),))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call

    # "Nothing" is UNIMPLEMENTED; and of Unary one attempt is made for each backend, and a third one.
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(caught.value.attempts) == 3  # type: ignore[attr-defined]


CLOSED = """
    import asyncio, sys, threading, time
    import grpc.aio
    import healthlb.aio
    targets = sys.argv[1].split(",")

    class PassOn(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation, client_call_details, request):
            return await continuation(client_call_details, request)

    async def main():
        channel = healthlb.aio.HealthAwareChannel(targets, "svc", interceptors=[PassOn()])
        view = channel.with_failover(None)
        for _ in range({calls}):
            await channel.unary_unary("/test.Echo/Unary")(b"", timeout=15)
            await view.unary_unary("/test.Echo/Unary")(b"", timeout=15)
        await channel.close()

    asyncio.run(main())
    deadline = time.monotonic() + 15
    while any("_poll_wrapper" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    print("closed")
"""


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_a_closed_channel_leaves_no_poller(calls: int, targets: list[str], nursery: Nursery) -> None:
    """grpcio's poller ends with the last channel of the process; one that forks then has channels in the child."""
    assert nursery.run(CLOSED.format(calls=calls), ",".join(targets)) == ["closed"]


async def test_a_generator_ends_with_its_channel(targets: list[str]) -> None:
    """Its own `finally` has run when `close` returns."""
    ended: list[str] = []

    async def requests() -> Any:
        try:
            yield b"a"
            await asyncio.sleep(60)
        finally:
            ended.append("closed")

    channel = healthlb.aio.HealthAwareChannel(targets, "svc")
    call = channel.stream_stream("/test.Echo/Bidi")(requests(), timeout=PATIENCE)
    assert await call.read()
    await channel.close()

    assert ended == ["closed"]


@pytest.mark.parametrize("arity", list(LISTS))
@pytest.mark.parametrize("intercepted", [False, True])
async def test_what_is_made_is_of_grpcios_classes(arity: str, intercepted: bool, targets: list[str]) -> None:
    base = "".join(part.title() for part in arity.split("_"))
    interceptors = [Seen().interceptor(arity, "one")] if intercepted else []
    async with healthlb.aio.HealthAwareChannel(targets, "svc", interceptors=interceptors) as channel:
        made = getattr(channel, arity)(UNARY)
        call = made([b""] if arity.startswith("stream") else b"", timeout=PATIENCE)

        assert isinstance(made, getattr(grpc.aio, f"{base}MultiCallable"))
        assert isinstance(call, getattr(grpc.aio, f"{base}Call"))
        call.cancel()
