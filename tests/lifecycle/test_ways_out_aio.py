"""However a call of the asyncio face ends, it is counted out: of flight, of its caps, and of those that wait.

Hypothesis draws which ways out are taken side by side; after each draw every counter is what is still under way: none.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import healthlb
import healthlb.aio
from tests.lifecycle.support import PATIENCE, eventually_async

METHODS = {
    "unary_unary": "/test.Echo/Unary",
    "unary_stream": "/test.Echo/ServerStream",
    "stream_unary": "/test.Echo/ClientStream",
    "stream_stream": "/test.Echo/Bidi",
}
SLOW = (("x-sleep", "30"),)
Channel = healthlb.aio.HealthAwareChannel


def begin(channel: Channel, arity: str, **terms: Any) -> Any:
    """Begin a call of this arity."""
    requests: Any = [b"a", b"b"] if arity.startswith("stream") else b"a"
    serializer = terms.pop("serializer", None)
    terms.setdefault("timeout", PATIENCE)
    return getattr(channel, arity)(METHODS[arity], request_serializer=serializer)(requests, **terms)


async def take(call: Any) -> None:
    """Read a call to its end, however that is."""
    with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, TypeError):
        if hasattr(call, "__aiter__"):
            async for _ in call:
                pass
        else:
            await call


async def _ok(channel: Channel, arity: str) -> None:
    await take(begin(channel, arity))


async def _fails(channel: Channel, arity: str) -> None:
    await take(begin(channel, arity, metadata=(("x-fail", "UNAVAILABLE"),)))


async def _too_late(channel: Channel, arity: str) -> None:
    await take(begin(channel, arity, metadata=SLOW, timeout=0.05))


async def _no_time(channel: Channel, arity: str) -> None:
    await take(begin(channel, arity, timeout=0))


async def _cancelled_at_once(channel: Channel, arity: str) -> None:
    call = begin(channel, arity, metadata=SLOW)
    call.cancel()
    assert call.done()


async def _cancelled_later(channel: Channel, arity: str) -> None:
    call = begin(channel, arity, metadata=SLOW)
    await asyncio.sleep(0.01)
    call.cancel()
    assert call.done()


async def _task_cancelled(channel: Channel, arity: str) -> None:
    task = asyncio.ensure_future(take(begin(channel, arity, metadata=SLOW)))
    await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _timed_out(channel: Channel, arity: str) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(take(begin(channel, arity, metadata=SLOW)), 0.02)


async def _dropped(channel: Channel, arity: str) -> None:
    begin(channel, arity, metadata=(("x-count", "0"),), timeout=0.5)
    gc.collect()


async def _wrong_timeout(channel: Channel, arity: str) -> None:
    with contextlib.suppress(TypeError):
        begin(channel, arity, timeout="5")


async def _wrong_metadata(channel: Channel, arity: str) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await take(begin(channel, arity, metadata=(("Upper", "v"),), timeout=0.1))


async def _wrong_credentials(channel: Channel, arity: str) -> None:
    with contextlib.suppress(grpc.aio.UsageError):
        begin(channel, arity, credentials=grpc.access_token_call_credentials("token"))


async def _wrong_request(channel: Channel, arity: str) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await take(begin(channel, arity, serializer=lambda request: "text", timeout=0.2))


async def _broken_requests(channel: Channel, arity: str) -> None:
    if not arity.startswith("stream"):
        return

    async def requests() -> Any:
        yield b"a"
        raise ValueError("broken")

    with contextlib.suppress(asyncio.CancelledError):
        await take(getattr(channel, arity)(METHODS[arity])(requests(), timeout=PATIENCE))


WAYS: list[Callable[[Channel, str], Awaitable[None]]] = [
    *(_ok, _fails, _too_late, _no_time, _cancelled_at_once, _cancelled_later, _task_cancelled, _timed_out, _dropped),
    *(_wrong_timeout, _wrong_metadata, _wrong_credentials, _wrong_request, _broken_requests),
]
FORMS = {
    "one attempt": None,
    "idempotent": healthlb.Failover(idempotent=True, budget=None),
    "hedged": healthlb.Failover(idempotent=True, hedging_delay=0.005, budget=None),
}


def counters(channel: Channel) -> dict[str, int]:
    """What is under way, by all that count it."""
    limiter = channel._subchannels.admission.limiter
    return {
        "in flight": sum(status.in_flight for status in channel.subchannels()),
        "under the caps": limiter.in_flight,
        "waiting": limiter.waiting,
        "kept": len(channel._subchannels.calls),
        "looking for a snapshot": len(channel._subchannels.holder._watchers),
    }


async def take_ways(targets: list[str], form: str, ways: list[tuple[Any, str]], is_fresh: bool) -> None:
    """Take these ways side by side, and see that nothing is left."""
    caps = healthlb.Overload(max_in_flight=100, max_in_flight_per_subchannel=100, max_waiting=100)
    async with Channel(targets, "svc", failover=FORMS[form], outliers=None, overload=caps) as channel:
        if not is_fresh:
            await channel.wait_until_ready(PATIENCE, min_ready=2)
        await asyncio.gather(*(way(channel, arity) for way, arity in ways))
        await eventually_async(lambda: not any(counters(channel).values()))


@given(
    form=st.sampled_from(list(FORMS)),
    ways=st.lists(st.tuples(st.sampled_from(WAYS), st.sampled_from(list(METHODS))), min_size=1, max_size=12),
    is_fresh=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_every_way_out_counts_out(targets: list[str], form: str, ways: list[tuple[Any, str]], is_fresh: bool) -> None:
    asyncio.run(take_ways(targets, form, ways, is_fresh))


def test_a_request_that_is_no_bytes(targets: list[str]) -> None:
    """grpcio's own call would never end."""
    asyncio.run(take_ways(targets, "one attempt", [(_wrong_request, "unary_stream")], is_fresh=False))


class Stop(BaseException):
    """What ends a program, as KeyboardInterrupt does."""


async def test_whatever_is_raised_while_an_attempt_is_made(targets: list[str], monkeypatch: Any) -> None:
    def interrupt(*arguments: object) -> None:
        raise Stop

    async with Channel(targets, "svc") as channel:
        await channel.wait_until_ready(PATIENCE)
        with monkeypatch.context() as patched:
            patched.setattr("healthlb.calls.attempts.Method.open", interrupt)
            with contextlib.suppress(Stop):
                await begin(channel, "unary_unary")

        assert [status.in_flight for status in channel.subchannels()] == [0] * len(targets)


@pytest.mark.parametrize("arity", ["unary_unary", "stream_unary"])
@pytest.mark.parametrize("fail", [None, "UNAVAILABLE"])
@pytest.mark.parametrize("is_ready", [False, True])
def test_who_is_cancelled_as_the_call_ends_is_cancelled(
    is_ready: bool, fail: str | None, arity: str, targets: list[str]
) -> None:
    """The call is over, and its task has yet to hear of it: a cancellation in between is its caller's, not lost."""

    async def scenario() -> grpc.StatusCode:
        async with Channel(targets, "svc", failover=healthlb.Failover(idempotent=True)) as channel:
            if is_ready:
                await channel.wait_until_ready(PATIENCE)
            call = begin(channel, arity, metadata=(("x-fail", fail),) if fail else None)
            waiting = asyncio.ensure_future(take(call))
            await asyncio.sleep(0)
            call.add_done_callback(lambda call: waiting.cancel())
            with pytest.raises(asyncio.CancelledError):
                await waiting
            code: grpc.StatusCode = await call.code()
            return code

    assert asyncio.run(scenario()) is (grpc.StatusCode.UNAVAILABLE if fail else grpc.StatusCode.OK)
