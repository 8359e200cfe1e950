"""Minimal programs of the asyncio face, each for a fault that there was: ours does what a plain channel does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.differential.cases import check
from tests.differential.loops import LOOPS
from tests.differential.peer import Server
from tests.differential.program import FORMS
from tests.differential.running import AioRunner
from tests.differential.subject import Subject
from tests.differential.tools import (
    USER,
    AsyncPairs,
    AsyncRenaming,
    AsyncTelling,
    agenerator,
    alist,
    as_user,
    asleep,
    asome,
    awaited,
    cancelled,
    collect,
    copied,
    deepcopied,
    failing,
    for_all,
    in_group,
    joined,
    pickled,
    remaining,
    timed,
    user,
)

# ruff: noqa: B023


async def a_request_is_changed_between_attempts(open, see, peer):  # C1
    channel = await open()
    m = channel.unary_unary(peer("uu", "hold", "fails=1:UNAVAILABLE"), request_serializer=joined)
    request = [b"alice"]
    c = m(request, timeout=20)
    await asyncio.to_thread(peer.started)
    request[0] = b"bob"
    await asyncio.to_thread(peer.release)
    await see.wait(lambda: c)


async def metadata_serves_two_calls(open, see, peer):  # C2
    channel = await open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    metadata = grpc.aio.Metadata(("authorization", "secret alice"))
    alice = m([b"alice"], timeout=20, metadata=metadata)
    metadata["authorization"] = "secret bob"
    bob = m([b"bob"], timeout=20, metadata=metadata)
    await see.wait(lambda: asyncio.gather(alice, bob))


async def a_list_of_metadata_serves_two_calls(open, see, peer):  # C2
    channel = await open(fresh=True)
    m = channel.stream_unary(peer("su"), request_serializer=joined)
    metadata = [("authorization", "secret alice")]
    alice = m([[b"alice"]], timeout=20, metadata=metadata)
    metadata[0] = ("authorization", "secret bob")
    bob = m([[b"bob"]], timeout=20, metadata=metadata)
    await see.wait(lambda: asyncio.gather(alice, bob))


async def the_serializer_reads_a_context_variable(open, see, peer):  # C3
    channel = await open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=see.noting("serializer", user))
    made = [asyncio.create_task(as_user(name, lambda: m([b"hello"], timeout=20))) for name in ("alice", "bob")]
    calls = [await task for task in made]
    await see.wait(lambda: asyncio.gather(*calls))


async def a_call_is_dropped_at_once(open, see, peer):  # C4
    channel = await open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    for _ in range(5):
        m([b"alice"], timeout=20)
        collect()
    await see.wait(lambda: asyncio.to_thread(peer.over, 5, 5.0))


async def a_callback_is_added_and_the_call_dropped(open, see, peer):  # C5
    channel = await open(fresh=True)
    m = channel.unary_unary(peer("uu", "sleep=30"), request_serializer=joined)
    for number in range(5):
        m([b"alice"], timeout=20).add_done_callback(see.callback("a", str(number)))
        await asyncio.sleep(0)
        collect()


async def a_generator_resets_a_context_variable(open, see, peer):  # C6
    channel = await open(fresh=True)
    USER.set("alice")
    c = channel.stream_unary(peer("su"), request_serializer=joined)(agenerator(see, "requests", 3), timeout=20)
    await see.wait(lambda: c)


async def a_generator_has_a_timeout(open, see, peer):  # C6
    channel = await open()
    c = channel.stream_stream(peer("ss"), request_serializer=joined)(timed(see, "requests"), timeout=20)
    await see.wait(lambda: alist(c))


async def requests_are_given_by_keyword(open, see, peer):  # C7
    channel = await open(fresh=True)
    su = channel.stream_unary(peer("su"), request_serializer=joined)
    await see.wait(lambda: su(request_iterator=[[b"a"]], timeout=20))
    ss = channel.stream_stream(peer("ss"), request_serializer=joined)
    await see.wait(lambda: alist(ss(request_iterator=[[b"a"]], timeout=20)))
    await see.wait(lambda: channel.unary_unary(peer("uu"), request_serializer=joined)(request=[b"a"], timeout=20))


async def an_error_carries_nothing_of_the_call(open, see, peer):  # C8
    channel = await open()
    metadata = [("authorization", "secret alice")]
    uu = channel.unary_unary(peer("uu", "abort=NOT_FOUND"), request_serializer=joined)
    await see.wait(lambda: uu([b"secret"], timeout=20, metadata=metadata))
    us = channel.unary_stream(peer("us", "abort=NOT_FOUND"), request_serializer=joined)
    await see.wait(lambda: alist(us([b"secret"], timeout=20, metadata=metadata)))


async def an_interceptor_calls_another_method(open, see, peer):  # C9
    channel = await open(
        interceptors=for_all(AsyncRenaming(b"call=0", b"call=9"), AsyncTelling(see, "a"), AsyncPairs())
    )
    uu = see(lambda: channel.unary_unary(peer("uu", "call=0"), request_serializer=joined))
    c = see(lambda: uu([b"a"], timeout=20))
    await see.wait(lambda: c)
    us = see(lambda: channel.unary_stream(peer("us", "call=0"), request_serializer=joined))
    await see.wait(lambda: alist(us([b"a"], timeout=20)))
    su = see(lambda: channel.stream_unary(peer("su", "call=0"), request_serializer=joined))
    await see.wait(lambda: su([[b"a"]], timeout=20))
    ss = see(lambda: channel.stream_stream(peer("ss", "call=0"), request_serializer=joined))
    await see.wait(lambda: alist(ss([[b"a"]], timeout=20)))


async def calls_that_cannot_begin_hold_no_place(open, see, peer):  # C10
    channel = await open(most=2)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    for _ in range(3):
        see(lambda: m([b"a"], timeout="5"))
        see(lambda: m([b"a"], timeout=20, metadata=3))
    await see.wait(lambda: m([b"a"], timeout=20))


async def errors_are_copied(open, see, peer):  # C12
    channel = await open()
    for arity in ("unary_unary", "unary_stream"):
        m = getattr(channel, arity)(peer(arity[0] + arity[6], "abort=NOT_FOUND"), request_serializer=joined)
        await see.wait(
            lambda: awaited(m([b"a"], timeout=20)) if arity == "unary_unary" else alist(m([b"a"], timeout=20))
        )
        see(lambda: pickled(see.error))
        see(lambda: copied(see.error))
        see(lambda: deepcopied(see.error))


async def a_cancelled_call_is_over_at_once(open, see, peer):  # C13
    channel = await open(fresh=True)
    c = channel.unary_unary(peer("uu", "hold"), request_serializer=joined)([b"a"], timeout=20)
    see.blind()
    see(lambda: c.add_done_callback(see.callback("before")))
    see(lambda: c.cancel())
    see(lambda: [c.done(), c.cancelled(), c.cancel()])
    see(lambda: c.add_done_callback(see.callback("after")))
    await see.wait(lambda: c)
    await see.wait(lambda: c.code())


async def the_channel_is_closed_while_a_generator_sleeps(open, see, peer):  # C14
    channel = await open(fresh=True)
    c = channel.stream_unary(peer("su"), request_serializer=joined)(asleep(see, "requests"), timeout=20)
    see.blind()
    await asyncio.to_thread(peer.started)
    await see.wait(lambda: channel.close())
    await see.wait(lambda: c)


async def a_call_cannot_be_serialized(open, see, peer):  # C15
    channel = await open(fresh=True)
    await see.wait(lambda: channel.unary_unary(peer("uu"), request_serializer=failing)([b"a"], timeout=20))
    us = channel.unary_stream(peer("us"), request_serializer=failing)([b"a"], timeout=20)
    await see.wait(lambda: alist(us))


async def metadata_is_invalid(open, see, peer):  # C15
    channel = await open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    for metadata in ([("Upper", "x")], [("k", "a\nb")], [("k",)], [("k", 3)], "text"):
        c = see(lambda: m([b"a"], timeout=20, metadata=metadata))
        await see.wait(lambda: asyncio.wait_for(awaited(c), 0.5))


async def calls_with_metadata_that_are_invalid_are_cancelled(open, see, peer):
    channel = await open(fresh=True)
    for metadata in ([("Upper", "x")], [("k", "a\nb")]):
        uu = channel.unary_unary(peer("uu"), request_serializer=joined)([b"a"], timeout=20, metadata=metadata)
        us = channel.unary_stream(peer("us"), request_serializer=joined)([b"a"], timeout=20, metadata=metadata)
        su = channel.stream_unary(peer("su"), request_serializer=joined)([[b"a"]], timeout=20, metadata=metadata)
        ss = channel.stream_stream(peer("ss"), request_serializer=joined)([[b"a"]], timeout=20, metadata=metadata)
        await asyncio.sleep(0)
        for c in (uu, us, su, ss):
            see(lambda: [c.done(), c.cancel(), c.done(), c.cancelled()])
            await see.wait(lambda: c.code())


async def the_channel_is_closed_before_an_interceptor_begins(open, see, peer):
    channel = await open(fresh=True, interceptors=for_all(AsyncPairs()))
    c = channel.unary_stream(peer("us"), request_serializer=joined)([b"a"], timeout=20)
    await see.wait(lambda: channel.close(0.05))
    await see.wait(lambda: alist(c))


async def timeouts_of_every_kind(open, see, peer):  # C17
    channel = await open()
    held = channel.unary_unary(peer("uu", "hold"), request_serializer=joined)
    answered = channel.unary_unary(peer("uu", "sleep=20"), request_serializer=joined)
    see.blind()
    for timeout in (float("nan"), 0, -1, -float("inf"), 1e-9, "5", 1e7):
        m = answered if timeout == 1e7 else held
        await see.wait(lambda: m([b"a"], timeout=timeout))
        c = see(lambda: m([b"a"], timeout=timeout))
        see(lambda: timeout == 1e7 and remaining(c))
        await see.wait(lambda: c)


async def a_deadline_that_was_over_ends_calls_of_a_dead_channel(open, see, peer):  # C17
    channel = await open(dead=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    await see.wait(lambda: m([b"a"], timeout=20))
    for timeout in (-1, float("nan")):
        await see.wait(lambda: m([b"a"], timeout=timeout))


async def a_method_is_named_by_bytes(open, see, peer):  # C18
    channel = await open()
    await see.wait(lambda: channel.unary_unary(peer("uu").encode(), request_serializer=joined)([b"a"], timeout=20))
    us = channel.unary_stream(peer("us").encode(), request_serializer=joined)
    await see.wait(lambda: alist(us([b"a"], timeout=20)))


async def calls_are_cancelled_as_soon_as_they_are_made(open, see, peer):  # C21
    channel = await open()
    m = channel.unary_unary(peer("uu", "hold"), request_serializer=joined)
    see.blind()
    for turns in range(30):
        c = m([b"a"], timeout=20)
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        c.cancel()
    await see.wait(lambda: channel.unary_unary(peer("uu"), request_serializer=joined)([b"a"], timeout=20))
    await see.wait(lambda: asyncio.to_thread(peer.idle))


async def attempts_outlast_the_hedging_delay(open, see, peer):
    channel = await open()
    m = channel.unary_unary(peer("uu", "sleep=70", "fails=2:UNAVAILABLE"), request_serializer=joined)
    await see.wait(lambda: m([b"a"], timeout=20))


async def response_headers_commit_a_call(open, see, peer):  # C24
    channel = await open()
    m = channel.unary_unary(peer("uu", "head", "fails=2:UNAVAILABLE"), request_serializer=joined)
    await see.wait(lambda: m([b"a"], timeout=20))


async def a_task_that_awaits_is_cancelled(open, see, peer):
    channel = await open()
    m = channel.unary_unary(peer("uu", "hold"), request_serializer=joined)
    c = m([b"a"], timeout=20)
    await asyncio.to_thread(peer.started)
    await see.wait(lambda: asyncio.wait_for(asyncio.shield(awaited(c)), 0.05))
    see(lambda: [c.done(), c.cancelled()])
    await see.wait(lambda: cancelled(c, 3))
    see(lambda: [c.done(), c.cancelled()])
    await see.wait(lambda: asyncio.to_thread(peer.over))
    await see.wait(lambda: c)
    await see.wait(lambda: c.code())


async def a_group_of_calls(open, see, peer):
    channel = await open(fresh=True)
    good = channel.unary_unary(peer("uu"), request_serializer=joined)
    bad = channel.unary_unary(peer("uu", "abort=NOT_FOUND"), request_serializer=joined)
    await see.wait(lambda: in_group(good([b"a"], timeout=20), good([b"b"], timeout=20)))
    await see.wait(lambda: in_group(bad([b"a"], timeout=20)))


async def a_stream_is_read_by_two_means(open, see, peer):
    channel = await open()
    c = channel.unary_stream(peer("us", "n=3"), request_serializer=joined)([b"a"], timeout=20)
    await see.wait(lambda: c.read())
    await see.wait(lambda: asome(c, 1))
    await see.wait(lambda: c.read())


async def what_calls_are_instances_of(open, see, peer):
    channel = await open()
    see(lambda: channel)
    uu = see(lambda: channel.unary_unary(peer("uu"), request_serializer=joined))
    us = see(lambda: channel.unary_stream(peer("us"), request_serializer=joined))
    su = see(lambda: channel.stream_unary(peer("su"), request_serializer=joined))
    ss = see(lambda: channel.stream_stream(peer("ss"), request_serializer=joined))
    calls = [see(lambda: uu([b"a"], timeout=20)), see(lambda: us([b"a"], timeout=20))]
    calls += [see(lambda: su([[b"a"]], timeout=20)), see(lambda: ss([[b"a"]], timeout=20))]
    for c in calls:
        await see.wait(lambda: c.code() if c in (calls[0], calls[2]) else alist(c))


CASES: tuple[Callable[..., Any], ...] = (
    a_request_is_changed_between_attempts,
    metadata_serves_two_calls,
    a_list_of_metadata_serves_two_calls,
    the_serializer_reads_a_context_variable,
    a_call_is_dropped_at_once,
    a_callback_is_added_and_the_call_dropped,
    a_generator_resets_a_context_variable,
    a_generator_has_a_timeout,
    requests_are_given_by_keyword,
    an_error_carries_nothing_of_the_call,
    an_interceptor_calls_another_method,
    calls_that_cannot_begin_hold_no_place,
    errors_are_copied,
    a_cancelled_call_is_over_at_once,
    the_channel_is_closed_while_a_generator_sleeps,
    a_call_cannot_be_serialized,
    metadata_is_invalid,
    calls_with_metadata_that_are_invalid_are_cancelled,
    the_channel_is_closed_before_an_interceptor_begins,
    timeouts_of_every_kind,
    a_deadline_that_was_over_ends_calls_of_a_dead_channel,
    a_method_is_named_by_bytes,
    calls_are_cancelled_as_soon_as_they_are_made,
    attempts_outlast_the_hedging_delay,
    response_headers_commit_a_call,
    a_task_that_awaits_is_cancelled,
    a_group_of_calls,
    a_stream_is_read_by_two_means,
    what_calls_are_instances_of,
)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_ours_does_what_plain_does(
    aio_runners: dict[str, AioRunner], case: Callable[..., Any], form: str, loop: str
) -> None:
    check(aio_runners[loop], case, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
async def test_a_timeout_too_far_for_the_clock_is_no_limit(server: Server, form: str, timeout: float) -> None:
    subject = Subject(server, "aio", form, {})
    peer = server.peer()
    channel = await subject.aopen(fresh=True)
    uu, ss = channel.unary_unary(peer("uu", "sleep=20")), channel.stream_stream(peer("ss", "sleep=20"))

    assert await uu(b"a", timeout=timeout) == b"0:a"
    assert await alist(ss([b"c"], timeout=timeout)) == [b"echo:c"]
    await subject.aclose()
