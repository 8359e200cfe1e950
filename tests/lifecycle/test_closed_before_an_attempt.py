"""A channel that closes after the pick of an attempt and before its beginning: the caller hears of the close."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

import healthlb
from healthlb.core.load import Subchannel
from healthlb.sync.methods import SyncMethod
from healthlb.sync.subchannels import Subchannels
from tests.lifecycle.support import PATIENCE, UNARY, Nursery, eventually

ANY = healthlb.Failover(idempotent=True)
HEDGED = healthlb.Failover(idempotent=True, hedging_delay=0.01)
FAILS = (("x-fail", "UNAVAILABLE"),)
SLOW = (("x-sleep", "60"),)
RAISED = (healthlb.ChannelClosed, "Cannot invoke RPC on closed channel!")
ENDED = (grpc.StatusCode.CANCELLED, "Channel closed!")


class ClosedBefore:
    """Has a channel closed, by another thread, when one attempt of its next call was picked and is to begin.

    Args:
        attempt: its number, where each goes to a backend of its own.
        monkeypatch: puts itself in the way of what the channel opens.
        is_opened: whether the method was opened on the backend before, so that it is grpcio who refuses the attempt.
    """

    def __init__(self, attempt: int, monkeypatch: pytest.MonkeyPatch, *, is_opened: bool = False) -> None:
        """Begin to count."""
        self._left = attempt
        self._is_opened = is_opened
        self._open = SyncMethod.open
        monkeypatch.setattr(SyncMethod, "open", lambda method, sub: self.open(method, sub))

    def open(self, method: SyncMethod, sub: Subchannel) -> Any:
        """Open a method on a backend, after the close where that is due."""
        self._left -= 1
        if self._left:
            return self._open(method, sub)
        assert isinstance(method.subchannels, Subchannels)
        opened = self._open(method, sub) if self._is_opened else None
        closing = threading.Thread(target=method.subchannels.close)
        closing.start()
        eventually(lambda: method.subchannels.channels.channel(sub) is None)
        if self._is_opened:
            closing.join(PATIENCE)
        return opened or self._open(method, sub)


def forms(channel: grpc.Channel) -> dict[str, Callable[..., Any]]:
    """Return every way to make a call and hear of its end."""
    unary: Any = channel.unary_unary(UNARY)
    many: Any = channel.stream_unary("/test.Echo/ClientStream")
    down: Any = channel.unary_stream("/test.Echo/ServerStream")
    both: Any = channel.stream_stream("/test.Echo/Bidi")
    return {
        "unary": lambda **terms: unary(b"", **terms),
        "unary with_call": lambda **terms: unary.with_call(b"", **terms),
        "unary future": lambda **terms: unary.future(b"", **terms).result(),
        "client stream": lambda **terms: many(iter([b""]), **terms),
        "client stream with_call": lambda **terms: many.with_call(iter([b""]), **terms),
        "client stream future": lambda **terms: many.future(iter([b""]), **terms).result(),
        "server stream": lambda **terms: list(down(b"", **terms)),
        "bidi": lambda **terms: list(both(iter([b""]), **terms)),
    }


FORMS = tuple(forms(grpc.insecure_channel("localhost:1")))
UNARY_FORMS = tuple(form for form in FORMS if form.startswith("unary"))


def outcome(targets: list[str], form: str, failover: healthlb.Failover, metadata: Any) -> object:
    """Return how a call ends."""
    with healthlb.HealthAwareChannel(targets, "svc", failover=failover) as channel:
        channel.wait_until_ready(PATIENCE, min_ready=2)
        try:
            return forms(channel)[form](timeout=PATIENCE, metadata=metadata)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            return error.code(), error.details()
        except ValueError as error:
            return type(error), str(error)


@pytest.mark.parametrize("is_opened", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_first_attempt_raises_channel_closed(
    form: str, is_opened: bool, targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ClosedBefore(1, monkeypatch, is_opened=is_opened)

    assert outcome(targets, form, ANY, ()) == RAISED


@pytest.mark.parametrize("form", FORMS)
def test_a_retry_ends_the_call_with_cancelled(form: str, targets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ClosedBefore(2, monkeypatch)

    assert outcome(targets, form, ANY, FAILS) == ENDED


@pytest.mark.parametrize("metadata", [SLOW, FAILS], ids=["hedge", "retry"])
@pytest.mark.parametrize("form", UNARY_FORMS)
def test_a_hedged_call_ends_with_cancelled(
    form: str, metadata: tuple[tuple[str, str], ...], targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ClosedBefore(2, monkeypatch)

    assert outcome(targets, form, HEDGED, metadata) == ENDED


@pytest.mark.parametrize("is_opened", [True, False])
@pytest.mark.parametrize("form", UNARY_FORMS)
def test_a_hedged_call_whose_first_attempt_cannot_begin(
    form: str, is_opened: bool, targets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ClosedBefore(1, monkeypatch, is_opened=is_opened)

    assert outcome(targets, form, HEDGED, ()) == (ENDED if form == "unary future" else RAISED)


def test_a_method_is_not_opened_on_a_channel_that_is_closed(targets: list[str], nursery: Nursery) -> None:
    """grpcio 1.85.3 ends the process where a method of a generated stub is registered on a closed channel."""
    program = """
    import sys, threading
    import healthlb
    from healthlb.sync.data import SyncData
    channel = healthlb.HealthAwareChannel(sys.argv[1].split(","), "svc")
    channel.wait_until_ready(10)
    find = SyncData.channel
    def find_and_wait(data, sub):
        found = find(data, sub)
        closing = threading.Thread(target=channel.close)
        closing.start()
        closing.join(1)
        return found
    SyncData.channel = find_and_wait
    try:
        call = channel.unary_unary("/test.Echo/Unary", _registered_method=True)
        call(b"", timeout=10, metadata=(("x-sleep", "8"),))
    except Exception as error:
        print(type(error).__name__)
    """

    assert nursery.run(program, ",".join(targets)) in (["ChannelClosed"], ["_InactiveRpcError"])
