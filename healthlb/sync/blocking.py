"""Calls that block: the caller's own thread makes the attempts, or takes in their events."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import grpc

from healthlb.calls.attempts import RESCUED, Attempt, Attempts
from healthlb.calls.call_runner import CANCELLED
from healthlb.core.call.call_attempts import CHANNEL_CLOSED, FIRST, count_out
from healthlb.core.call.failover import Action, Start, WakeAt
from healthlb.core.load import Subchannel
from healthlb.core.messages import SECOND, Code
from healthlb.sync import grpcio
from healthlb.sync.errors import InactiveRpcError, failed
from healthlb.sync.intake import Taken
from healthlb.sync.live_attempt import outcome_of, pause, wait_for_pick
from healthlb.sync.rendezvous import MultiThreadedRendezvous
from healthlb.sync.segregated import SegregatedCall
from healthlb.sync.subchannels import rescuable_calls

_OK = grpc.StatusCode.OK
_CANCELLED = grpcio.NUMBERS[grpc.StatusCode.CANCELLED]

# grpcio's state of a call that ended with OK, the attempts that failed before, and the backend that answered.
Ended = tuple[Any, tuple[Attempt, ...], str | None]


def call_unary(taken: Taken) -> Ended:
    """Make a call of one request and one response in this thread.

    Raises:
        grpc.RpcError: it failed.
    """
    method = taken.method
    method.budget.call_started(taken.begun_at)
    sub = method.subchannels.holder.snapshot.picker.pick(method.any_call) if method.is_plain else None
    if sub is None or not sub.load.start():
        return _go_on(taken, taken.attempts(), FIRST, None)
    state = _attempt(taken, FIRST, sub, taken.deadline, taken.metadata)
    started_at = taken.begun_at / SECOND
    if state is not None and state.code is _OK:
        count_out(sub, method.budget, time.monotonic_ns())
        if method.end_hook.of_all:
            method.tell(sub, Code.OK, started_at, state.trailing_metadata or ())
        return state, (), sub.address
    attempts = taken.attempts()
    return _go_on(taken, attempts, *_after(taken, FIRST, sub, started_at, state))


def _go_on(taken: Taken, attempts: Attempts, start: Start | None, state: Any) -> Ended:
    """Make the attempts that the plan asks for; `state` is that of the last one, None for none."""
    while start is not None:
        sub = attempts.try_pick(start)
        if sub is None:
            if start is FIRST:
                _check(taken)
            sub = wait_for_pick(attempts, start)
        started_at = time.monotonic()
        _, metadata = attempts.terms(start, has_waited=True)
        state = _attempt(taken, start, sub, taken.attempt_deadline, metadata)
        if state is not None and state.code is _OK:
            attempts.succeeded(start, sub, time.monotonic_ns())
            if taken.method.end_hook.of_all:
                taken.method.tell(sub, Code.OK, started_at, state.trailing_metadata or ())
            return state, attempts.history, sub.address
        start, state = _after(taken, start, sub, started_at, state)
    raise InactiveRpcError(state, attempts.history)


def _check(taken: Taken) -> None:
    taken.check_terms()
    taken.method.subchannels.start()
    taken.check_metadata()
    refusal = taken.refusal
    if refusal is not None:
        raise failed(refusal)


def _attempt(taken: Taken, start: Start, sub: Subchannel, deadline: float | None, metadata: Any) -> Any:
    """Make an attempt that was counted in; return grpcio's state, None where its subchannel had closed."""
    method = taken.method
    assert taken.body is not None
    try:
        opened = method.opened.get(sub) or method.open(sub)
        state, real = grpcio.start_blocking(
            opened, taken.body, deadline, metadata, taken.credentials, taken.compression
        )
        event = rescuable_calls(method).next_event(taken, real, sub, start) if method.is_rescued else real.next_event()
        grpcio.handle_event(event, state, opened.deserializer)
        return state
    except ValueError:
        if method.subchannels.channels.channel(sub) is not None:
            sub.load.abandon()
            raise
        return None
    except BaseException:
        sub.load.abandon()
        raise


def _after(taken: Taken, start: Start, sub: Subchannel, started_at: float, state: Any) -> tuple[Start | None, Any]:
    """Take in how an attempt failed; return the next one, None for none, after the wait that the plan asks for."""
    attempts = taken.attempts()
    if state is None:
        actions = attempts.made_no_call(start, sub)
        if start is FIRST:
            taken.method.subchannels.start()  # raises ChannelClosed where all of it was closed
    else:
        was_rescued = taken.method.is_rescued and rescuable_calls(taken.method).was_rescued(taken)
        outcome = RESCUED if was_rescued else outcome_of(state)
        attempts.report_failed(sub, outcome, started_at)
        actions = attempts.failed(start, sub, outcome, started_at)
    return _next(attempts, actions), state


def _next(attempts: Attempts, actions: Sequence[Action]) -> Start | None:
    match actions:
        case [Start() as start]:
            return start
        case [WakeAt(at)]:
            pause(attempts.method.subchannels, at)
            if attempts.method.subchannels.is_closed:
                raise failed(CHANNEL_CLOSED, attempts.history)
            return _next(attempts, attempts.woke(time.monotonic_ns()))
    return None


def call_queued(taken: Taken, arity: str, requests: Any, serializer: Any, deserializer: Any) -> Ended:
    """Make any other call of one response, and take in its events in this thread.

    Raises:
        grpc.RpcError: it failed.
    """
    state = grpcio.new_state(arity, taken.method.name)
    call = SegregatedCall(taken, arity, state)
    try:
        call.begin()
        if call.requests is not None:
            grpcio.consume_requests(requests, state, call, partial(call.requests.serialize, serializer), None)
    except BaseException:
        abort(call)
        raise
    return wait_for_end(call, state, deserializer)


def abort(call: SegregatedCall) -> None:
    """End a call that its caller's thread waits for no more."""
    call.cancel(_CANCELLED, CANCELLED)
    call.leave()


def wait_for_end(call: SegregatedCall, state: Any, deserializer: Any) -> Ended:
    """Take in the events of a call that has begun, in this thread, to its end.

    Raises:
        grpc.RpcError: it failed.
    """
    try:
        while state.due:
            event = call.next_event()
            with state.condition:
                grpcio.handle_event(event, state, deserializer)
                state.condition.notify_all()
    except BaseException:
        abort(call)
        raise
    call.leave()
    if state.code is not _OK:
        raise InactiveRpcError(state, call.attempts)
    return state, call.attempts, call.address


def with_call(ended: Ended) -> tuple[Any, grpc.Call]:
    """Return a response, and the call that is over."""
    state, attempts, address = ended
    return state.response, MultiThreadedRendezvous(state, Past(attempts, address), None, None)


class Past:
    """Stands in for C-core's call beneath a call that had ended before its caller got it.

    Args:
        attempts: those that failed.
        address: of the backend that answered.
    """

    __slots__ = ("address", "attempts")

    has_headers = False

    def __init__(self, attempts: tuple[Attempt, ...], address: str | None) -> None:
        self.attempts = attempts
        self.address = address
