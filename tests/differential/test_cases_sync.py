"""Minimal programs of the sync face, each for a fault that there was: ours does what a plain channel does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.differential.cases import check
from tests.differential.peer import Server
from tests.differential.program import FORMS
from tests.differential.running import SyncRunner
from tests.differential.subject import Subject
from tests.differential.tools import (
    SINGLE,
    USER,
    collect,
    copied,
    deepcopied,
    failing,
    generator,
    joined,
    pickled,
    remaining,
    user,
)

# ruff: noqa: B023


def a_request_is_changed_after_the_call(open, see, peer):  # C1
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    request, calls = [b""], []
    for size in (3, 13, 23, 33):
        request[0] = b"x" * size
        calls.append(m.future(request, timeout=20))
    see(lambda: [call.result() for call in calls])


def a_request_is_changed_between_attempts(open, see, peer):  # C1
    channel = open()
    m = channel.unary_unary(peer("uu", "hold", "fails=1:UNAVAILABLE"), request_serializer=joined)
    request = [b"alice"]
    c = m.future(request, timeout=20)
    peer.started()
    request[0] = b"bob"
    peer.release()
    see(lambda: c.result())


def one_list_of_metadata_serves_two_calls(open, see, peer):  # C2
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    metadata = [("authorization", "secret alice")]
    alice = m.future([b"alice"], timeout=20, metadata=metadata)
    metadata[0] = ("authorization", "secret bob")
    bob = m.future([b"bob"], timeout=20, metadata=metadata)
    see(lambda: [alice.result(), bob.result()])


def the_serializer_reads_a_context_variable(open, see, peer):  # C3
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=see.noting("serializer", user))
    USER.set("alice")
    alice = m.future([b"hello"], timeout=20)
    USER.set("bob")
    bob = m.future([b"hello"], timeout=20)
    see(lambda: [alice.result(), bob.result()])


def the_deserializer_of_a_channels_first_call_reads_a_context_variable(open, see, peer):
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined, response_deserializer=lambda _: USER.get())
    USER.set("alice")
    c = m.future([b"a"], timeout=20)
    see(lambda: c.result())


def a_generator_of_requests_reads_a_context_variable(open, see, peer):  # C3, C6
    channel = open(fresh=True)
    m = channel.stream_unary(peer("su"), request_serializer=joined)
    USER.set("alice")
    c = m.future(generator(see, "requests", 3), timeout=20)
    USER.set("bob")
    see(lambda: c.result())


def a_callback_is_added_and_the_call_dropped(open, see, peer):  # C5
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu", "sleep=30"), request_serializer=joined)
    for number in range(5):
        m.future([b"alice"], timeout=20).add_done_callback(see.callback("a", str(number)))
        collect()


def a_stream_is_dropped(open, see, peer):  # C5
    channel = open()
    c = channel.unary_stream(peer("us", "n=1", "hold"), request_serializer=joined)([b"alice"], timeout=20)
    see(lambda: next(c))
    c = None
    collect()
    see(lambda: peer.over())


def requests_are_given_by_keyword(open, see, peer):  # C7
    channel = open(fresh=True)
    su = channel.stream_unary(peer("su"), request_serializer=joined)
    see(lambda: su(request_iterator=iter([[b"a"]]), timeout=20))
    see(lambda: su.with_call(request_iterator=iter([[b"a"]]), timeout=20)[0])
    see(lambda: su.future(request_iterator=iter([[b"a"]]), timeout=20).result())
    ss = channel.stream_stream(peer("ss"), request_serializer=joined)
    see(lambda: list(ss(request_iterator=iter([[b"a"]]), timeout=20)))
    see(lambda: channel.unary_unary(peer("uu"), request_serializer=joined).future(request=[b"a"], timeout=20).result())


def an_error_carries_nothing_of_the_call(open, see, peer):  # C8
    channel = open()
    metadata = [("authorization", "secret alice")]
    uu = channel.unary_unary(peer("uu", "abort=NOT_FOUND"), request_serializer=joined)
    see(lambda: uu([b"secret"], timeout=20, metadata=metadata))
    see(lambda: uu.future([b"secret"], timeout=20, metadata=metadata).result())
    us = channel.unary_stream(peer("us", "abort=NOT_FOUND"), request_serializer=joined)
    see(lambda: next(us([b"secret"], timeout=20, metadata=metadata)))


def calls_that_cannot_begin_hold_no_place(open, see, peer):  # C10
    channel = open(most=2)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    for _ in range(3):
        see(lambda: m.future([b"a"], timeout="5"))
        see(lambda: m.future([b"a"], metadata=[("k",)]))
        see(lambda: m([b"a"], metadata=3))
    see(lambda: m([b"a"], timeout=20))


def a_single_threaded_stream_is_cancelled(open, see, peer):  # C11
    channel = open(fresh=True, options=[SINGLE])
    c = channel.unary_stream(peer("us", "n=2", "hold"), request_serializer=joined)([b"a"], timeout=20)
    see(lambda: next(c))
    see(lambda: c.cancel())
    see(lambda: peer.over())
    see(lambda: next(c))
    see(lambda: c.code())


def errors_are_copied(open, see, peer):  # C12
    channel = open()
    m = channel.unary_unary(peer("uu", "head", "trail", "abort=NOT_FOUND"), request_serializer=joined)
    see(lambda: m([b"a"], timeout=20))
    see(lambda: pickled(see.error))
    see(lambda: copied(see.error))
    see(lambda: deepcopied(see.error))
    see(lambda: m.future([b"a"], timeout=20).result())
    see(lambda: copied(see.error))
    us = channel.unary_stream(peer("us", "abort=NOT_FOUND"), request_serializer=joined)
    see(lambda: next(us([b"a"], timeout=20)))
    see(lambda: pickled(see.error))
    see(lambda: deepcopied(see.error))


def a_single_threaded_stream_with_a_callback_is_dropped(open, see, peer):
    channel = open(options=[SINGLE])
    c = channel.unary_stream(peer("us", "n=1", "hold"), request_serializer=joined)([b"a"], timeout=20)
    c.add_done_callback(see.callback("a"))
    see(lambda: next(c))
    peer.held()
    c = see.error = None
    collect()
    see(lambda: peer.over(1, 5.0))


def a_cancelled_call_is_over_at_once(open, see, peer):  # C13
    channel = open(fresh=True)
    c = channel.unary_unary(peer("uu", "hold"), request_serializer=joined).future([b"a"], timeout=20)
    see.blind()
    see(lambda: c.add_done_callback(see.callback("a", "before")))
    see(lambda: c.cancel())
    see(lambda: [c.done(), c.running(), c.cancelled(), c.cancel()])
    see(lambda: c.result(0))
    see(lambda: c.exception(0))
    see(lambda: c.code())
    see(lambda: c.add_done_callback(see.callback("a", "after")))


def a_call_cannot_be_serialized(open, see, peer):  # C15
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=failing)
    see(lambda: m.future([b"a"], timeout=20))
    see(lambda: m([b"a"], timeout=20))
    see(lambda: channel.unary_stream(peer("us"), request_serializer=failing)([b"a"], timeout=20))


def metadata_is_invalid(open, see, peer):  # C15
    channel = open(fresh=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    for metadata in ([("Upper", "x")], [("k", "a\nb")], [("k",)], [("k", 3)], "text"):
        see(lambda: m.future([b"a"], timeout=20, metadata=metadata))
        see(lambda: m([b"a"], timeout=20, metadata=metadata))


def timeouts_of_every_kind(open, see, peer):  # C17
    channel = open()
    held = channel.unary_unary(peer("uu", "hold"), request_serializer=joined)
    answered = channel.unary_unary(peer("uu", "sleep=20"), request_serializer=joined)
    for timeout in (float("nan"), 0, -1, 1e-9, "5", 1e7):
        m = answered if timeout == 1e7 else held
        see(lambda: m([b"a"], timeout=timeout))
        see(lambda: remaining(m.future([b"a"], timeout=timeout)))
        see(lambda: m.future([b"a"], timeout=timeout).exception())
    see.blind()


def a_deadline_that_was_over_ends_calls_of_a_dead_channel(open, see, peer):  # C17
    channel = open(dead=True)
    m = channel.unary_unary(peer("uu"), request_serializer=joined)
    see(lambda: m([b"a"], timeout=20))
    for timeout in (-1, float("nan")):
        see(lambda: m([b"a"], timeout=timeout))
        see(lambda: m.future([b"a"], timeout=timeout).exception())


def a_waiting_call_has_a_traceback(open, see, peer):  # C18
    channel = open(fresh=True)
    c = channel.unary_unary(peer("uu", "abort=NOT_FOUND"), request_serializer=joined).future([b"a"], timeout=20)
    see(lambda: c.exception())
    see(lambda: c.traceback() is None)
    dead = open(dead=True).unary_unary(peer("uu"), request_serializer=joined).future([b"a"], timeout=20)
    see(lambda: dead.code())
    see(lambda: dead.traceback() is None)


def a_method_is_named_by_bytes(open, see, peer):  # C18
    channel = open()
    see(lambda: channel.unary_unary(peer("uu").encode(), request_serializer=joined)([b"a"], timeout=20))
    us = channel.unary_stream(peer("us").encode(), request_serializer=joined)
    see(lambda: list(us([b"a"], timeout=20)))


def calls_are_cancelled_as_soon_as_they_are_made(open, see, peer):  # C21
    channel = open()
    m = channel.unary_unary(peer("uu", "hold"), request_serializer=joined)
    for _ in range(30):
        m.future([b"a"], timeout=20).cancel()
    see(lambda: channel.unary_unary(peer("uu"), request_serializer=joined)([b"a"], timeout=20))
    see(lambda: peer.idle())
    see.blind()


def attempts_outlast_the_hedging_delay(open, see, peer):
    channel = open()
    m = channel.unary_unary(peer("uu", "sleep=70", "fails=2:UNAVAILABLE"), request_serializer=joined)
    see(lambda: m([b"a"], timeout=20))


def response_headers_commit_a_call(open, see, peer):  # C24
    channel = open()
    m = channel.unary_unary(peer("uu", "head", "fails=2:UNAVAILABLE"), request_serializer=joined)
    see(lambda: m([b"a"], timeout=20))
    see(lambda: m.future([b"a"], timeout=20).exception())


def a_cancelled_call_shows_the_headers_that_came(open, see, peer):
    import threading

    for number, fresh in enumerate((True, False), 1):
        channel = open(fresh=fresh)
        m = channel.unary_unary(peer("uu", "head", "hold"), request_serializer=joined)
        c = m.future([b"a"], timeout=20)
        peer.held(number)
        # What comes behind them on the same connection.
        see(lambda: channel.unary_unary(peer("uu"), request_serializer=joined)([b"b"], timeout=20))
        ended = threading.Event()
        c.add_done_callback(lambda _: ended.set())
        see(lambda: c.cancel())
        see(lambda: ended.wait(10))
        see(lambda: c.initial_metadata())
        see(lambda: c.code())


def what_calls_are_instances_of(open, see, peer):
    channel = open()
    see(lambda: channel)
    uu = see(lambda: channel.unary_unary(peer("uu", "hold"), request_serializer=joined))
    us = see(lambda: channel.unary_stream(peer("us"), request_serializer=joined))
    see(lambda: channel.stream_unary(peer("su"), request_serializer=joined))
    see(lambda: channel.stream_stream(peer("ss"), request_serializer=joined))
    c = see(lambda: us([b"a"], timeout=20))
    see(lambda: list(c))
    c = see(lambda: uu.future([b"a"], timeout=20))
    see(lambda: c.result(0))
    peer.release()
    see(lambda: c.result())


CASES: tuple[Callable[..., Any], ...] = (
    a_request_is_changed_after_the_call,
    a_request_is_changed_between_attempts,
    one_list_of_metadata_serves_two_calls,
    the_serializer_reads_a_context_variable,
    the_deserializer_of_a_channels_first_call_reads_a_context_variable,
    a_generator_of_requests_reads_a_context_variable,
    a_callback_is_added_and_the_call_dropped,
    a_stream_is_dropped,
    requests_are_given_by_keyword,
    an_error_carries_nothing_of_the_call,
    calls_that_cannot_begin_hold_no_place,
    a_single_threaded_stream_is_cancelled,
    a_single_threaded_stream_with_a_callback_is_dropped,
    errors_are_copied,
    a_cancelled_call_is_over_at_once,
    a_call_cannot_be_serialized,
    metadata_is_invalid,
    timeouts_of_every_kind,
    a_deadline_that_was_over_ends_calls_of_a_dead_channel,
    a_waiting_call_has_a_traceback,
    a_method_is_named_by_bytes,
    calls_are_cancelled_as_soon_as_they_are_made,
    attempts_outlast_the_hedging_delay,
    response_headers_commit_a_call,
    a_cancelled_call_shows_the_headers_that_came,
    what_calls_are_instances_of,
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_ours_does_what_plain_does(runner: SyncRunner, case: Callable[..., Any], form: str) -> None:
    check(runner, case, form)


@pytest.mark.parametrize("form", FORMS)
def test_no_backend_has_answered_a_call_that_was_cancelled_before(server: Server, form: str) -> None:
    subject, peer = Subject(server, "sync", form, {}), server.peer()
    call = subject.open(fresh=True).unary_unary(peer("uu", "hold")).future(b"a", timeout=20)
    peer.held()

    assert call.cancel()
    assert call.address is None
    subject.close()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("timeout", [float("inf"), 1e12])
def test_a_timeout_too_far_for_the_clock_is_no_limit(server: Server, form: str, timeout: float) -> None:
    subject = Subject(server, "sync", form, {})
    peer = server.peer()
    uu = subject.open(fresh=True).unary_unary(peer("uu", "sleep=20"))
    ss = subject.open(fresh=True).stream_stream(peer("ss", "sleep=20"))

    assert uu(b"a", timeout=timeout) == b"0:a"
    assert uu.future(b"b", timeout=timeout).result() == b"0:b"
    assert list(ss(iter([b"c"]), timeout=timeout)) == [b"echo:c"]
    subject.close()
